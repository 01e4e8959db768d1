//! The embedded engine: our MVCC over SQLite in WAL mode.
//!
//! One writer thread owns all writes and commits whatever has queued up in one durable SQLite transaction; reads run on
//! snapshots of their own; watchers read from a shared ring of recent revisions and, when they fall behind it, from the
//! change log on disk.

mod apply;
mod check;
mod checkpoint;
mod cleanup;
mod connection;
mod directory;
mod feed;
mod lease;
mod log_room;
mod options;
mod queue;
mod range;
mod readers;
mod replay;
mod restore;
mod schema;
mod sum;
mod told;
mod watcher;
mod writer;

pub use check::CheckReport;
pub use options::Options;

use crate::backup::{Backup, Summary};
use crate::{
    KeyRange, LeaseId, RangeRequest, RangeResponse, Revision, Store, StoreError, StoreResult, Txn,
    TxnOutcome, WatchRequest, WatchStream,
};
use directory::Directory;
use feed::Feed;
use futures_core::future::BoxFuture;
use queue::{Command, Queue};
use readers::Readers;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// The store in a directory of its own. Clones are handles to the same open store.
#[derive(Clone)]
pub struct EmbeddedStore(Arc<Shared>);

struct Shared {
    queue: Arc<Queue>,
    feed: Arc<Feed>,
    readers: Arc<Readers>,
    options: Options,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens the store in the directory `path`, which is made when missing.
    ///
    /// # Errors
    /// `InUse` when another process has it open, `Format` and `Corrupt` when it cannot be read, `Io`.
    pub async fn open(path: &Path, options: Options) -> StoreResult<Self> {
        let path = path.to_owned();
        blocking(move || Self::open_now(&path, options)).await
    }

    fn open_now(path: &Path, options: Options) -> StoreResult<Self> {
        restore::recover(path)?;
        let directory = Arc::new(Directory::lock(path)?);
        let start = writer::Start::open(&directory, &options)?;
        let readers = Arc::new(Readers::open(&directory, &options)?);
        let feed = Arc::new(Feed::new(start.revision(), start.compacted(), options.ring_bytes));
        let queue = Arc::new(Queue::new(options.queue_limit));
        let writer = start.spawn(directory, Arc::clone(&queue), Arc::clone(&feed))?;
        Ok(Self(Arc::new(Shared { queue, feed, readers, options, writer: Mutex::new(Some(writer)) })))
    }

    /// Commits what is queued, ends every watch with `Closed` and closes the files. Other handles then get `Closed`.
    ///
    /// # Errors
    /// `Unavailable` when the writer had panicked.
    pub async fn close(self) -> StoreResult<()> {
        self.0.queue.close();
        self.0.readers.close().await;
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        blocking(move || match writer.map(JoinHandle::join) {
            Some(Err(_)) => Err(StoreError::Unavailable { reason: "the writer panicked".to_owned() }),
            _ => Ok(()),
        })
        .await
    }

    /// Replaces the store in the directory `path`, which nobody may have open, by what a backup holds. Its revisions go on above all that
    /// were known; watches and lists of before cannot be resumed.
    ///
    /// # Errors
    /// `InUse`; those of a write, after which the old store is still there.
    pub async fn restore(path: &Path, options: Options, backup: Backup) -> StoreResult<Summary> {
        let path = path.to_owned();
        blocking(move || restore::restore(&path, &options, &backup)).await
    }

    /// Verifies the files, every checksum and every index.
    ///
    /// # Errors
    /// Those of a read; what is wrong with the data is in the report.
    pub async fn check(&self) -> StoreResult<CheckReport> {
        self.0.readers.run(check::check).await
    }

    /// Ends the leases whose time is over and returns once their keys are gone. The store does so by itself; this
    /// is for a test that moves its clock.
    ///
    /// # Errors
    /// Those of a write.
    pub async fn expire_leases(&self) -> StoreResult<()> {
        self.send(Command::Expire).await
    }

    /// Waits until everything that compaction left behind is cleaned up.
    ///
    /// # Errors
    /// Those of a write.
    pub async fn settle(&self) -> StoreResult<()> {
        self.send(Command::Settle).await
    }

    async fn send<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<StoreResult<T>>) -> Command,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        self.0.queue.push(command(reply)).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Store for EmbeddedStore {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>> {
        Box::pin(self.0.readers.run(move |connection| range::read(connection, request)))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, StoreResult<TxnOutcome>> {
        Box::pin(async move {
            crate::txn::check(&txn, self.0.options.txn_bytes)?;
            self.send(|reply| Command::Txn(txn, reply)).await
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, StoreResult<WatchStream>> {
        Box::pin(async move {
            let range = KeyRange::new(request.start, request.end);
            let (feed, readers) = (Arc::clone(&self.0.feed), Arc::clone(&self.0.readers));
            watcher::start(feed, readers, range, request.from, request.previous)
        })
    }

    fn compact(&self, at: Revision) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(self.send(move |reply| Command::Compact(at, reply)))
    }

    fn revision(&self) -> BoxFuture<'_, StoreResult<Revision>> {
        Box::pin(std::future::ready(self.0.feed.revision()))
    }

    fn lease_grant(&self, ttl_ms: u64) -> BoxFuture<'_, StoreResult<LeaseId>> {
        Box::pin(self.send(move |reply| Command::Grant(ttl_ms, reply)))
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(self.send(move |reply| Command::KeepAlive(lease, reply)))
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(self.send(move |reply| Command::Revoke(lease, reply)))
    }

    fn size_bytes(&self) -> BoxFuture<'_, StoreResult<u64>> {
        Box::pin(self.0.readers.run(schema::size_bytes))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(StoreError::Unavailable { reason: error.to_string() }))
}
