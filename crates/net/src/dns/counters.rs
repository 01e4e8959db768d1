//! What the server counts, for metrics and tests. Plain numbers that only grow.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Numbers that the server's tasks add to.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub(super) $name: AtomicU64,)*
        }

        /// [`Counters`] at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct CountersSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The numbers now.
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Queries by UDP.
    udp_queries,
    /// Queries by TCP.
    tcp_queries,
    /// Answers without an error.
    no_error,
    /// Answers that there is no such name.
    nx_domain,
    /// Answers that we failed.
    server_failure,
    /// Answers that we do not answer this.
    refused,
    /// Queries that could not be read.
    malformed,
    /// Questions passed on.
    forwarded,
    /// Questions that no upstream answered.
    forward_failures,
    /// Questions refused because too many were under way.
    forward_overflows,
    /// Questions answered from the cache.
    cache_hits,
    /// Questions that were not in the cache.
    cache_misses,
    /// TCP connections refused because too many were open.
    tcp_overflows,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
