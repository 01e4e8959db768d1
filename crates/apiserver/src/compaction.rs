//! Forgets old revisions by itself: what was superseded longer ago than the interval, and sooner when the store has grown a lot since, so
//! that a storm of writes bounds history instead of filling the disk.

use nauplius_base::task::CancellationToken;
use nauplius_base::time::sleep;
use nauplius_store::{Revision, Store, StoreError};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How often the interval is looked at.
const STEPS: u32 = 10;
/// So much may the store grow between two compactions before history is cut to the last step or two.
const GROWTH_BYTES: u64 = 512 << 20;

/// Runs until `shutdown`.
///
/// # Errors
/// Never; a compaction that fails is tried again at the next step.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    interval: Duration,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let mut marks = Marks::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(interval / STEPS) => {}
        }
        if let Err(error) = step(&*store, &mut marks).await {
            tracing::warn!(%error, "compaction is tried again later");
        }
    }
}

async fn step(store: &dyn Store, marks: &mut Marks) -> Result<(), StoreError> {
    let (revision, bytes) = (store.revision().await?, store.size_bytes().await?);
    let Some(at) = marks.next(revision, bytes) else { return Ok(()) };
    match store.compact(at).await {
        // Another server on the same store was faster, or nothing happened since.
        Ok(()) | Err(StoreError::Compacted { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The revisions of the last steps, oldest first.
#[derive(Debug, Default)]
struct Marks {
    revisions: VecDeque<Revision>,
    /// The store's size when the last compaction had been cleaned up after.
    base: Option<u64>,
}

impl Marks {
    /// Notes a step and says which revision to compact at.
    fn next(&mut self, revision: Revision, bytes: u64) -> Option<Revision> {
        let base = *self.base.get_or_insert(bytes);
        let too_much = bytes > base.saturating_add(GROWTH_BYTES) && self.revisions.len() > 1;
        let at = if too_much {
            let newest = self.revisions.pop_back();
            self.revisions.clear();
            newest
        } else if self.revisions.len() >= STEPS as usize {
            self.revisions.pop_front()
        } else {
            None
        };
        self.revisions.push_back(revision);
        if at.is_some() {
            // Clean-up takes a while; the next step sees what it left.
            self.base = None;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_as_long_as_the_interval() {
        let mut marks = Marks::default();
        let steps: Vec<_> = (1..=13).map(|step| marks.next(Revision(step * 100), 1000)).collect();
        assert!(steps[..10].iter().all(Option::is_none), "{steps:?}");
        assert_eq!(steps[10..], [Some(Revision(100)), Some(Revision(200)), Some(Revision(300))]);
    }

    #[test]
    fn a_store_that_grows_fast_keeps_less() {
        let mut marks = Marks::default();
        let bytes = |step: u64| (step * 300) << 20;
        let steps: Vec<_> =
            (0..7_u8).map(|step| marks.next(Revision(step.into()), bytes(step.into()))).collect();
        assert_eq!(steps[..4], [None, None, Some(Revision(1)), None]);
        // Two steps later it has grown by as much again.
        assert!(steps[4..].iter().any(Option::is_some), "{steps:?}");
    }
}
