//! What every store promises, on each of them: the embedded one, the same with hardly any memory for watchers, and etcd.

use crate::embedded::put;
use bytes::Bytes;
use nauplius_base::{task, time};
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::etcd_process::EtcdProcess;
use nauplius_store::{
    Compare, Event, LeaseId, Op, RangeRequest, Revision, Store, StoreError, Txn, TxnOutcome, WatchMessage,
    WatchRequest, WatchStream,
};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// A store and what it lives on.
pub struct Backend {
    pub name: &'static str,
    pub store: Arc<dyn Store>,
    _keep: Box<dyn Any + Send>,
}

async fn embedded(name: &'static str, ring_bytes: usize) -> Backend {
    let scratch = tempfile::tempdir().unwrap();
    let options = Options { ring_bytes, ..Options::default() };
    let store = Arc::new(EmbeddedStore::open(scratch.path(), options).await.unwrap());
    Backend { name, store, _keep: Box::new(scratch) }
}

/// Every store there is; a line says so where etcd is missing.
pub async fn backends(test: &str) -> Vec<Backend> {
    let mut all = vec![embedded("embedded", 4 << 20).await, embedded("embedded, small ring", 500).await];
    if let Some(etcd) = EtcdProcess::start(test, &["--max-txn-ops", "1000"]).await {
        let store = Arc::new(etcd.store("", "/test/").await.unwrap());
        all.push(Backend { name: "etcd", store, _keep: Box::new(etcd) });
    }
    all
}

pub async fn committed(store: &dyn Store, ops: Vec<Op>) -> Revision {
    match store.txn(Txn { compare: vec![], ops }).await.unwrap() {
        TxnOutcome::Committed { revision, .. } => revision,
        conflict @ TxnOutcome::Conflict { .. } => panic!("{conflict:?}"),
    }
}

/// The next `count` events.
pub async fn events(watch: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let message =
            time::timeout(Duration::from_secs(30), watch.next()).await.expect("an event in time").unwrap();
        if let WatchMessage::Events { events, .. } = message {
            seen.extend(events);
        }
    }
    seen
}

/// Clients that increment counters with compares, while a watcher from the start and one from now on look on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_and_watchers_see_one_order() {
    const CLIENTS: usize = 16;
    const WRITES: usize = 40;
    for Backend { name, store, .. } in &backends("concurrent_writers_and_watchers_see_one_order").await {
        let first = store.revision().await.unwrap().next();
        let mut live = store.watch(WatchRequest::prefix("counter/", None)).await.unwrap();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let store = Arc::clone(store);
                task::spawn("client", async move {
                    for _ in 0..WRITES {
                        increment(&*store, &format!("counter/{}", client % 3)).await;
                    }
                })
            })
            .collect();
        let seen = events(&mut live, CLIENTS * WRITES).await;
        for client in clients {
            client.await.unwrap();
        }
        let revisions: Vec<i64> = seen.iter().map(|event| event.revision().0).collect();
        assert_eq!(revisions, (first.0..first.0 + (CLIENTS * WRITES) as i64).collect::<Vec<_>>(), "{name}");
        for event in &seen {
            let Event::Put { kv, previous } = event else { panic!("{event:?}") };
            let before = previous.as_ref().map_or(0, |kv| number(&kv.value));
            assert_eq!(number(&kv.value), before + 1, "a lost update");
            assert_eq!(kv.version, before + 1);
        }
        let mut replayed = store.watch(WatchRequest::prefix("counter/", Some(first))).await.unwrap();
        assert_eq!(events(&mut replayed, seen.len()).await, seen);
    }
}

fn number(value: &[u8]) -> i64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

async fn increment(store: &dyn Store, key: &str) {
    let key = Bytes::from(key.to_owned());
    let mut current = store.range(RangeRequest::key(key.clone())).await.unwrap().kvs.pop();
    loop {
        let mod_revision = current.as_ref().map_or(Revision::ZERO, |kv| kv.mod_revision);
        let value = (current.as_ref().map_or(0, |kv| number(&kv.value)) + 1).to_string().into();
        let txn = Txn {
            compare: vec![Compare { key: key.clone(), mod_revision }],
            ops: vec![Op::Put { key: key.clone(), value, lease: None }],
        };
        match store.txn(txn).await.unwrap() {
            TxnOutcome::Committed { .. } => return,
            TxnOutcome::Conflict { current: mut compared, .. } => current = compared.remove(0),
        }
    }
}

#[tokio::test]
async fn a_watch_that_is_cancelled_loses_nothing() {
    for Backend { store, .. } in &backends("a_watch_that_is_cancelled_loses_nothing").await {
        let first = store.revision().await.unwrap().next();
        for number in 0..50 {
            committed(&**store, vec![put("a", number.to_string())]).await;
        }
        let mut watch = store.watch(WatchRequest::prefix("", Some(first))).await.unwrap();
        let mut seen = 0;
        while seen < 50 {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                message = watch.next() => {
                    let WatchMessage::Events { events, .. } = message.unwrap() else { continue };
                    for event in events {
                        assert_eq!(event.revision(), Revision(first.0 + seen));
                        seen += 1;
                    }
                }
            }
        }
    }
}

