//! The oracle: the store's meaning over a `BTreeMap`, written to be obviously right. It keeps no file and is for tests only.

use crate::{
    Clock, Compare, Event, KeyRange, KeyValue, LeaseId, MAX_TXN_OPS, Op, ProgressHandle, RangeRequest,
    RangeResponse, Revision, Store, StoreError, StoreResult, Txn, TxnOutcome, WatchMessage, WatchRequest,
    WatchSource, WatchStream,
};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A store in memory that never forgets; compaction only moves the border behind which it refuses to look.
#[derive(Clone)]
pub struct ModelStore {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

struct State {
    revision: Revision,
    compacted: Revision,
    /// Every version of every key, oldest first; `None` is a tombstone.
    history: BTreeMap<Bytes, Vec<(Revision, Option<KeyValue>)>>,
    /// Every event with what it replaced, in order.
    log: Vec<Event>,
    leases: BTreeMap<LeaseId, Lease>,
    clock: Clock,
}

struct Lease {
    ttl: Duration,
    deadline: Duration,
}

impl Default for ModelStore {
    fn default() -> Self {
        Self::new(Clock::system())
    }
}

impl ModelStore {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let state = State {
            revision: Revision(1),
            compacted: Revision::ZERO,
            history: BTreeMap::new(),
            log: Vec::new(),
            leases: BTreeMap::new(),
            clock,
        };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::new(Notify::new()) }
    }

    /// Grants a lease under a given name, so that a test can use the same one in two stores.
    pub fn grant_as(&self, id: LeaseId, ttl_ms: u64) {
        let mut state = self.lock();
        let ttl = Duration::from_millis(ttl_ms);
        let deadline = state.clock.now() + ttl;
        state.leases.insert(id, Lease { ttl, deadline });
    }

    /// Ends the leases whose time is over, in the order of their deadlines.
    pub fn expire_leases(&self) {
        let mut state = self.lock();
        let now = state.clock.now();
        let mut due: Vec<_> =
            state.leases.iter().filter(|(_, l)| l.deadline <= now).map(|(id, l)| (l.deadline, *id)).collect();
        due.sort_unstable();
        for (_, id) in due {
            state.end_lease(id);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Every lease gets its whole time again, as after a restart.
    pub fn restart_leases(&self) {
        let mut state = self.lock();
        let now = state.clock.now();
        for lease in state.leases.values_mut() {
            lease.deadline = now + lease.ttl;
        }
    }

    /// Raises the revision, as if something had been written that nobody here can see.
    pub fn skip_to(&self, revision: Revision) {
        let mut state = self.lock();
        state.revision = state.revision.max(revision);
        drop(state);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> StoreResult<T>) -> BoxFuture<'_, StoreResult<T>>
    where
        T: Send + 'static,
    {
        let result = act(&mut self.lock());
        self.changed.notify_waiters();
        Box::pin(std::future::ready(result))
    }
}

impl State {
    fn current(&self, key: &[u8]) -> Option<KeyValue> {
        self.at(key, self.revision)
    }

    fn at(&self, key: &[u8], at: Revision) -> Option<KeyValue> {
        let versions = self.history.get(key)?;
        versions.iter().rev().find(|(revision, _)| *revision <= at)?.1.clone()
    }

    fn range(&self, request: RangeRequest) -> StoreResult<RangeResponse> {
        let at = request.at.unwrap_or(self.revision);
        if at > self.revision {
            return Err(StoreError::FutureRevision { requested: at, current: self.revision });
        }
        if at < self.compacted {
            return Err(StoreError::Compacted { compact_revision: self.compacted });
        }
        let range = KeyRange::new(request.start, request.end);
        let mut kvs: Vec<KeyValue> = self
            .history
            .keys()
            .filter(|key| range.contains(key))
            .filter_map(|key| self.at(key, at))
            .collect();
        let count = kvs.len();
        if request.count_only {
            kvs.clear();
        } else if request.limit > 0 {
            kvs.truncate(request.limit);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        let more = !request.count_only && kvs.len() < count;
        Ok(RangeResponse { kvs, count: count as u64, more, revision: self.revision })
    }

    fn txn(&mut self, txn: &Txn) -> StoreResult<TxnOutcome> {
        if txn.ops.len() > MAX_TXN_OPS {
            return Err(StoreError::TooManyOps { count: txn.ops.len(), limit: MAX_TXN_OPS });
        }
        let mut keys = BTreeSet::new();
        for op in &txn.ops {
            if !keys.insert(op.key()) {
                return Err(StoreError::DuplicateKey { key: op.key().clone() });
            }
        }
        let holds = |compare: &Compare| {
            self.current(&compare.key).map_or(Revision::ZERO, |kv| kv.mod_revision) == compare.mod_revision
        };
        if !txn.compare.iter().all(holds) {
            let current = txn.compare.iter().map(|compare| self.current(&compare.key)).collect();
            return Ok(TxnOutcome::Conflict { revision: self.revision, current });
        }
        for op in &txn.ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && !self.leases.contains_key(lease)
            {
                return Err(StoreError::LeaseNotFound(*lease));
            }
        }
        Ok(self.commit(&txn.ops))
    }

    fn commit(&mut self, ops: &[Op]) -> TxnOutcome {
        let revision = self.revision.next();
        let previous: Vec<_> = ops.iter().map(|op| self.current(op.key())).collect();
        let mut effective = false;
        for (op, previous) in ops.iter().zip(&previous) {
            let event = match op {
                Op::Put { key, value, lease } => Event::Put {
                    kv: KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: previous.as_ref().map_or(1, |kv| kv.version + 1),
                        lease: *lease,
                    },
                    previous: previous.clone(),
                },
                Op::Delete { .. } if previous.is_none() => continue,
                Op::Delete { key } => {
                    Event::Delete { key: key.clone(), revision, previous: previous.clone() }
                }
            };
            effective = true;
            let version = if let Event::Put { kv, .. } = &event { Some(kv.clone()) } else { None };
            self.history.entry(op.key().clone()).or_default().push((revision, version));
            self.log.push(event);
        }
        if effective {
            self.revision = revision;
        }
        TxnOutcome::Committed { revision: self.revision, previous }
    }

    fn end_lease(&mut self, id: LeaseId) {
        self.leases.remove(&id);
        let attached = |kv: &KeyValue| kv.lease == Some(id);
        let keys: Vec<Bytes> = self
            .history
            .keys()
            .filter(|key| self.current(key).as_ref().is_some_and(attached))
            .cloned()
            .collect();
        let ops: Vec<Op> = keys.into_iter().map(|key| Op::Delete { key }).collect();
        self.commit(&ops);
    }

    fn compact(&mut self, at: Revision) -> StoreResult<()> {
        if at <= self.compacted {
            return Err(StoreError::Compacted { compact_revision: self.compacted });
        }
        if at > self.revision {
            return Err(StoreError::FutureRevision { requested: at, current: self.revision });
        }
        self.compacted = at;
        Ok(())
    }

    fn grant(&mut self, ttl_ms: u64) -> LeaseId {
        let id = LeaseId((nauplius_base::id::random_u64() >> 1) as i64);
        let ttl = Duration::from_millis(ttl_ms);
        let deadline = self.clock.now() + ttl;
        self.leases.insert(id, Lease { ttl, deadline });
        id
    }

    fn events_from(&self, from: Revision, range: &KeyRange, previous: bool) -> Vec<Event> {
        let start = self.log.partition_point(|event| event.revision() < from);
        let wanted = self.log[start..].iter().filter(|event| range.contains(event.key()));
        wanted.map(|event| if previous { event.clone() } else { event.without_previous() }).collect()
    }
}

