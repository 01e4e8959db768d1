//! The live feed: a bounded ring of the newest revisions that all watchers share. Publishing only marks the watchers whose
//! range was touched; each one then reads the ring itself, so that nobody can hold up the writer and no value is
//! copied. A watcher whose place has left the ring is sent to the disk.

use crate::{Event, KeyRange, Revision, StoreError, StoreResult};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How many revisions a watcher takes from the ring at once.
const PAGE_REVISIONS: usize = 256;

/// The events of one revision, with what they replaced.
pub(super) struct Published {
    pub(super) revision: Revision,
    pub(super) events: Vec<Event>,
}

impl Published {
    fn footprint(&self) -> usize {
        size_of::<Self>() + self.events.iter().map(Event::footprint).sum::<usize>()
    }
}

/// What a watcher shall do next.
pub(super) enum Next {
    /// Look through these; everything up to `through` is then seen.
    Ring { revisions: Vec<Arc<Published>>, through: Revision },
    /// Read the log on disk over these revisions, both inclusive, and call [`Feed::seen`].
    Disk { from: Revision, through: Revision },
    /// Tell the reader that everything up to here was delivered.
    Progress(Revision),
    /// Wait to be notified.
    Wait,
}

pub(super) struct Feed(Mutex<State>);

struct State {
    ring: VecDeque<Arc<Published>>,
    bytes: usize,
    limit: usize,
    revision: Revision,
    compacted: Revision,
    watchers: HashMap<u64, Watcher>,
    next_id: u64,
    closed: bool,
}

struct Watcher {
    range: KeyRange,
    /// The oldest revision that may hold something unseen for it.
    pending: Option<Revision>,
    progress: bool,
    wake: Arc<Notify>,
}

/// A watcher's place in the feed.
pub(super) struct Registered {
    pub(super) id: u64,
    pub(super) wake: Arc<Notify>,
    pub(super) started_at: Revision,
    pub(super) from: Revision,
}

