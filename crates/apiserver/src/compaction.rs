//! Forgets old revisions: each interval, what was superseded before the interval began.

use nauplius_base::task::CancellationToken;
use nauplius_base::time::sleep;
use nauplius_store::{Revision, Store, StoreError};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Runs until `shutdown`.
///
/// # Errors
/// Never; a compaction that fails is tried again at the next interval.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    interval: Duration,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let mut mark: Option<Revision> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(interval) => {}
        }
        match step(&*store, mark).await {
            Ok(next) => mark = Some(next),
            Err(error) => tracing::warn!(%error, "compaction is tried again later"),
        }
    }
}

async fn step(store: &dyn Store, mark: Option<Revision>) -> Result<Revision, StoreError> {
    if let Some(mark) = mark {
        match store.compact(mark).await {
            // Another server on the same store was faster, or nothing happened since.
            Ok(()) | Err(StoreError::Compacted { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    store.revision().await
}
