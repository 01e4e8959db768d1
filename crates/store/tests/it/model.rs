//! Random histories on a store and on the model: every answer and every event must be the same. The embedded store is also reopened,
//! settled and taken through time; those steps mean nothing to etcd.

use crate::shifted::Shifted;
use bytes::Bytes;
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::etcd_process::EtcdProcess;
use nauplius_store::model::ModelStore;
use nauplius_store::{
    ALL_KEYS, Compare, Event, LeaseId, ManualClock, Op, RangeRequest, Revision, Store, StoreError,
    StoreResult, Txn, WatchMessage, WatchRequest, WatchStream,
};
use proptest::prelude::*;
use std::sync::Arc;

const KEYS: [&str; 8] = ["", "a", "a/1", "a/2", "b", "b/1", "c\u{0}", "c\u{fffd}"];

/// Revisions are given as a distance from the newest one, so that they stay interesting.
#[derive(Debug, Clone)]
enum Step {
    Txn { compare: Vec<(usize, Guess)>, ops: Vec<(usize, Change)> },
    Range { start: usize, end: End, limit: usize, back: Option<i64>, keys_only: bool, count_only: bool },
    Watch { start: usize, end: End, back: Option<i64>, previous: bool },
    Drain,
    DropWatch(usize),
    Compact { back: i64 },
    Grant { ttl_ms: u64 },
    KeepAlive(usize),
    Revoke(usize),
    Advance { by_ms: u64 },
    Settle,
    Reopen,
}

#[derive(Debug, Clone)]
enum Guess {
    Right,
    Absent,
    Back(i64),
}

#[derive(Debug, Clone)]
enum Change {
    Put { size: usize, lease: Option<usize> },
    Delete,
}

#[derive(Debug, Clone)]
enum End {
    Single,
    At(usize),
    Open,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS.len();
    let end = || prop_oneof![Just(End::Single), key().prop_map(End::At), Just(End::Open)];
    let back = || prop_oneof![Just(None), (-1..20i64).prop_map(Some)];
    let guess =
        prop_oneof![4 => Just(Guess::Right), 1 => Just(Guess::Absent), 1 => (0..5i64).prop_map(Guess::Back)];
    let change = prop_oneof![
        3 => (0..300usize, proptest::option::weighted(0.3, 0..4usize)).prop_map(|(size, lease)| Change::Put { size, lease }),
        2 => Just(Change::Delete),
    ];
    let txn =
        (proptest::collection::vec((key(), guess), 0..3), proptest::collection::vec((key(), change), 0..4));
    prop_oneof![
        12 => txn.prop_map(|(compare, ops)| Step::Txn { compare, ops }),
        6 => (key(), end(), 0..4usize, back(), any::<bool>(), proptest::bool::weighted(0.2)).prop_map(
            |(start, end, limit, back, keys_only, count_only)| Step::Range { start, end, limit, back, keys_only, count_only }
        ),
        3 => (key(), end(), back(), any::<bool>())
            .prop_map(|(start, end, back, previous)| Step::Watch { start, end, back, previous }),
        3 => Just(Step::Drain),
        1 => (0..4usize).prop_map(Step::DropWatch),
        2 => (-1..15i64).prop_map(|back| Step::Compact { back }),
        1 => (1..2000u64).prop_map(|ttl_ms| Step::Grant { ttl_ms }),
        1 => (0..4usize).prop_map(Step::KeepAlive),
        1 => (0..4usize).prop_map(Step::Revoke),
        1 => (0..1500u64).prop_map(|by_ms| Step::Advance { by_ms }),
        1 => Just(Step::Settle),
        1 => Just(Step::Reopen),
    ]
}

/// The embedded store with what it takes to reopen it.
struct Engine {
    scratch: tempfile::TempDir,
    clock: ManualClock,
    store: EmbeddedStore,
}

impl Engine {
    async fn new() -> Self {
        let (scratch, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
        let store = Self::open(&scratch, &clock).await;
        Self { scratch, clock, store }
    }

    /// With a ring so small that watchers often fall back to the disk.
    async fn open(scratch: &tempfile::TempDir, clock: &ManualClock) -> EmbeddedStore {
        let options =
            Options { clock: clock.clock(), ring_bytes: 1500, checkpoint_pages: 20, ..Options::default() };
        EmbeddedStore::open(scratch.path(), options).await.unwrap()
    }
}

struct Pair {
    real: Arc<dyn Store>,
    /// Absent for etcd.
    engine: Option<Engine>,
    model: ModelStore,
    watches: Vec<(WatchStream, WatchStream)>,
    leases: Vec<LeaseId>,
    written: u8,
}

impl Pair {
    async fn embedded() -> Self {
        let engine = Engine::new().await;
        let model = ModelStore::new(engine.clock.clock());
        let real = Arc::new(engine.store.clone());
        Self { real, engine: Some(engine), model, watches: vec![], leases: vec![], written: 0 }
    }

