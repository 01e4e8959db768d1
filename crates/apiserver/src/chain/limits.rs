//! How much is done at once: requests in flight, with 429 for the one too many. Requests that are meant to last do not count.

use crate::body::MAX_BODY_BYTES;
use crate::request::{Call, Query, RequestInfo, SUPERUSERS};
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use nauplius_base::time::timeout;
use nauplius_meta::error::ApiError;
use nauplius_meta::time;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request that is not meant to last may take; upstream's `--request-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const KIB: usize = 1 << 10;
/// Bodies up to this need no room of their own.
const SMALL_BODY_BYTES: u64 = 64 << 10;

/// Bytes of large bodies that are decoded, stored and answered at once: two of the largest. Each takes several times its bytes meanwhile, and more
/// would not be done sooner.
pub(super) const WORKED_ON_BYTES: usize = 2 * MAX_BODY_BYTES;

/// Bounds of what is done at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Reads in flight; upstream's `--max-requests-inflight`.
    pub reads: usize,
    /// Writes in flight; upstream's `--max-mutating-requests-inflight`.
    pub writes: usize,
    /// Watches, logs, exec and the like at once.
    pub long_running: usize,
    /// Lists at once that are too large for one piece; others wait until one of them has been read or was given up.
    pub large_lists: usize,
    /// Answers that are compressed at once; others go as they are.
    pub compressions: usize,
    /// Bytes of large request bodies at once; others wait.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reads: 400,
            writes: 200,
            long_running: 10_000,
            large_lists: 16,
            compressions: 32,
            body_bytes: 24 << 20,
        }
    }
}

/// What a large body counts for; `None` for a small one. One of unknown length counts as the largest.
fn room_kib(size: &http_body::SizeHint) -> Option<u32> {
    let most = MAX_BODY_BYTES as u64;
    let bytes = size.exact().unwrap_or(most).min(most);
    (bytes > SMALL_BODY_BYTES).then(|| u32::try_from(bytes / KIB as u64).unwrap_or(u32::MAX))
}

/// Permits for requests.
pub(crate) struct InFlight {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    long_running: Arc<Semaphore>,
    large_lists: Arc<Semaphore>,
    compressions: Arc<Semaphore>,
    /// In KiB.
    bodies: Arc<Semaphore>,
    /// In KiB.
    worked_on: Arc<Semaphore>,
    limits: Limits,
}

impl InFlight {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            reads: Arc::new(Semaphore::new(limits.reads)),
            writes: Arc::new(Semaphore::new(limits.writes)),
            long_running: Arc::new(Semaphore::new(limits.long_running)),
            large_lists: Arc::new(Semaphore::new(limits.large_lists.max(1))),
            compressions: Arc::new(Semaphore::new(limits.compressions)),
            bodies: Arc::new(Semaphore::new(limits.body_bytes.max(MAX_BODY_BYTES) / KIB)),
            worked_on: Arc::new(Semaphore::new(WORKED_ON_BYTES / KIB)),
            limits,
        }
    }

    /// Reads and writes being answered.
    pub(crate) fn current(&self) -> (usize, usize) {
        let taken = |limit: usize, semaphore: &Semaphore| limit.saturating_sub(semaphore.available_permits());
        (taken(self.limits.reads, &self.reads), taken(self.limits.writes, &self.writes))
    }

    /// A seat for a list that streams, if one is free.
    pub(crate) fn try_large_list(&self) -> Option<OwnedSemaphorePermit> {
        // Without a seat the caller waits for one.
        Arc::clone(&self.large_lists).try_acquire_owned().ok()
    }

    /// A seat for a list that streams.
    pub(crate) async fn large_list(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.large_lists).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Leave to compress an answer.
    pub(crate) fn compression(&self) -> Option<OwnedSemaphorePermit> {
        // Compression is an offer: without leave the answer goes as it is.
        Arc::clone(&self.compressions).try_acquire_owned().ok()
    }

    /// Waits until there is room to receive a large request body; a small one needs none.
    pub(crate) async fn body(&self, size: &http_body::SizeHint) -> Option<OwnedSemaphorePermit> {
        let kib = room_kib(size)?;
        Some(Arc::clone(&self.bodies).acquire_many_owned(kib).await.expect("the semaphore is never closed"))
    }

    /// The turn of a large body that has been received.
    pub(super) fn turn(
        &self,
        size: &http_body::SizeHint,
    ) -> impl Future<Output = OwnedSemaphorePermit> + Send + use<> {
        let (worked_on, kib) = (Arc::clone(&self.worked_on), room_kib(size).unwrap_or_default());
        async move { worked_on.acquire_many_owned(kib).await.expect("the semaphore is never closed") }
    }

    /// A permit, if there is one. Whoever may do everything is always answered, as upstream's filter has it.
    pub(crate) fn enter(&self, call: &Call, long: bool) -> Result<Option<OwnedSemaphorePermit>, TooMany> {
        let semaphore = match call.info.verb.as_str() {
            _ if long => &self.long_running,
            "get" | "list" | "watch" | "head" | "options" => &self.reads,
            _ => &self.writes,
        };
        match Arc::clone(semaphore).try_acquire_owned() {
            Ok(permit) => Ok(Some(permit)),
            Err(_) if !long && call.user.in_group(SUPERUSERS) => Ok(None),
            Err(_) => Err(TooMany),
        }
    }

    /// Waits until nothing is in flight that is not meant to last; nothing gets in after that.
    async fn ended(&self) {
        for (semaphore, permits) in [(&self.reads, self.limits.reads), (&self.writes, self.limits.writes)] {
            let all = u32::try_from(permits).unwrap_or(u32::MAX);
            semaphore.acquire_many(all).await.expect("the semaphore is never closed").forget();
        }
    }
}

