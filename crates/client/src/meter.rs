//! What is counted of requests to API servers, under upstream's names.

use crate::transport::{Body, TransportError};
use http::{Method, Request, Response};
use http_body::Body as _;
use nauplius_base::metrics::{About, Counter, Histogram, OfProcess};
use nauplius_base::time::{Instant, monotonic};

/// Upstream's.
const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// Upstream's, from 64 bytes to 16 MiB.
const BYTES: &[f64] =
    &[64.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0];

const fn about(name: &'static str, help: &'static str, bounds: &'static [f64]) -> About {
    About { name, help, labels: &["host", "verb"], bounds }
}

static DURATION: OfProcess<Histogram> = OfProcess::new(about(
    "rest_client_request_duration_seconds",
    "Request latency in seconds. Broken down by verb, and host.",
    SECONDS,
));
static SENT: OfProcess<Histogram> = OfProcess::new(about(
    "rest_client_request_size_bytes",
    "Request size in bytes. Broken down by verb and host.",
    BYTES,
));
static RECEIVED: OfProcess<Histogram> = OfProcess::new(about(
    "rest_client_response_size_bytes",
    "Response size in bytes. Broken down by verb and host.",
    BYTES,
));
static REQUESTS: OfProcess<Counter> = OfProcess::new(About {
    name: "rest_client_requests_total",
    help: "Number of HTTP requests, partitioned by status code, method, and host.",
    labels: &["code", "host", "method"],
    bounds: &[],
});

/// A request that was sent and not answered yet.
pub struct Sent {
    method: Method,
    bytes: Option<u64>,
    start: Instant,
}

impl Sent {
    /// Begins to measure. Sizes are counted where they are known beforehand.
    pub fn now(request: &Request<Body>) -> Self {
        let bytes = request.body().size_hint().exact().filter(|_| *request.method() != Method::GET);
        Self { method: request.method().clone(), bytes, start: monotonic() }
    }

    /// Counts the request to `host` by how it was answered.
    pub fn answered(self, host: &str, outcome: &Result<Response<Body>, TransportError>) {
        let labels = [host, self.method.as_str()];
        DURATION.with(&labels).observe_since(self.start);
        if let Some(bytes) = self.bytes {
            SENT.with(&labels).observe(bytes as f64);
        }
        let Ok(response) = outcome else {
            REQUESTS.with(&["<error>", host, self.method.as_str()]).increment();
            return;
        };
        if let Some(bytes) = response.body().size_hint().exact() {
            RECEIVED.with(&labels).observe(bytes as f64);
        }
        REQUESTS.with(&[response.status().as_str(), host, self.method.as_str()]).increment();
    }
}