    async fn etcd(etcd: &EtcdProcess) -> Self {
        let prefix = format!("/{}/", nauplius_base::id::suffix(8));
        let store = etcd.store("", &prefix).await.unwrap();
        let elsewhere = etcd.store("", "/elsewhere/").await.unwrap();
        let real = Arc::new(Shifted::begin(Arc::new(store), &elsewhere).await);
        let model = ModelStore::new(ManualClock::new().clock());
        Self { real, engine: None, model, watches: vec![], leases: vec![], written: 0 }
    }

    fn real(&self) -> &dyn Store {
        &*self.real
    }

    async fn back(&self, distance: i64) -> Revision {
        Revision((self.model.revision().await.unwrap().0 - distance).max(0))
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Txn { compare, ops } => self.txn(compare, ops).await,
            Step::Range { start, end, limit, back, keys_only, count_only } => {
                let at = if let Some(back) = back { Some(self.back(back).await) } else { None };
                let (start, end) = bounds(start, &end);
                let request = RangeRequest { start, end, limit, at, keys_only, count_only, uncounted: false };
                assert_eq!(self.real().range(request.clone()).await, self.model.range(request).await);
            }
            Step::Watch { start, end, back, previous } => self.watch(start, &end, back, previous).await,
            Step::Drain => self.drain().await,
            Step::DropWatch(index) if index < self.watches.len() => drop(self.watches.remove(index)),
            Step::DropWatch(_) => {}
            Step::Compact { back } => {
                let at = self.back(back).await;
                assert_eq!(self.real().compact(at).await, self.model.compact(at).await);
            }
            Step::Grant { ttl_ms } => {
                // etcd's clock cannot be moved, so there no lease ends by itself.
                let ttl_ms = if self.engine.is_some() { ttl_ms } else { 600_000 };
                let id = self.real().lease_grant(ttl_ms).await.unwrap();
                self.model.grant_as(id, ttl_ms);
                self.leases.push(id);
            }
            Step::KeepAlive(index) => {
                let id = self.lease(index);
                assert_eq!(self.real().lease_keep_alive(id).await, self.model.lease_keep_alive(id).await);
            }
            Step::Revoke(index) => {
                let id = self.lease(index);
                assert_eq!(self.real().lease_revoke(id).await, self.model.lease_revoke(id).await);
            }
            Step::Advance { by_ms } => {
                let Some(engine) = &self.engine else { return };
                engine.clock.advance(by_ms);
                engine.store.expire_leases().await.unwrap();
                self.model.expire_leases();
            }
            Step::Settle => {
                if let Some(engine) = &self.engine {
                    engine.store.settle().await.unwrap();
                }
            }
            Step::Reopen => self.reopen().await,
        }
        assert_eq!(self.real().revision().await, self.model.revision().await);
    }

    fn lease(&self, index: usize) -> LeaseId {
        self.leases.get(index).copied().unwrap_or(LeaseId(7))
    }

    async fn txn(&mut self, compare: Vec<(usize, Guess)>, ops: Vec<(usize, Change)>) {
        let mut txn = Txn::default();
        for (key, guess) in compare {
            let current = self.model.range(RangeRequest::key(KEYS[key])).await.unwrap().kvs.pop();
            let mod_revision = match guess {
                Guess::Right => current.map_or(Revision::ZERO, |kv| kv.mod_revision),
                Guess::Absent => Revision::ZERO,
                Guess::Back(distance) => self.back(distance).await,
            };
            txn.compare.push(Compare { key: KEYS[key].into(), mod_revision });
        }
        for (key, change) in ops {
            let key = KEYS[key].into();
            txn.ops.push(match change {
                Change::Delete => Op::Delete { key },
                Change::Put { size, lease } => {
                    self.written = self.written.wrapping_add(1);
                    let value = vec![self.written; size].into();
                    Op::Put { key, value, lease: lease.map(|index| self.lease(index)) }
                }
            });
        }
        match (self.real().txn(txn.clone()).await, self.model.txn(txn.clone()).await) {
            // etcd does not say which of several leases was lost.
            (Err(StoreError::LeaseNotFound(_)), Err(StoreError::LeaseNotFound(_))) => {}
            (real, model) => assert_eq!(real, model, "{txn:?}"),
        }
    }

