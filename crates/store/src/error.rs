//! What can go wrong, as data. No decision is made by reading a message.

use crate::{LeaseId, Revision};
use bytes::Bytes;
use std::path::PathBuf;

/// Why the store did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The revision lies before the compacted one.
    #[error("required revision has been compacted (compact revision {compact_revision})")]
    Compacted {
        /// The oldest revision that can still be read and watched.
        compact_revision: Revision,
    },
    /// The revision does not exist yet.
    #[error("required revision {requested} is a future revision (current revision {current})")]
    FutureRevision {
        /// What was asked for.
        requested: Revision,
        /// The newest one.
        current: Revision,
    },
    /// The disk is full. Nothing was written; reads and watches go on, and writes will once there is space.
    #[error("no space left on the store's disk ({operation})")]
    NoSpace {
        /// What was being done.
        operation: &'static str,
    },
    /// The lease ended, or never was.
    #[error("lease {0} not found")]
    LeaseNotFound(LeaseId),
    /// The watcher could not keep up.
    #[error("the watcher is too slow")]
    SlowWatcher,
    /// The transaction holds too many bytes.
    #[error("the transaction of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The transaction holds too many operations.
    #[error("the transaction of {count} operations is over the limit of {limit}")]
    TooManyOps {
        /// How many it holds.
        count: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The transaction changes one key twice.
    #[error("the transaction changes key {key:?} twice")]
    DuplicateKey {
        /// That key.
        key: Bytes,
    },
    /// Another process has the store open.
    #[error("the store at {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The files are of another program or a newer version of this one.
    #[error("the store's format is {found}, this program reads {supported}")]
    Format {
        /// What the file says.
        found: i64,
        /// What we know.
        supported: i64,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The store cannot serve this now; whether an unanswered write took effect is not known.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The store did not answer in time; whether a write took effect is not known.
    #[error("the store did not answer in time ({operation})")]
    TimedOut {
        /// What was being done.
        operation: &'static str,
    },
    /// What is on the disk is not what was written.
    #[error("the store is corrupt: {detail}")]
    Corrupt {
        /// What was found.
        detail: String,
    },
    /// A file that was to be restored is torn, damaged or no backup. It says nothing of a store.
    #[error("{detail}")]
    Backup {
        /// What was found.
        detail: &'static str,
    },
    /// The disk refused. A write that ends so was taken back.
    #[error("{operation}: {detail}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// What the system said.
        detail: String,
    },
}
