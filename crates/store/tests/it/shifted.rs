//! An etcd store seen as if its history had begun with revision 1: so that many tests can share one etcd and still be compared with the
//! model.

use futures_core::future::BoxFuture;
use nauplius_store::{
    Compare, Event, KeyValue, LeaseId, Op, ProgressHandle, RangeRequest, RangeResponse, Revision, Store,
    StoreError, StoreResult, Txn, TxnOutcome, WatchMessage, WatchRequest, WatchSource, WatchStream,
};
use std::sync::Arc;

pub struct Shifted {
    below: Arc<dyn Store>,
    by: i64,
}

impl Shifted {
    /// What is older than now is compacted, and now is revision 1. `elsewhere` is the same etcd under another prefix.
    pub async fn begin(below: Arc<dyn Store>, elsewhere: &dyn Store) -> Self {
        let mut newest = Revision::ZERO;
        for _ in 0..2 {
            let op = Op::Put { key: "marker".into(), value: "x".into(), lease: None };
            let outcome = elsewhere.txn(Txn { compare: vec![], ops: vec![op] }).await.unwrap();
            let TxnOutcome::Committed { revision, .. } = outcome else { panic!("{outcome:?}") };
            newest = revision;
        }
        below.compact(Revision(newest.0 - 1)).await.unwrap();
        Self { below, by: newest.0 - 1 }
    }

    fn there(&self, revision: Revision) -> Revision {
        Revision(revision.0 + self.by)
    }

    fn answer<T: Shift>(&self, result: StoreResult<T>) -> StoreResult<T> {
        result.map(|answer| answer.shift(self.by)).map_err(|error| error.shift(self.by))
    }
}

trait Shift {
    fn shift(self, by: i64) -> Self;
}

impl Shift for () {
    fn shift(self, _: i64) {}
}

impl Shift for Revision {
    fn shift(self, by: i64) -> Self {
        Self(self.0 - by)
    }
}

impl Shift for StoreError {
    fn shift(self, by: i64) -> Self {
        match self {
            Self::Compacted { compact_revision } => {
                Self::Compacted { compact_revision: compact_revision.shift(by) }
            }
            Self::FutureRevision { requested, current } => {
                Self::FutureRevision { requested: requested.shift(by), current: current.shift(by) }
            }
            other => other,
        }
    }
}

impl Shift for KeyValue {
    fn shift(self, by: i64) -> Self {
        let (create_revision, mod_revision) = (self.create_revision.shift(by), self.mod_revision.shift(by));
        Self { create_revision, mod_revision, ..self }
    }
}

impl<T: Shift> Shift for Option<T> {
    fn shift(self, by: i64) -> Self {
        self.map(|inner| inner.shift(by))
    }
}

impl<T: Shift> Shift for Vec<T> {
    fn shift(self, by: i64) -> Self {
        self.into_iter().map(|inner| inner.shift(by)).collect()
    }
}

impl Shift for RangeResponse {
    fn shift(self, by: i64) -> Self {
        Self { kvs: self.kvs.shift(by), revision: self.revision.shift(by), ..self }
    }
}

impl Shift for TxnOutcome {
    fn shift(self, by: i64) -> Self {
        match self {
            Self::Committed { revision, previous } => {
                Self::Committed { revision: revision.shift(by), previous: previous.shift(by) }
            }
            Self::Conflict { revision, current } => {
                Self::Conflict { revision: revision.shift(by), current: current.shift(by) }
            }
        }
    }
}

impl Shift for Event {
    fn shift(self, by: i64) -> Self {
        match self {
            Self::Put { kv, previous } => Self::Put { kv: kv.shift(by), previous: previous.shift(by) },
            Self::Delete { key, revision, previous } => {
                Self::Delete { key, revision: revision.shift(by), previous: previous.shift(by) }
            }
        }
    }
}

impl Shift for WatchMessage {
    fn shift(self, by: i64) -> Self {
        match self {
            Self::Events { events, revision } => {
                Self::Events { events: events.shift(by), revision: revision.shift(by) }
            }
            Self::Progress { revision } => Self::Progress { revision: revision.shift(by) },
        }
    }
}

struct Source {
    below: WatchStream,
    by: i64,
}

impl WatchSource for Source {
    fn next(&mut self) -> BoxFuture<'_, StoreResult<WatchMessage>> {
        Box::pin(async move {
            let message = self.below.next().await;
            message.map(|message| message.shift(self.by)).map_err(|error| error.shift(self.by))
        })
    }

    fn progress(&self) -> ProgressHandle {
        self.below.progress()
    }
}

impl Store for Shifted {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>> {
        let at = request.at.map(|at| self.there(at));
        Box::pin(async move { self.answer(self.below.range(RangeRequest { at, ..request }).await) })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, StoreResult<TxnOutcome>> {
        let compare = |compare: Compare| match compare.mod_revision {
            Revision::ZERO => compare,
            mod_revision => Compare { mod_revision: self.there(mod_revision), ..compare },
        };
        let txn = Txn { compare: txn.compare.into_iter().map(compare).collect(), ops: txn.ops };
        Box::pin(async move { self.answer(self.below.txn(txn).await) })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, StoreResult<WatchStream>> {
        let from = request.from.map(|from| self.there(from));
        Box::pin(async move {
            let below = self.below.watch(WatchRequest { from, ..request }).await;
            let below = below.map_err(|error| error.shift(self.by))?;
            let started_at = below.started_at().shift(self.by);
            Ok(WatchStream::new(started_at, Box::new(Source { below, by: self.by })))
        })
    }

    fn compact(&self, at: Revision) -> BoxFuture<'_, StoreResult<()>> {
        let at = self.there(at);
        Box::pin(async move { self.answer(self.below.compact(at).await) })
    }

    fn revision(&self) -> BoxFuture<'_, StoreResult<Revision>> {
        Box::pin(async move { self.answer(self.below.revision().await) })
    }

    fn lease_grant(&self, ttl_ms: u64) -> BoxFuture<'_, StoreResult<LeaseId>> {
        self.below.lease_grant(ttl_ms)
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>> {
        self.below.lease_keep_alive(lease)
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>> {
        self.below.lease_revoke(lease)
    }

    fn size_bytes(&self) -> BoxFuture<'_, StoreResult<u64>> {
        self.below.size_bytes()
    }
}
