//! Buffers for the pieces of large lists, used again and again: the allocator would keep the memory of those that were freed for a while,
//! and the processor would have to get each new one into its caches. They are there while somebody reads such a list. What is written into
//! them is not known here.

use bytes::Bytes;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bytes of a lent buffer.
pub(crate) const BUFFER_BYTES: usize = 136 << 10;
/// Buffers that wait for their next use; what more lists at once need is freed when they let go of it.
const MAX_FREE: usize = 32;

/// The buffers of a server.
#[derive(Default)]
pub(crate) struct Buffers(Mutex<Weak<Pool>>);

impl Buffers {
    /// A share for someone who will need some; with the last share and the last buffer all free ones go.
    pub fn share(&self) -> Share {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = pool.upgrade().unwrap_or_default();
        *pool = Arc::downgrade(&shared);
        Share(shared)
    }
}

#[derive(Default)]
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    fn take(&self) -> Vec<u8> {
        // The one that was used last is the one that caches hold.
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    fn put(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MAX_FREE && bytes.capacity() == BUFFER_BYTES {
            free.push(bytes);
        }
    }
}

/// Leave to use buffers.
#[derive(Clone)]
pub(crate) struct Share(Arc<Pool>);

impl Share {
    /// An empty buffer with room for [`BUFFER_BYTES`]. It never has to be waited for: whoever stalls keeps what was lent, and nobody waits
    /// for that.
    pub fn lend(&self) -> Buffer {
        Buffer { bytes: self.0.take(), pool: Some(Arc::clone(&self.0)) }
    }
}

/// Bytes in the making.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// Where they come from; `None` when they are the buffer's own.
    pool: Option<Arc<Pool>>,
}

impl Buffer {
    /// Whether it was lent.
    pub fn is_lent(&self) -> bool {
        self.pool.is_some()
    }

    /// The bytes; a lent buffer goes back with the last of them.
    pub fn freeze(mut self) -> Bytes {
        if self.is_lent() {
            return Bytes::from_owner(self);
        }
        std::mem::take(&mut self.bytes).into()
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, pool: None }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(buffers: &Buffers) -> Option<usize> {
        buffers.0.lock().unwrap().upgrade().map(|pool| pool.0.lock().unwrap().len())
    }

    #[test]
    fn a_buffer_comes_back_with_the_last_of_its_bytes() {
        let buffers = Buffers::default();
        let share = buffers.share();
        let mut buffer = share.lend();
        buffer.extend_from_slice(b"abc");
        let at = buffer.as_ptr();
        let bytes = buffer.freeze();
        let part = bytes.slice(1..);
        drop(bytes);
        assert_eq!((&part[..], free(&buffers)), (&b"bc"[..], Some(0)));
        drop(part);
        assert_eq!(free(&buffers), Some(1));
        let again = share.lend();
        assert!(again.is_empty() && again.as_ptr() == at);
    }

    #[test]
    fn what_is_free_is_bounded_and_goes_with_the_last_share() {
        let buffers = Buffers::default();
        let share = buffers.share();
        let lent: Vec<_> = (0..MAX_FREE + 9).map(|_| share.lend()).collect();
        let mut grown = buffers.share().lend();
        grown.extend_from_slice(&[0; BUFFER_BYTES + 1]);
        drop((lent, grown));
        assert_eq!(free(&buffers), Some(MAX_FREE));
        let held = share.lend().freeze();
        drop(share);
        assert!(free(&buffers).is_some(), "bytes that are still read hold it");
        drop(held);
        assert_eq!(free(&buffers), None);
    }

    #[test]
    fn own_bytes_stay_own() {
        let mut buffer = Buffer::from(b"ab".to_vec());
        buffer.push(b'c');
        assert!(!buffer.is_lent());
        assert_eq!(buffer.freeze(), "abc");
    }
}