/// Several pages of the log, with revisions that are larger than what is left of a page.
#[tokio::test]
async fn a_replay_delivers_whole_revisions() {
    const KEYS: usize = 300;
    for Backend { name, store, .. } in &backends("a_replay_delivers_whole_revisions").await {
        let first = store.revision().await.unwrap().next();
        for _ in 0..5 {
            committed(&**store, (0..KEYS).map(|key| put(&format!("{key:03}"), "x")).collect()).await;
        }
        let mut watch = store.watch(WatchRequest::prefix("", Some(first))).await.unwrap();
        let mut next = first;
        while next.0 < first.0 + 5 {
            let WatchMessage::Events { events, revision } = watch.next().await.unwrap() else { continue };
            assert_eq!(
                events.len(),
                KEYS * (revision.0 - next.0 + 1) as usize,
                "{name}: {next} to {revision}"
            );
            assert!(events.is_sorted_by_key(|event| (event.revision(), event.key().clone())));
            next = revision.next();
        }
    }
}

#[tokio::test]
async fn progress_is_told_while_a_reader_waits() {
    for Backend { name, store, .. } in &backends("progress_is_told_while_a_reader_waits").await {
        let mut watch = store.watch(WatchRequest::prefix("idle/", None)).await.unwrap();
        let progress = watch.progress();
        let waiting = task::spawn("reader", async move { watch.next().await });
        let revision = committed(&**store, vec![put("busy/a", "1")]).await;
        progress.request();
        let message = time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
        let Ok(WatchMessage::Progress { revision: told }) = message else { panic!("{name}: {message:?}") };
        assert!(told >= revision, "{name}: {told} {revision}");
        assert_eq!(
            store.range(RangeRequest::prefix("")).await.unwrap().count,
            1,
            "{name} shows nothing else"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    for Backend { name, store, .. } in &backends("what_cannot_be_done_is_refused").await {
        let twice = vec![put("a", "1"), Op::Delete { key: "a".into() }];
        let refused = store.txn(Txn { compare: vec![], ops: twice }).await;
        assert_eq!(refused, Err(StoreError::DuplicateKey { key: "a".into() }), "{name}");
        let long = put(&"k".repeat(5000), "x");
        let refused = store.txn(Txn { compare: vec![], ops: vec![long] }).await;
        assert_eq!(refused, Err(StoreError::TooLarge { size: 5000, limit: 4096 }), "{name}");
        let huge = put("huge", vec![0; 9 << 20]);
        let refused = store.txn(Txn { compare: vec![], ops: vec![huge] }).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{name}: {refused:?}");
        let current = store.revision().await.unwrap();
        let requested = Revision(current.0 + 9);
        let future = RangeRequest { at: Some(requested), ..RangeRequest::key("a") };
        let refused = StoreError::FutureRevision { requested, current };
        assert_eq!(store.range(future).await, Err(refused.clone()), "{name}");
        assert_eq!(store.compact(requested).await, Err(refused), "{name}");
        let lease = LeaseId(77);
        let ops = vec![Op::Put { key: "a".into(), value: "x".into(), lease: Some(lease) }];
        assert_eq!(
            store.txn(Txn { compare: vec![], ops }).await,
            Err(StoreError::LeaseNotFound(lease)),
            "{name}"
        );
        assert_eq!(store.revision().await, Ok(current), "{name}");
    }
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_takes_its_keys_along() {
    for Backend { name, store, .. } in &backends("a_lease_ends_by_itself_and_takes_its_keys_along").await {
        let lease = store.lease_grant(1000).await.unwrap();
        let mut watch = store.watch(WatchRequest::prefix("", None)).await.unwrap();
        let leased = |key: &'static str| Op::Put { key: key.into(), value: "x".into(), lease: Some(lease) };
        committed(&**store, vec![leased("a"), leased("b"), put("c", "stays")]).await;
        store.lease_keep_alive(lease).await.unwrap();
        let seen = events(&mut watch, 5).await;
        let gone: Vec<_> = seen[3..].iter().map(|event| (event.key().clone(), event.revision())).collect();
        assert!(seen[3..].iter().all(|event| matches!(event, Event::Delete { .. })), "{name}: {seen:?}");
        assert_eq!((&gone[0].0, &gone[1].0), (&Bytes::from("a"), &Bytes::from("b")), "{name}");
        assert_eq!(store.lease_keep_alive(lease).await, Err(StoreError::LeaseNotFound(lease)), "{name}");
        assert_eq!(store.range(RangeRequest::prefix("")).await.unwrap().count, 1, "{name}");
    }
}

/// More than a gRPC message may usually hold, whole and in pages, now and in the past.
#[tokio::test]
async fn large_ranges_are_read() {
    const KEYS: usize = 3000;
    for Backend { name, store, .. } in &backends("large_ranges_are_read").await {
        let mut last = Revision::ZERO;
        for chunk in 0..KEYS / 250 {
            let keys =
                (chunk * 250..(chunk + 1) * 250).map(|key| put(&format!("{key:05}"), vec![b'x'; 4000]));
            last = committed(&**store, keys.collect()).await;
        }
        committed(&**store, vec![put("00000", "changed"), Op::Delete { key: "02999".into() }]).await;
        let check = |response: &nauplius_store::RangeResponse, kvs: usize, count: usize, bytes: usize| {
            assert_eq!((response.kvs.len(), response.count), (kvs, count as u64), "{name}");
            assert_eq!(response.more, kvs < count, "{name}");
            assert!(response.kvs.is_sorted_by_key(|kv| kv.key.clone()), "{name}");
            assert_eq!(response.kvs.iter().map(|kv| kv.value.len()).sum::<usize>(), bytes, "{name}");
        };
        let now = store.range(RangeRequest::prefix("0")).await.unwrap();
        check(&now, KEYS - 1, KEYS - 1, (KEYS - 2) * 4000 + 7);
        let past = RangeRequest { at: Some(last), ..RangeRequest::prefix("0") };
        check(&store.range(past.clone()).await.unwrap(), KEYS, KEYS, KEYS * 4000);
        let page = RangeRequest { limit: 2100, ..past.clone() };
        check(&store.range(page).await.unwrap(), 2100, KEYS, 2100 * 4000);
        let uncounted = RangeRequest { limit: 100, uncounted: true, ..past.clone() };
        for request in [uncounted.clone(), RangeRequest { at: None, ..uncounted }] {
            let page = store.range(request).await.unwrap();
            assert!(page.kvs.len() == 100 && page.more && page.count > 100, "{name}: {}", page.count);
        }
        let rest = RangeRequest { start: "02990".into(), limit: 100, uncounted: true, ..past.clone() };
        let rest = store.range(rest).await.unwrap();
        assert_eq!((rest.kvs.len(), rest.more), (10, false), "{name}");
        let names = RangeRequest { keys_only: true, ..past };
        check(&store.range(names).await.unwrap(), KEYS, KEYS, 0);
        let mut watch = store.watch(WatchRequest::prefix("", Some(Revision(last.0 - 11)))).await.unwrap();
        assert_eq!(events(&mut watch, KEYS + 2).await.len(), KEYS + 2);
    }
}

/// Leases live by a clock that nobody sets.
#[tokio::test]
async fn jumps_of_the_wall_clock_neither_end_nor_extend_a_lease() {
    const DAY_MS: i64 = 86_400_000;
    for Backend { name, store, .. } in &backends("jumps_of_the_wall_clock").await {
        let (long, short) =
            (store.lease_grant(600_000).await.unwrap(), store.lease_grant(1000).await.unwrap());
        let mut watch = store.watch(WatchRequest::prefix("", None)).await.unwrap();
        let leased =
            |key: &'static str, lease| Op::Put { key: key.into(), value: "x".into(), lease: Some(lease) };
        time::set_wall_offset_ms(DAY_MS);
        committed(&**store, vec![leased("long", long), leased("short", short)]).await;
        time::set_wall_offset_ms(-DAY_MS);
        let seen = events(&mut watch, 3).await;
        assert!(matches!(&seen[2], Event::Delete { key, .. } if key == "short"), "{name}: {seen:?}");
        time::set_wall_offset_ms(DAY_MS);
        store.lease_keep_alive(long).await.unwrap();
        assert_eq!(store.range(RangeRequest::prefix("")).await.unwrap().count, 1, "{name}");
        time::set_wall_offset_ms(0);
    }
}

#[tokio::test]
async fn history_that_was_compacted_is_gone_and_the_rest_is_exact() {
    for Backend { name, store, .. } in &backends("history_that_was_compacted_is_gone").await {
        let mut revisions = Vec::new();
        for number in 0..10 {
            revisions.push(committed(&**store, vec![put("a", number.to_string())]).await);
        }
        let border = revisions[5];
        store.compact(border).await.unwrap();
        let refused = StoreError::Compacted { compact_revision: border };
        assert_eq!(store.compact(border).await, Err(refused.clone()), "{name}");
        let at = |revision| RangeRequest { at: Some(revision), ..RangeRequest::key("a") };
        assert_eq!(store.range(at(revisions[4])).await, Err(refused.clone()), "{name}");
        assert_eq!(store.range(at(border)).await.unwrap().kvs[0].value, "5", "{name}");
        let late = store.watch(WatchRequest::prefix("", Some(revisions[4]))).await;
        assert_eq!(late.err(), Some(refused), "{name}");
        let mut watch = store.watch(WatchRequest::prefix("", Some(border))).await.unwrap();
        assert_eq!(events(&mut watch, 5).await.len(), 5, "{name}");
    }
}
