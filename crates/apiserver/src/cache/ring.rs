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
/// Bytes of changes handed to a watcher at once: with what stands around the objects, just what it sends before it asks again.
const STRETCH_BYTES: usize = (14 << 10) + 512;
/// What a change costs a watcher that looks at it and leaves its object out.
const CHANGE_BYTES: usize = 64;

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

    /// About the size of its event.
    fn event_bytes(&self) -> usize {
        CHANGE_BYTES + self.new.as_ref().or(self.old.as_ref()).map_or(0, |shown| shown.stored().len())
    }
}

/// Some changes in a row.
#[derive(Debug, Default)]
pub struct Batch {
    /// Whole revisions.
    pub changes: Vec<Arc<Change>>,
    /// Whether it ends where every other batch ends, too, from wherever it began; else it ends with the newest change.
    pub ends_stretch: bool,
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

/// Changes after `floor`, in order. They lie in stretches, the same for all watchers: however these came to stand where they do, with
/// the end of a stretch they stand at the same place again, and can be sent the same bytes from there on.
#[derive(Debug, Default)]
pub struct Ring {
    changes: VecDeque<Kept>,
    bytes: usize,
    floor: i64,
    /// Bytes of the events since the last stretch's end.
    stretched: usize,
}

#[derive(Debug)]
struct Kept {
    at: Instant,
    change: Arc<Change>,
    /// Whether a stretch ends with this change's revision.
    ends_stretch: bool,
}

impl Ring {
    /// Empty; complete from `floor` on.
    pub fn starting_at(floor: i64) -> Self {
        Self { floor, ..Self::default() }
    }

    /// The revision after which every change is here.
    pub fn floor(&self) -> i64 {
        self.floor
    }

    /// Adds a change and drops old ones that are too much.
    pub fn push(&mut self, change: Arc<Change>) {
        let now = monotonic();
        self.bytes += change.footprint();
        self.stretched += change.event_bytes();
        let ends_stretch = self.stretched >= STRETCH_BYTES;
        if ends_stretch {
            self.stretched = 0;
        }
        self.changes.push_back(Kept { at: now, change, ends_stretch });
        while self.is_too_much(now) {
            self.drop_oldest_revision();
        }
    }

    fn is_too_much(&self, now: Instant) -> bool {
        let old = self.changes.front().is_some_and(|kept| now.saturating_duration_since(kept.at) > MAX_AGE);
        self.changes.len() > MAX_CHANGES
            || (self.bytes > MAX_BYTES && self.changes.len() > 1)
            || (old && self.changes.len() > MIN_CHANGES)
    }

    /// A cursor never stands inside a revision, so whole revisions go.
    fn drop_oldest_revision(&mut self) {
        while let Some(Kept { change: oldest, .. }) = self.changes.pop_front() {
            self.bytes -= oldest.footprint();
            self.floor = oldest.revision;
            if self.changes.front().is_none_or(|next| next.change.revision != self.floor) {
                break;
            }
        }
    }

    /// The changes after `revision`, up to the end of a stretch or the newest one.
    ///
    /// # Errors
    /// [`TooOld`] when some of them were dropped.
    pub fn after(&self, revision: i64) -> Result<Batch, TooOld> {
        if revision < self.floor {
            return Err(TooOld { wanted: revision, oldest: self.floor });
        }
        let start = self.changes.partition_point(|kept| kept.change.revision <= revision);
        let mut batch = Batch::default();
        for kept in self.changes.range(start..) {
            let boundary = batch.changes.last().is_some_and(|last| last.revision != kept.change.revision);
            if boundary && batch.ends_stretch {
                break;
            }
            batch.ends_stretch |= kept.ends_stretch;
            batch.changes.push(Arc::clone(&kept.change));
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
        let revisions = |after| {
            let batch = ring.after(after);
            batch.map(|batch| batch.changes.iter().map(|c| c.revision).collect::<Vec<_>>())
        };
        assert_eq!(revisions(13), Ok(vec![14, 15, 15]));
        assert_eq!(revisions(15), Ok(vec![]));
        assert_eq!(revisions(20), Ok(vec![]));
        assert_eq!(revisions(9), Err(TooOld { wanted: 9, oldest: 10 }));
    }

    #[test]
    fn batches_end_at_the_same_places_from_wherever_they_begin() {
        let mut ring = Ring::starting_at(0);
        (1..=3_000).for_each(|revision| ring.push(change((revision + 1) / 2)));
        let ends = |mut at: i64| {
            let mut ends = Vec::new();
            loop {
                let batch = ring.after(at).unwrap();
                let Some(last) = batch.changes.last() else { return ends };
                assert_eq!(batch.changes.iter().filter(|change| change.revision == last.revision).count(), 2);
                at = last.revision;
                if !batch.ends_stretch {
                    assert_eq!(at, 1_500, "or the newest change");
                }
                ends.push(at);
            }
        };
        let all = ends(0);
        assert!(all.len() > 10);
        for from in [1, 57, 113, 700] {
            let later: Vec<i64> = all.iter().copied().filter(|end| *end > from).collect();
            assert_eq!(ends(from), later);
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut ring = Ring::starting_at(0);
        (1..=20_000).for_each(|revision| ring.push(change(revision / 2)));
        assert!(ring.changes.len() <= MAX_CHANGES);
        assert!(ring.after(ring.floor()).is_ok());
        assert!(ring.after(ring.floor() - 1).is_err());
        assert_ne!(ring.changes.front().unwrap().change.revision, ring.floor());
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