    async fn watch(&mut self, start: usize, end: &End, back: Option<i64>, previous: bool) {
        let from = if let Some(back) = back { Some(self.back(back).await) } else { None };
        let (start, end) = bounds(start, end);
        let request = WatchRequest { start, end, from, previous };
        match (self.real().watch(request.clone()).await, self.model.watch(request).await) {
            (Ok(real), Ok(model)) => {
                assert_eq!(real.started_at(), model.started_at());
                self.watches.push((real, model));
            }
            (real, model) => assert_eq!(real.err(), model.err()),
        }
    }

    /// Reads every watch up to the newest revision. One that is behind may learn that its history was compacted, or
    /// may still have it from memory.
    async fn drain(&mut self) {
        let drains = self.watches.iter_mut().map(|(real, _)| drained(real));
        let from_real = futures_util::future::join_all(drains).await;
        // An older etcd tells progress by writing something elsewhere.
        self.model.skip_to(self.real().revision().await.unwrap());
        for ((real, mut model), from_real) in std::mem::take(&mut self.watches).into_iter().zip(from_real) {
            match (from_real, drained(&mut model).await) {
                (Ok((from_real, through)), Ok((from_model, newest))) => {
                    assert_eq!(from_real, from_model);
                    assert!(through <= newest, "{through} {newest}");
                    self.watches.push((real, model));
                }
                (Err(real), Err(model)) => assert_eq!(real, model),
                (Ok(_), Err(StoreError::Compacted { .. })) => {}
                (real, model) => panic!("{real:?} instead of {model:?}"),
            }
        }
    }

    async fn reopen(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        self.watches.clear();
        engine.store.clone().close().await.unwrap();
        engine.store = Engine::open(&engine.scratch, &engine.clock).await;
        self.real = Arc::new(engine.store.clone());
        self.model.restart_leases();
    }

    async fn finish(mut self) {
        self.drain().await;
        if let Some(engine) = &self.engine {
            engine.store.settle().await.unwrap();
            let report = engine.store.check().await.unwrap();
            assert!(report.is_ok(), "{report:?}");
        }
        self.reopen().await;
        let all = RangeRequest::prefix("");
        assert_eq!(self.real().range(all.clone()).await, self.model.range(all).await);
        if let Some(engine) = self.engine {
            engine.store.close().await.unwrap();
        }
    }
}

fn bounds(start: usize, end: &End) -> (Bytes, Option<Bytes>) {
    let end = match end {
        End::Single => None,
        End::At(key) => Some(KEYS[*key].into()),
        End::Open => Some(ALL_KEYS),
    };
    (KEYS[start].into(), end)
}

/// What a watch delivers until it says that this was all so far.
async fn drained(watch: &mut WatchStream) -> StoreResult<(Vec<Event>, Revision)> {
    watch.progress().request();
    let mut seen: Vec<Event> = Vec::new();
    loop {
        match watch.next().await? {
            WatchMessage::Progress { revision } => return Ok((seen, revision)),
            WatchMessage::Events { events, revision } => {
                assert!(!events.is_empty() && events.iter().all(|event| event.revision() <= revision));
                seen.extend(events);
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn run_all(mut pair: Pair, steps: Vec<Step>) {
    for step in steps {
        pair.run(step).await;
    }
    pair.finish().await;
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn the_embedded_store_is_the_model(steps in proptest::collection::vec(step(), 1..80)) {
        runtime().block_on(async { run_all(Pair::embedded().await, steps).await });
    }
}

#[test]
fn etcd_is_the_model() {
    let Some(etcd) = runtime().block_on(EtcdProcess::start("etcd_is_the_model", &[])) else { return };
    let histories = proptest::collection::vec(step(), 1..50);
    let checked = proptest::test_runner::TestRunner::new(config(12)).run(&histories, |steps| {
        runtime().block_on(async { run_all(Pair::etcd(&etcd).await, steps).await });
        Ok(())
    });
    checked.unwrap();
}