impl Feed {
    pub(super) fn new(revision: Revision, compacted: Revision, limit: usize) -> Self {
        Self(Mutex::new(State {
            ring: VecDeque::new(),
            bytes: 0,
            limit,
            revision,
            compacted,
            watchers: HashMap::new(),
            next_id: 0,
            closed: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest published revision.
    pub(super) fn revision(&self) -> StoreResult<Revision> {
        let state = self.lock();
        if state.closed { Err(StoreError::Closed) } else { Ok(state.revision) }
    }

    /// Adds what was committed, in order, and wakes whom it concerns.
    pub(super) fn publish(&self, committed: Vec<Published>) {
        let mut state = self.lock();
        for published in committed {
            debug_assert_eq!(published.revision, state.revision.next());
            state.revision = published.revision;
            for watcher in state.watchers.values_mut().filter(|watcher| watcher.pending.is_none()) {
                if published.events.iter().any(|event| watcher.range.contains(event.key())) {
                    watcher.pending = Some(published.revision);
                    watcher.wake.notify_one();
                }
            }
            state.bytes += published.footprint();
            state.ring.push_back(Arc::new(published));
        }
        state.trim();
    }

    /// Moves the border behind which nobody may start.
    pub(super) fn compacted(&self, at: Revision) {
        self.lock().compacted = at;
    }

    /// Ends every watch.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.ring.clear();
        for watcher in state.watchers.values() {
            watcher.wake.notify_one();
        }
    }

    /// Starts a watch.
    pub(super) fn register(&self, range: KeyRange, from: Option<Revision>) -> StoreResult<Registered> {
        let mut state = self.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        let from = from.unwrap_or(state.revision.next());
        if from < state.compacted {
            return Err(StoreError::Compacted { compact_revision: state.compacted });
        }
        let (id, wake) = (state.next_id, Arc::new(Notify::new()));
        let pending = (from <= state.revision).then_some(from);
        state.next_id += 1;
        state.watchers.insert(id, Watcher { range, pending, progress: false, wake: Arc::clone(&wake) });
        Ok(Registered { id, wake, started_at: state.revision, from })
    }

    /// Ends a watch.
    pub(super) fn unregister(&self, id: u64) {
        self.lock().watchers.remove(&id);
    }

    /// Makes the watcher tell its progress.
    pub(super) fn ask_progress(&self, id: u64) {
        if let Some(watcher) = self.lock().watchers.get_mut(&id) {
            watcher.progress = true;
            watcher.wake.notify_one();
        }
    }

    /// What the watcher shall do now. Revisions taken from the ring count as seen.
    pub(super) fn next(&self, id: u64) -> StoreResult<Next> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.closed {
            return Err(StoreError::Closed);
        }
        let Some(watcher) = state.watchers.get_mut(&id) else { return Err(StoreError::Closed) };
        let Some(from) = watcher.pending else {
            let asked = std::mem::take(&mut watcher.progress);
            return Ok(if asked { Next::Progress(state.revision) } else { Next::Wait });
        };
        let oldest = state.ring.front().map_or(state.revision.next(), |published| published.revision);
        if from < oldest {
            return Ok(Next::Disk { from, through: state.revision });
        }
        // Revisions in the ring have no gaps, and `oldest` is at most one page of memory away.
        let skip = usize::try_from(from.0 - oldest.0).unwrap_or(usize::MAX);
        let revisions: Vec<_> = state.ring.iter().skip(skip).take(PAGE_REVISIONS).cloned().collect();
        let through = revisions.last().map_or(state.revision, |published| published.revision);
        watcher.pending = (through < state.revision).then_some(through.next());
        Ok(Next::Ring { revisions, through })
    }

    /// Notes that the watcher saw everything up to `through` on the disk.
    pub(super) fn seen(&self, id: u64, through: Revision) {
        let mut state = self.lock();
        let newest = state.revision;
        if let Some(watcher) = state.watchers.get_mut(&id) {
            watcher.pending = (through < newest).then_some(through.next());
        }
    }
}

impl State {
    /// Drops the oldest revisions over the limit; the newest stays whatever its size.
    fn trim(&mut self) {
        while self.bytes > self.limit && self.ring.len() > 1 {
            if let Some(oldest) = self.ring.pop_front() {
                self.bytes -= oldest.footprint();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyValue;
    use bytes::Bytes;

    fn put(key: &'static str, revision: i64, size: usize) -> Published {
        let kv = KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            value: vec![0; size].into(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        };
        Published { revision: Revision(revision), events: vec![Event::Put { kv, previous: None }] }
    }

    fn single(key: &'static str) -> KeyRange {
        KeyRange::Single(Bytes::from_static(key.as_bytes()))
    }

    #[test]
    fn an_idle_watcher_never_goes_to_the_disk_for_what_is_not_its_own() {
        let feed = Feed::new(Revision(1), Revision::ZERO, 10_000);
        let idle = feed.register(single("idle"), None).unwrap();
        for revision in 2..100 {
            feed.publish(vec![put("busy", revision, 1000)]);
        }
        assert!(matches!(feed.next(idle.id), Ok(Next::Wait)));
        feed.publish(vec![put("idle", 100, 1)]);
        let Ok(Next::Ring { revisions, through }) = feed.next(idle.id) else { panic!("not in the ring") };
        assert_eq!((revisions.len(), through), (1, Revision(100)));
    }

    #[test]
    fn a_slow_watcher_is_sent_to_the_disk_and_back() {
        let feed = Feed::new(Revision(1), Revision::ZERO, 10_000);
        let slow = feed.register(single("a"), None).unwrap();
        for revision in 2..100 {
            feed.publish(vec![put("a", revision, 1000)]);
        }
        let Ok(Next::Disk { from, through }) = feed.next(slow.id) else { panic!("not sent to the disk") };
        assert_eq!((from, through), (Revision(2), Revision(99)));
        feed.publish(vec![put("a", 100, 1)]);
        feed.seen(slow.id, through);
        let Ok(Next::Ring { revisions, .. }) = feed.next(slow.id) else { panic!("not in the ring") };
        assert_eq!(revisions.iter().map(|p| p.revision.0).collect::<Vec<_>>(), [100]);
        assert!(matches!(feed.next(slow.id), Ok(Next::Wait)));
    }

    #[test]
    fn progress_follows_what_is_pending() {
        let feed = Feed::new(Revision(1), Revision::ZERO, 10_000);
        let watcher = feed.register(single("a"), None).unwrap();
        feed.publish(vec![put("a", 2, 1)]);
        feed.ask_progress(watcher.id);
        assert!(matches!(feed.next(watcher.id), Ok(Next::Ring { .. })));
        assert!(matches!(feed.next(watcher.id), Ok(Next::Progress(Revision(2)))));
        assert!(matches!(feed.next(watcher.id), Ok(Next::Wait)));
    }
}
