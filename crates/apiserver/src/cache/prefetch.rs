//! Has the processor fetch memory that will be read soon. A list walks objects that lie all over memory: without this it waits for each of
//! them.

use super::Entry;

/// An entry that will be looked at: its counters, and the fields behind them.
pub(super) fn entry(entry: &Entry) {
    for line in 0..size_of::<Entry>().div_ceil(LINE) {
        fetch(std::ptr::from_ref(entry).cast::<u8>().wrapping_add(line * LINE));
    }
}

/// The beginning of bytes that will be copied; the processor sees by itself that the rest comes next.
pub(super) fn bytes(bytes: &[u8]) {
    fetch(bytes.as_ptr());
    fetch(bytes.as_ptr().wrapping_add(LINE));
}

const LINE: usize = 64;

#[cfg(target_arch = "x86_64")]
fn fetch(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint, which reads nothing and is ignored for addresses that are nobody's.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// Elsewhere it is waited for.
#[cfg(not(target_arch = "x86_64"))]
fn fetch(_: *const u8) {}