/// More is going on than may.
pub(crate) struct TooMany;

/// After the shutdown began, waits for the requests under way; what they need ends after them.
///
/// # Errors
/// Never.
pub(crate) async fn drain(server: Arc<ApiServer>) -> Result<(), Infallible> {
    server.shutdown_token().cancelled().await;
    if timeout(REQUEST_TIMEOUT, server.in_flight.ended()).await.is_err() {
        tracing::warn!("requests were under way when the server ended");
    }
    server.drained().cancel();
    Ok(())
}

/// What upstream says to a request that comes when the server is about to end.
pub(super) fn ending() -> Reply {
    let mut reply = respond::plain_error(StatusCode::SERVICE_UNAVAILABLE, "apiserver is shutting down");
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

/// 504 as upstream's filter answers it: without what says that it is a Status, and so as text.
pub(super) fn too_slow() -> Reply {
    let refusal = ApiError::Timeout {
        message: "request did not complete within the allotted timeout".to_owned(),
        retry_after_s: 0,
    };
    let mut status = refusal.to_status();
    (status.kind, status.api_version) = Default::default();
    let mut body = status.to_json();
    body.push(b'\n');
    respond::bytes(StatusCode::GATEWAY_TIMEOUT, "text/plain; charset=utf-8", body)
}

/// 429 as upstream's filter answers it: plain text, for nothing of the request was looked at.
pub(super) fn too_many() -> Reply {
    let message = "Too many requests, please try again later.";
    let mut reply = respond::plain_error(StatusCode::TOO_MANY_REQUESTS, message);
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

/// How long a request may take: what the client says in `timeout`, and the server's bound. Nothing bounds what is meant to last.
///
/// # Errors
/// 400 for what is no duration.
pub(super) fn patience(info: &RequestInfo, query: &Query) -> Result<Option<Duration>, ApiError> {
    if lasts(&info.verb, &info.subresource) {
        return Ok(None);
    }
    let Some(text) = query.non_empty("timeout") else { return Ok(Some(REQUEST_TIMEOUT)) };
    let wanted = time::Duration::parse(text).map_err(|error| {
        ApiError::bad_request(format!("invalid timeout specified in the request URL - {error}"))
    })?;
    // Nothing, or less than that, says nothing.
    let wanted = u64::try_from(wanted.0).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
    Ok(Some(wanted.unwrap_or(REQUEST_TIMEOUT).min(REQUEST_TIMEOUT)))
}

/// Whether the request is meant to last.
pub(crate) fn is_long_running(call: &Call) -> bool {
    lasts(&call.info.verb, &call.info.subresource)
}

/// Upstream's long-running check.
pub(crate) fn lasts(verb: &str, subresource: &str) -> bool {
    matches!(verb, "watch" | "proxy")
        || matches!(subresource, "attach" | "exec" | "proxy" | "log" | "portforward")
}
