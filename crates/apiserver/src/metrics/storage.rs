//! What is counted of the store. Upstream calls them after etcd, whatever store it is.

use nauplius_base::metrics::{About, Counter, Histogram, OfProcess};
use nauplius_base::time::monotonic;
use nauplius_meta::gvk::GroupResource;
use nauplius_store::StoreResult;

const fn about(name: &'static str, help: &'static str) -> About {
    About { name, help, labels: &["group", "operation", "resource"], bounds: super::SECONDS }
}

static DURATION: OfProcess<Histogram> = OfProcess::new(about(
    "etcd_request_duration_seconds",
    "Store request latency in seconds for each operation and object type.",
));
static REQUESTS: OfProcess<Counter> =
    OfProcess::new(about("etcd_requests_total", "Store request counts for each operation and object type."));
static ERRORS: OfProcess<Counter> = OfProcess::new(about(
    "etcd_request_errors_total",
    "Failed store request counts for each operation and object type.",
));
static RECEIVED: OfProcess<Counter> = OfProcess::new(About {
    name: "apiserver_storage_events_received_total",
    help: "Number of store events received split by kind.",
    labels: &["group", "resource"],
    bounds: &[],
});

/// Measures one request to the store.
pub(crate) async fn measured<T>(
    operation: &str,
    of: &GroupResource,
    request: impl Future<Output = StoreResult<T>>,
) -> StoreResult<T> {
    let start = monotonic();
    let outcome = request.await;
    let labels = [&*of.group, operation, &*of.resource];
    DURATION.with(&labels).observe_since(start);
    REQUESTS.with(&labels).increment();
    if outcome.is_err() {
        ERRORS.with(&labels).increment();
    }
    outcome
}

/// Counts the events of one kind.
pub(crate) fn received(group: &str, resource: &str, events: usize) {
    let counter = RECEIVED.with(&[group, resource]);
    (0..events).for_each(|_| counter.increment());
}
