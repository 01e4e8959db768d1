//! What a watch still has to send of the objects that there were when it began. A watcher that stalls must not keep objects that
//! the cache has let go of, a whole collection in the worst case: what it holds is taken from it once changes since then are no
//! longer kept, for it could not go on from there anyway.

use super::Entry;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Objects in the order in which they are sent.
pub(crate) type Entries = Box<dyn Iterator<Item = Arc<Entry>> + Send>;

/// What one watch holds.
pub(crate) struct Held {
    /// The watch goes on with changes after this revision.
    after: i64,
    entries: Mutex<Option<Entries>>,
}

impl Held {
    /// What is left; `None` when it was taken away.
    pub fn lock(&self) -> MutexGuard<'_, Option<Entries>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all watches of a resource hold.
pub(super) struct Holders {
    held: Mutex<Vec<Weak<Held>>>,
    /// No watch goes on from before this revision.
    oldest: AtomicI64,
}

impl Default for Holders {
    fn default() -> Self {
        Self { held: Mutex::default(), oldest: AtomicI64::new(i64::MAX) }
    }
}

impl Holders {
    /// Keeps in mind who holds what. The caller looks at the ring's floor afterwards.
    pub fn hold(&self, entries: Entries, after: i64) -> Arc<Held> {
        let new = Arc::new(Held { after, entries: Mutex::new(Some(entries)) });
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() == held.capacity() {
            held.retain(|held| held.strong_count() > 0);
        }
        held.push(Arc::downgrade(&new));
        self.oldest.fetch_min(after, Ordering::AcqRel);
        new
    }

    /// Takes away what cannot be gone on from, now that changes are kept from `floor` on.
    pub fn release_before(&self, floor: i64) {
        if self.oldest.load(Ordering::Acquire) >= floor {
            return;
        }
        let mut released = Vec::new();
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let mut oldest = i64::MAX;
            held.retain(|held| match held.upgrade() {
                Some(old) if old.after < floor => {
                    released.push(old);
                    false
                }
                Some(young) => {
                    oldest = oldest.min(young.after);
                    true
                }
                None => false,
            });
            self.oldest.store(oldest, Ordering::Release);
        }
        // A watch that is being sent objects just now ends its piece first.
        released.iter().for_each(|held| drop(held.lock().take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Entries {
        Box::new(std::iter::empty())
    }

    #[test]
    fn what_cannot_be_gone_on_from_is_taken_away() {
        let holders = Holders::default();
        let (old, young) = (holders.hold(nothing(), 5), holders.hold(nothing(), 9));
        holders.release_before(5);
        assert!(old.lock().is_some() && young.lock().is_some());
        holders.release_before(6);
        assert!(old.lock().is_none() && young.lock().is_some());
        holders.release_before(10);
        assert!(young.lock().is_none());
        assert!(holders.held.lock().unwrap().is_empty());
    }

    #[test]
    fn those_who_have_ended_are_forgotten() {
        let holders = Holders::default();
        for _ in 0..10_000 {
            drop(holders.hold(nothing(), 5));
        }
        assert!(holders.held.lock().unwrap().len() < 100);
        holders.release_before(6);
        assert_eq!(holders.oldest.load(Ordering::Acquire), i64::MAX);
    }
}
