//! Random histories on the embedded store and on the model: every answer and every event must be the same.

use bytes::Bytes;
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::model::ModelStore;
use nauplius_store::{
    ALL_KEYS, Compare, Event, LeaseId, ManualClock, Op, RangeRequest, Revision, Store, StoreError,
    StoreResult, Txn, WatchMessage, WatchRequest, WatchStream,
};
use proptest::prelude::*;

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

struct Pair {
    scratch: tempfile::TempDir,
    clock: ManualClock,
    real: Option<EmbeddedStore>,
    model: ModelStore,
    watches: Vec<(WatchStream, WatchStream)>,
    leases: Vec<LeaseId>,
    written: u8,
}

impl Pair {
    async fn new() -> Self {
        let clock = ManualClock::new();
        let scratch = tempfile::tempdir().unwrap();
        let mut pair = Self {
            model: ModelStore::new(clock.clock()),
            real: None,
            watches: vec![],
            leases: vec![],
            written: 0,
            scratch,
            clock,
        };
        pair.open().await;
        pair
    }

    /// With a ring so small that watchers often fall back to the disk.
    async fn open(&mut self) {
        let options = Options {
            clock: self.clock.clock(),
            ring_bytes: 1500,
            checkpoint_pages: 20,
            ..Options::default()
        };
        self.real = Some(EmbeddedStore::open(self.scratch.path(), options).await.unwrap());
    }

    fn real(&self) -> &EmbeddedStore {
        self.real.as_ref().expect("open except while reopening")
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
                let request = RangeRequest { start, end, limit, at, keys_only, count_only };
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
                self.clock.advance(by_ms);
                self.real().expire_leases().await.unwrap();
                self.model.expire_leases();
            }
            Step::Settle => self.real().settle().await.unwrap(),
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
        assert_eq!(self.real().txn(txn.clone()).await, self.model.txn(txn.clone()).await, "{txn:?}");
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
        let until = self.model.revision().await.unwrap();
        for (real, model) in std::mem::take(&mut self.watches) {
            let (mut real, mut model) = (real, model);
            match (drained(&mut real, until).await, drained(&mut model, until).await) {
                (Ok(from_real), Ok(from_model)) => {
                    assert_eq!(from_real, from_model);
                    self.watches.push((real, model));
                }
                (Err(real), Err(model)) => assert_eq!(real, model),
                (Ok(_), Err(StoreError::Compacted { .. })) => {}
                (real, model) => panic!("{real:?} instead of {model:?}"),
            }
        }
    }

    async fn reopen(&mut self) {
        self.watches.clear();
        let real = self.real.take().expect("open except while reopening");
        real.close().await.unwrap();
        self.open().await;
        self.model.restart_leases();
    }

    async fn finish(mut self) {
        self.drain().await;
        self.real().settle().await.unwrap();
        let report = self.real().check().await.unwrap();
        assert!(report.is_ok(), "{report:?}");
        self.reopen().await;
        let all = RangeRequest::prefix("");
        assert_eq!(self.real().range(all.clone()).await, self.model.range(all).await);
        self.real().clone().close().await.unwrap();
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

async fn drained(watch: &mut WatchStream, until: Revision) -> StoreResult<Vec<Event>> {
    watch.progress().request();
    let mut seen: Vec<Event> = Vec::new();
    loop {
        match watch.next().await? {
            WatchMessage::Progress { revision } => {
                assert_eq!(revision, until);
                return Ok(seen);
            }
            WatchMessage::Events { events, revision } => {
                assert!(!events.is_empty() && events.iter().all(|event| event.revision() <= revision));
                seen.extend(events);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_is_the_model(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new().await;
            for step in steps {
                pair.run(step).await;
            }
            pair.finish().await;
        });
    }
}
