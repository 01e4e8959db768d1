//! What may be set about the embedded engine. Each bound of its memory is named here.

use crate::Clock;

/// Settings of an [`super::EmbeddedStore`].
#[derive(Debug, Clone)]
pub struct Options {
    /// The SQLite VFS to keep the files in; `None` for the system's. The lock file is always a real one.
    pub vfs: Option<String>,
    /// What leases live by.
    pub clock: Clock,
    /// How many commands may wait for the writer; more callers wait before they queue.
    pub queue_limit: usize,
    /// How many transactions share one commit at most.
    pub batch_txns: usize,
    /// How many bytes of keys and values share one commit at most, unless a single transaction is larger.
    pub batch_bytes: usize,
    /// How many bytes of keys and values one transaction may hold.
    pub txn_bytes: usize,
    /// How many bytes of recent events stay in memory for live watchers.
    pub ring_bytes: usize,
    /// How many reads run at the same time.
    pub readers: usize,
    /// The writer's page cache.
    pub writer_cache_kib: u32,
    /// The page cache of each reader.
    pub reader_cache_kib: u32,
    /// After how many pages the write-ahead log is checkpointed.
    pub checkpoint_pages: u32,
    /// How many bytes the write-ahead log's file is made longer by when the log nears its end; 0 leaves that to each commit.
    pub log_room_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            vfs: None,
            clock: Clock::system(),
            queue_limit: 1024,
            batch_txns: 256,
            batch_bytes: 4 << 20,
            txn_bytes: 8 << 20,
            ring_bytes: 4 << 20,
            readers: 3,
            writer_cache_kib: 2048,
            reader_cache_kib: 512,
            checkpoint_pages: 2048,
            log_room_bytes: 1 << 20,
        }
    }
}
