//! A store that fails now and then, in front of a real one: before a write, after it, or within a watch. What it says is true: an
//! answer that was lost is `Unavailable`.

use crate::chance::Chance;
use futures_util::future::BoxFuture;
use nauplius_store::{
    LeaseId, ProgressHandle, RangeRequest, RangeResponse, Revision, Store, StoreError, StoreResult, Txn,
    TxnOutcome, WatchMessage, WatchRequest, WatchSource, WatchStream,
};
use std::sync::{Arc, Mutex, PoisonError};

/// How often things go wrong, in a thousand calls.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// A write is refused before it is done.
    pub before: u64,
    /// A write is done and its answer lost.
    pub after: u64,
    /// A watch breaks instead of giving its next message.
    pub watch: u64,
}

/// The store that fails.
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
    chance: Arc<Mutex<Chance>>,
}

impl<S: Store> Faulty<S> {
    /// Fails like this in front of `inner`.
    pub fn new(inner: S, faults: Faults, chance: Chance) -> Self {
        Self { inner, faults, chance: Arc::new(Mutex::new(chance)) }
    }
}

fn fails(chance: &Mutex<Chance>, share: u64) -> StoreResult<()> {
    if chance.lock().unwrap_or_else(PoisonError::into_inner).permille(share) {
        return Err(StoreError::Unavailable { reason: "made to fail".to_owned() });
    }
    Ok(())
}

impl<S: Store> Store for Faulty<S> {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>> {
        self.inner.range(request)
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, StoreResult<TxnOutcome>> {
        Box::pin(async move {
            fails(&self.chance, self.faults.before)?;
            let outcome = self.inner.txn(txn).await?;
            fails(&self.chance, self.faults.after)?;
            Ok(outcome)
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, StoreResult<WatchStream>> {
        Box::pin(async move {
            let inner = self.inner.watch(request).await?;
            let (started_at, share) = (inner.started_at(), self.faults.watch);
            let source = FaultyWatch { inner, share, chance: Arc::clone(&self.chance) };
            Ok(WatchStream::new(started_at, Box::new(source)))
        })
    }

    fn compact(&self, at: Revision) -> BoxFuture<'_, StoreResult<()>> {
        self.inner.compact(at)
    }

    fn revision(&self) -> BoxFuture<'_, StoreResult<Revision>> {
        self.inner.revision()
    }

    fn lease_grant(&self, ttl_ms: u64) -> BoxFuture<'_, StoreResult<LeaseId>> {
        self.inner.lease_grant(ttl_ms)
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>> {
        self.inner.lease_keep_alive(lease)
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>> {
        self.inner.lease_revoke(lease)
    }

    fn size_bytes(&self) -> BoxFuture<'_, StoreResult<u64>> {
        self.inner.size_bytes()
    }
}

struct FaultyWatch {
    inner: WatchStream,
    share: u64,
    chance: Arc<Mutex<Chance>>,
}

impl WatchSource for FaultyWatch {
    fn next(&mut self) -> BoxFuture<'_, StoreResult<WatchMessage>> {
        Box::pin(async move {
            fails(&self.chance, self.share)?;
            self.inner.next().await
        })
    }

    fn progress(&self) -> ProgressHandle {
        self.inner.progress()
    }
}