impl Store for ModelStore {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>> {
        self.with(|state| state.range(request))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, StoreResult<TxnOutcome>> {
        self.with(|state| state.txn(&txn))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, StoreResult<WatchStream>> {
        self.with(|state| {
            let from = request.from.unwrap_or(state.revision.next());
            if from < state.compacted {
                return Err(StoreError::Compacted { compact_revision: state.compacted });
            }
            let source = ModelWatch {
                store: self.clone(),
                range: KeyRange::new(request.start, request.end),
                from,
                previous: request.previous,
                asked: Arc::new(AtomicBool::new(false)),
            };
            Ok(WatchStream::new(state.revision, Box::new(source)))
        })
    }

    fn compact(&self, at: Revision) -> BoxFuture<'_, StoreResult<()>> {
        self.with(|state| state.compact(at))
    }

    fn revision(&self) -> BoxFuture<'_, StoreResult<Revision>> {
        self.with(|state| Ok(state.revision))
    }

    fn lease_grant(&self, ttl_ms: u64) -> BoxFuture<'_, StoreResult<LeaseId>> {
        self.with(|state| Ok(state.grant(ttl_ms)))
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>> {
        self.with(|state| {
            let now = state.clock.now();
            let found = state.leases.get_mut(&lease).ok_or(StoreError::LeaseNotFound(lease))?;
            found.deadline = now + found.ttl;
            Ok(())
        })
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, StoreResult<()>> {
        self.with(|state| {
            if !state.leases.contains_key(&lease) {
                return Err(StoreError::LeaseNotFound(lease));
            }
            state.end_lease(lease);
            Ok(())
        })
    }

    fn size_bytes(&self) -> BoxFuture<'_, StoreResult<u64>> {
        self.with(|state| Ok(state.log.iter().map(|event| event.footprint() as u64).sum()))
    }
}

struct ModelWatch {
    store: ModelStore,
    range: KeyRange,
    from: Revision,
    previous: bool,
    asked: Arc<AtomicBool>,
}

impl ModelWatch {
    fn poll_now(&mut self) -> Option<StoreResult<WatchMessage>> {
        let state = self.store.lock();
        if self.from < state.compacted && self.from <= state.revision {
            return Some(Err(StoreError::Compacted { compact_revision: state.compacted }));
        }
        let revision = state.revision;
        let events = state.events_from(self.from, &self.range, self.previous);
        self.from = self.from.max(revision.next());
        if !events.is_empty() {
            return Some(Ok(WatchMessage::Events { events, revision }));
        }
        self.asked.swap(false, Ordering::SeqCst).then_some(Ok(WatchMessage::Progress { revision }))
    }
}

impl WatchSource for ModelWatch {
    fn next(&mut self) -> BoxFuture<'_, StoreResult<WatchMessage>> {
        Box::pin(async move {
            let changed = Arc::clone(&self.store.changed);
            loop {
                let waiting = changed.notified();
                if let Some(message) = self.poll_now() {
                    return message;
                }
                waiting.await;
            }
        })
    }

    fn progress(&self) -> ProgressHandle {
        let (asked, changed) = (Arc::clone(&self.asked), Arc::clone(&self.store.changed));
        ProgressHandle::new(move || {
            asked.store(true, Ordering::SeqCst);
            changed.notify_waiters();
        })
    }
}
