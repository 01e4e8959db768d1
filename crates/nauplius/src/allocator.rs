//! The allocator, and how long it keeps what was freed.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`: how long memory that was freed stays ours, in milliseconds.
const PURGE_DELAY: c_int = 15;
/// Of 1,000, its own value, large objects that come and go would fill a second of memory; of 0 each of them would cost system calls.
const PURGE_DELAY_MS: c_long = 10;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

/// Memory that was freed soon goes back to the system; for servers.
pub fn give_back_soon() {
    // SAFETY: the function is the allocator's own, and takes any option and value at any time.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn mi_option_get(option: c_int) -> c_long;
    }

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: as above.
        let value = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(value(), 1_000);
        give_back_soon();
        assert_eq!(value(), PURGE_DELAY_MS);
    }
}
