//! The MVCC byte store: keys and values under one global revision, with etcd v3's semantics, and the embedded
//! engine below it.
//!
//! Nothing here knows what a Pod is: keys and values are bytes. The seam is [`Store`]; behind it stand
//! [`embedded::EmbeddedStore`], [`etcd::EtcdStore`] and, for tests, the `model` oracle.

pub mod backup;
mod clock;
pub mod embedded;
mod error;
pub mod etcd;
#[cfg(any(test, feature = "model"))]
pub mod etcd_process;
#[cfg(any(test, feature = "model"))]
pub mod faults;
mod keys;
#[cfg(any(test, feature = "model"))]
pub mod model;
mod txn;
mod types;
mod watch;

pub use clock::{Clock, ManualClock};
pub use error::StoreError;
pub use keys::{ALL_KEYS, KeyRange, prefix_end};
pub use types::{
    Compare, Event, KeyValue, LeaseId, MAX_KEY_BYTES, MAX_TXN_OPS, Op, RangeRequest, RangeResponse, Revision,
    Txn, TxnOutcome, WatchMessage, WatchRequest,
};
pub use watch::{ProgressHandle, WatchSource, WatchStream};

use futures_core::future::BoxFuture;

/// What a call to the store comes back with.
pub type StoreResult<T> = Result<T, StoreError>;

/// The seam between the API server and whatever keeps its bytes.
///
/// There is one revision for the whole store; it starts at 1 and each transaction that changes something takes
/// the next one. An acknowledged write is synced to disk. A call whose future is dropped may still take effect.
pub trait Store: Send + Sync + 'static {
    /// Reads one key or a range, now or as it was at a revision.
    ///
    /// # Errors
    /// `Compacted` or `FutureRevision` when `at` cannot be read.
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>>;

    /// Runs the operations if every compare holds, all under one new revision.
    ///
    /// # Errors
    /// `LeaseNotFound`, `TooLarge`, `TooManyOps` and `DuplicateKey` refuse it before anything is written; `NoSpace` and
    /// `Io` after everything was taken back.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, StoreResult<TxnOutcome>>;

    /// Follows the changes of one key or a range.
    ///
    /// # Errors
    /// `Compacted` when `from` lies before the compacted revision.
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, StoreResult<WatchStream>>;

    /// Forgets what was superseded before `at`; reads and watches from `at` on stay exact.
    ///
    /// # Errors
    /// `Compacted` when `at` was compacted already, `FutureRevision` when it does not exist yet.
    fn compact(&self, at: Revision) -> BoxFuture<'_, StoreResult<()>>;

    /// The newest revision: everything acknowledged so far is at or below it.
    ///
    /// # Errors
    /// `Closed`, `Unavailable`.
    fn revision(&self) -> BoxFuture<'_, StoreResult<Revision>>;

    /// Makes a lease that ends `ttl_ms` from now unless it is kept alive. It takes no revision.
    ///
    /// # Errors
    /// Those of a write.
    fn lease_grant(&self, ttl_ms: u64) -> BoxFuture<'_, StoreResult<LeaseId>>;

    /// Gives the lease its whole time again.
    ///
    /// # Errors
    /// `LeaseNotFound` when it ended.
    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>>;

    /// Ends the lease now and deletes its keys under one revision.
    ///
    /// # Errors
    /// `LeaseNotFound` when it ended already.
    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>>;

    /// The bytes that the store takes on its disk.
    ///
    /// # Errors
    /// Those of a read.
    fn size_bytes(&self) -> BoxFuture<'_, StoreResult<u64>>;
}
