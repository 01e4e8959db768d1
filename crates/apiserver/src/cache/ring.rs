//! The recent changes of one resource, bounded in number and bytes. Watchers read it at their own pace through a cursor; one
//! that falls behind its oldest change is told so instead of being waited for.

use super::Entry;
use nauplius_base::time::{Instant, monotonic};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Changes kept per resource.
const MAX_CHANGES: usize = 8 << 10;
/// Bytes that superseded objects may take per resource.
const MAX_BYTES: usize = 16 << 20;
/// Older changes go, but for a few: a quiet cluster's lease renewals must not fill memory in the course of hours.
const MAX_AGE: Duration = Duration::from_secs(120);
/// So many changes stay whatever their age, for watchers that come back late to quiet resources.
const MIN_CHANGES: usize = 128;
/// Changes handed to a watcher at once, in number and in bytes: about what it sends before it asks again.
const MAX_BATCH: usize = 64;
const MAX_BATCH_BYTES: usize = 24 << 10;

/// One change of one object.
#[derive(Debug)]
pub struct Change {
    /// The revision that made it.
    pub revision: i64,
    /// The object after it; `None` when it was deleted.
    pub new: Option<Arc<Entry>>,
    /// The object before it; `None` when it was created.
    pub old: Option<Arc<Entry>>,
}

impl Change {
    fn footprint(&self) -> usize {
        size_of::<Self>() + self.old.as_ref().map_or(0, |old| old.footprint())
    }
}

/// History before the wanted revision is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {wanted} ({oldest})")]
pub struct TooOld {
    /// What was asked for.
    pub wanted: i64,
    /// The oldest revision from which changes are complete.
    pub oldest: i64,
}

/// Changes after `floor`, in order.
#[derive(Debug, Default)]
pub struct Ring {
    changes: VecDeque<(Instant, Arc<Change>)>,
    bytes: usize,
    floor: i64,
}

impl Ring {
    /// Empty; complete from `floor` on.
    pub fn starting_at(floor: i64) -> Self {
        Self { floor, ..Self::default() }
    }

    /// The revision after which every change is here.
    #[cfg(test)]
    pub fn floor(&self) -> i64 {
        self.floor
    }

    /// Adds a change and drops old ones that are too much.
    pub fn push(&mut self, change: Arc<Change>) {
        let now = monotonic();
        self.bytes += change.footprint();
        self.changes.push_back((now, change));
        while self.is_too_much(now) {
            self.drop_oldest_revision();
        }
    }

    fn is_too_much(&self, now: Instant) -> bool {
        let old = self.changes.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > MAX_AGE);
        self.changes.len() > MAX_CHANGES
            || (self.bytes > MAX_BYTES && self.changes.len() > 1)
            || (old && self.changes.len() > MIN_CHANGES)
    }

    /// A cursor never stands inside a revision, so whole revisions go.
    fn drop_oldest_revision(&mut self) {
        while let Some((_, oldest)) = self.changes.pop_front() {
            self.bytes -= oldest.footprint();
            self.floor = oldest.revision;
            if self.changes.front().is_none_or(|(_, next)| next.revision != self.floor) {
                break;
            }
        }
    }

    /// Some changes after `revision`, whole revisions only.
    ///
    /// # Errors
    /// [`TooOld`] when some of them were dropped.
    pub fn after(&self, revision: i64) -> Result<Vec<Arc<Change>>, TooOld> {
        if revision < self.floor {
            return Err(TooOld { wanted: revision, oldest: self.floor });
        }
        let start = self.changes.partition_point(|(_, change)| change.revision <= revision);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (_, change) in self.changes.range(start..) {
            let boundary = batch.last().is_none_or(|last: &Arc<Change>| last.revision != change.revision);
            if boundary && (batch.len() >= MAX_BATCH || bytes >= MAX_BATCH_BYTES) {
                break;
            }
            bytes += change.new.as_ref().map_or(0, |new| new.stored().len());
            batch.push(Arc::clone(change));
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64) -> Arc<Change> {
        Arc::new(Change { revision, new: None, old: None })
    }

    #[test]
    fn cursors_see_whole_revisions_and_learn_what_is_gone() {
        let mut ring = Ring::starting_at(10);
        (11..=15).for_each(|revision| ring.push(change(revision)));
        ring.push(change(15));
        let revisions =
            |after| ring.after(after).map(|batch| batch.iter().map(|c| c.revision).collect::<Vec<_>>());
        assert_eq!(revisions(13), Ok(vec![14, 15, 15]));
        assert_eq!(revisions(15), Ok(vec![]));
        assert_eq!(revisions(20), Ok(vec![]));
        assert_eq!(revisions(9), Err(TooOld { wanted: 9, oldest: 10 }));
    }

    #[test]
    fn it_is_bounded() {
        let mut ring = Ring::starting_at(0);
        (1..=20_000).for_each(|revision| ring.push(change(revision / 2)));
        assert!(ring.changes.len() <= MAX_CHANGES);
        assert!(ring.after(ring.floor()).is_ok());
        assert!(ring.after(ring.floor() - 1).is_err());
        assert_ne!(ring.changes.front().unwrap().1.revision, ring.floor());
    }

    #[tokio::test(start_paused = true)]
    async fn old_changes_go_but_for_a_few() {
        let mut ring = Ring::starting_at(0);
        (1..=1_000).for_each(|revision| ring.push(change(revision)));
        tokio::time::advance(MAX_AGE * 2).await;
        assert!(ring.after(0).is_ok());
        ring.push(change(1_001));
        assert_eq!(ring.changes.len(), MIN_CHANGES);
        assert_eq!(ring.floor(), 1_001 - MIN_CHANGES as i64);
    }
}
