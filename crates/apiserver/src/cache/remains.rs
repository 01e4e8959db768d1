//! What is left of large objects that were made for single watchers (deleted ones as protobuf, other versions, tables) and were sent in part.
//! A watcher that stalls holds none of it: here are the newest of all watchers, within a bound, and one whose own is gone begins anew.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes of all of them.
const MAX_BYTES: usize = 32 << 20;

/// What all watchers have left.
#[derive(Default)]
pub(crate) struct Remains(Mutex<Held>);

#[derive(Default)]
struct Held {
    objects: VecDeque<Arc<Bytes>>,
    bytes: usize,
}

/// What one watcher has left; it goes with this.
pub(crate) struct Remainder {
    bytes: Weak<Bytes>,
    of: Arc<Remains>,
}

impl Remains {
    /// Keeps an object for as long as there is room; the newest one always.
    pub fn keep(self: &Arc<Self>, bytes: Bytes) -> Remainder {
        let object = Arc::new(bytes);
        let remainder = Remainder { bytes: Arc::downgrade(&object), of: Arc::clone(self) };
        let mut guard = self.held();
        let held = &mut *guard;
        held.bytes += object.len();
        held.objects.push_back(object);
        while held.bytes > MAX_BYTES && held.objects.len() > 1 {
            held.bytes -= held.objects.pop_front().map_or(0, |oldest| oldest.len());
        }
        remainder
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remainder {
    /// The whole object, if it is still there.
    pub fn get(&self) -> Option<Bytes> {
        self.bytes.upgrade().map(|object| Bytes::clone(&object))
    }
}

impl Drop for Remainder {
    fn drop(&mut self) {
        let mut held = self.of.held();
        let own =
            held.objects.iter().position(|object| std::ptr::eq(Arc::as_ptr(object), self.bytes.as_ptr()));
        let object = own.and_then(|own| held.objects.remove(own));
        held.bytes -= object.as_ref().map_or(0, |object| object.len());
        drop(held);
        drop(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_until_they_are_sent() {
        let remains = Arc::<Remains>::default();
        let object = |byte: u8| Bytes::from(vec![byte; 3 << 20]);
        let kept: Vec<_> = (0..100).map(|number| remains.keep(object(number))).collect();
        let there: Vec<_> = (0..100).filter(|number| kept[*number].get().is_some()).collect();
        assert_eq!(there, (90..100).collect::<Vec<_>>(), "ten times 3 MiB fit");
        assert_eq!(kept[95].get().unwrap(), object(95));
        drop(kept);
        let left = |held: &Held| (held.objects.len(), held.bytes);
        assert_eq!(left(&remains.held()), (0, 0));
        let huge = remains.keep(vec![0; MAX_BYTES + 1].into());
        assert!(huge.get().is_some(), "one alone is kept whatever its size");
        let small = remains.keep(object(1));
        assert!(huge.get().is_none() && small.get().is_some());
    }
}
