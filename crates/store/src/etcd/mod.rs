//! The store in an etcd cluster, over etcd's own protocol: several API servers may share one. Reads are linearizable, large ranges are
//! fetched in pages at one revision, watches survive the loss of a member.

mod check;
mod dialer;
mod keys;
mod lease;
mod members;
mod options;
mod range;
mod refusal;
mod restore;
mod revision;
mod space;
mod txn;
mod version;
mod watch;

pub use options::EtcdOptions;

/// The messages and clients, as `proto/etcd.proto` defines them.
#[allow(missing_docs, clippy::all, clippy::too_many_lines, clippy::disallowed_methods)]
mod wire {
    tonic::include_proto!("etcdserverpb");
}

use crate::backup::{Backup, Summary};
use crate::embedded::CheckReport;
use crate::{
    KeyRange, LeaseId, RangeRequest, RangeResponse, Revision, Store, StoreError, StoreResult, Txn,
    TxnOutcome, WatchRequest, WatchStream,
};
use futures_core::future::BoxFuture;
use keys::Keys;
use members::{Again, Members};
use refusal::{Refusal, plain};
use revision::Newest;
use std::sync::Arc;
use tonic::transport::Channel;
use wire::kv_client::KvClient;
use wire::maintenance_client::MaintenanceClient;

/// A handle to a store in etcd. Clones share the connection.
#[derive(Clone)]
pub struct EtcdStore(Arc<Shared>);

struct Shared {
    members: Members,
    keys: Keys,
    newest: Newest,
    space: space::Space,
}

impl EtcdStore {
    /// Prepares a connection and waits until a member answers.
    ///
    /// # Errors
    /// `Unavailable` when the settings cannot be used or no member answers in time.
    pub async fn connect(options: EtcdOptions) -> StoreResult<Self> {
        let keys = Keys::new(options.prefix.clone(), options.stored_prefix.clone());
        let members = Members::new(options)?;
        let ahead = restore::ahead(&members, &keys).await?;
        let (newest, space) = (Newest::default(), space::Space::default());
        Ok(Self(Arc::new(Shared { members, keys: keys.ahead(ahead), newest, space })))
    }

    /// Looks for what is wrong: members, alarms, and what is kept.
    ///
    /// # Errors
    /// Those of a read.
    pub async fn check(&self) -> StoreResult<CheckReport> {
        check::check(self).await
    }

    /// Replaces everything by what a backup holds. Nobody may use the store meanwhile; a handle from before is of no use after it.
    ///
    /// # Errors
    /// Those of reads and writes; it can be repeated.
    pub async fn restore(&self, backup: &Backup) -> StoreResult<Summary> {
        restore::run(self, backup).await
    }

    /// Removes everything that a cluster keeps below its prefix, and what is noted beside it. Nobody may use the store meanwhile, nor a
    /// handle afterwards. Tells how many keys there were.
    ///
    /// # Errors
    /// Those of a write; it can be repeated.
    pub async fn remove_all(&self) -> StoreResult<u64> {
        let keys::Place { key, end } = self.0.keys.everything();
        let request = wire::DeleteRangeRequest { key, range_end: end, prev_kv: false };
        let call = |channel| {
            let request = request.clone();
            async move { kv(channel).delete_range(request).await }
        };
        let answer = plain(self.0.members.call(Again::Harmless, call).await, "remove all keys")?;
        Ok(answer.deleted.max(0).cast_unsigned())
    }

    /// The newest revision, linearizable.
    async fn newest(&self) -> StoreResult<Revision> {
        self.0.newest.get(|| self.ask_revision()).await
    }

    async fn ask_revision(&self) -> StoreResult<Revision> {
        let request =
            wire::RangeRequest { key: self.0.keys.nobody(), count_only: true, ..Default::default() };
        let response = plain(self.range_rpc(request).await, "ask for the revision")?;
        Ok(self.0.keys.of_header(response.header.as_ref()))
    }

    async fn range_rpc(&self, request: wire::RangeRequest) -> Result<wire::RangeResponse, Refusal> {
        let call = |channel| {
            let request = request.clone();
            async move { kv(channel).range(request).await }
        };
        self.0.members.call(Again::Harmless, call).await
    }

    /// `Compacted` as callers want it; etcd tells the border only to watches.
    async fn compacted(&self) -> StoreError {
        match watch::compact_revision(self).await {
            Ok(compact_revision) => StoreError::Compacted { compact_revision },
            Err(error) => error,
        }
    }

    async fn future(&self, requested: Revision) -> StoreError {
        match self.newest().await {
            Ok(current) => StoreError::FutureRevision { requested, current },
            Err(error) => error,
        }
    }

    async fn compact_now(&self, at: Revision) -> StoreResult<()> {
        let request = wire::CompactionRequest { revision: self.0.keys.raw(at), physical: false };
        let call = |channel| async move { kv(channel).compact(request).await };
        match self.0.members.call(Again::Unsent, call).await {
            Ok(_) => Ok(()),
            Err(Refusal::Compacted) => Err(self.compacted().await),
            Err(Refusal::FutureRevision) => Err(self.future(at).await),
            Err(refusal) => Err(refusal.into_error("compact", 0, 0)),
        }
    }

    async fn size(&self) -> StoreResult<u64> {
        let call =
            |channel| async move { MaintenanceClient::new(channel).status(wire::StatusRequest {}).await };
        let status = plain(self.0.members.call(Again::Harmless, call).await, "ask for the size")?;
        Ok(status.db_size.max(0).cast_unsigned())
    }
}

impl Store for EtcdStore {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>> {
        Box::pin(range::read(self, request))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, StoreResult<TxnOutcome>> {
        Box::pin(async move {
            let outcome = txn::run(self, txn).await;
            if matches!(outcome, Err(StoreError::NoSpace { .. })) {
                space::tend(self);
            }
            outcome
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, StoreResult<WatchStream>> {
        Box::pin(watch::start(
            self,
            KeyRange::new(request.start, request.end),
            request.from,
            request.previous,
        ))
    }

    fn compact(&self, at: Revision) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(self.compact_now(at))
    }

    fn revision(&self) -> BoxFuture<'_, StoreResult<Revision>> {
        Box::pin(self.newest())
    }

    fn lease_grant(&self, ttl_ms: u64) -> BoxFuture<'_, StoreResult<LeaseId>> {
        Box::pin(lease::grant(self, ttl_ms))
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(lease::keep_alive(self, lease))
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(lease::revoke(self, lease))
    }

    fn size_bytes(&self) -> BoxFuture<'_, StoreResult<u64>> {
        Box::pin(self.size())
    }
}

/// Answers have no limit but etcd's own: a page of a range may be large.
fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX)
}
