//! The embedded store alone: restarts, live watches, leases, compaction and its own clean-up.

use crate::suite::events;
use bytes::Bytes;
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::{
    Event, ManualClock, Op, RangeRequest, Revision, Store, StoreError, Txn, TxnOutcome, WatchRequest,
};

pub fn put(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Put { key: key.to_owned().into(), value: value.into(), lease: None }
}

pub async fn commit(store: &EmbeddedStore, ops: Vec<Op>) -> Revision {
    match store.txn(Txn { compare: vec![], ops }).await.unwrap() {
        TxnOutcome::Committed { revision, .. } => revision,
        conflict @ TxnOutcome::Conflict { .. } => panic!("{conflict:?}"),
    }
}

async fn get(store: &EmbeddedStore, key: &str) -> Option<Bytes> {
    store.range(RangeRequest::key(key.to_owned())).await.unwrap().kvs.pop().map(|kv| kv.value)
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(scratch.path(), Options::default()).await.unwrap();
    assert_eq!(store.revision().await, Ok(Revision(1)));
    assert_eq!(commit(&store, vec![put("a", "1"), put("b", "2")]).await, Revision(2));
    store.clone().close().await.unwrap();
    assert_eq!(store.range(RangeRequest::key("a")).await, Err(StoreError::Closed));
    assert_eq!(store.txn(Txn::default()).await, Err(StoreError::Closed));
    assert_eq!(store.revision().await, Err(StoreError::Closed));

    let store = EmbeddedStore::open(scratch.path(), Options::default()).await.unwrap();
    assert_eq!(get(&store, "b").await.unwrap(), "2");
    assert_eq!(commit(&store, vec![Op::Delete { key: "a".into() }]).await, Revision(3));
    assert!(store.check().await.unwrap().is_ok());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_second_opener_is_told_so() {
    let scratch = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(scratch.path(), Options::default()).await.unwrap();
    let second = EmbeddedStore::open(scratch.path(), Options::default()).await.err();
    assert_eq!(second, Some(StoreError::InUse { path: scratch.path().to_owned() }));
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_files_live_in_the_vfs_that_was_named() {
    let scratch = tempfile::tempdir().unwrap();
    let named = |vfs: &str| Options { vfs: Some(vfs.to_owned()), ..Options::default() };
    assert!(EmbeddedStore::open(scratch.path(), named("no-such-vfs")).await.is_err());
    let store = EmbeddedStore::open(scratch.path(), named("unix-excl")).await.unwrap();
    commit(&store, vec![put("a", "1")]).await;
    assert_eq!(get(&store, "a").await.unwrap(), "1");
    assert!(!scratch.path().join("store.db-shm").exists(), "this VFS keeps its index of the log in memory");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_transaction_over_the_limit_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let options = Options { txn_bytes: 100, ..Options::default() };
    let store = EmbeddedStore::open(scratch.path(), options).await.unwrap();
    let refused = store.txn(Txn { compare: vec![], ops: vec![put("a", vec![0; 100])] }).await;
    assert_eq!(refused, Err(StoreError::TooLarge { size: 101, limit: 100 }));
    store.close().await.unwrap();
}

#[tokio::test]
async fn leases_outlive_a_restart_and_end_by_themselves() {
    let scratch = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let options = || Options { clock: clock.clock(), ..Options::default() };
    let store = EmbeddedStore::open(scratch.path(), options()).await.unwrap();
    let lease = store.lease_grant(1000).await.unwrap();
    let leased = |key: &'static str| Op::Put { key: key.into(), value: "x".into(), lease: Some(lease) };
    commit(&store, vec![leased("a"), leased("b"), leased("c"), put("d", "stays")]).await;
    commit(&store, vec![put("c", "no longer attached")]).await;
    clock.advance(900);
    store.close().await.unwrap();

    let store = EmbeddedStore::open(scratch.path(), options()).await.unwrap();
    clock.advance(900);
    store.expire_leases().await.unwrap();
    assert!(get(&store, "a").await.is_some(), "the restart gave it its whole time again");
    let mut watch = store.watch(WatchRequest::prefix("", None)).await.unwrap();
    clock.advance(100);
    store.expire_leases().await.unwrap();
    let ended = events(&mut watch, 2).await;
    assert!(
        ended.iter().all(|event| matches!(event, Event::Delete { revision: Revision(4), .. })),
        "{ended:?}"
    );
    assert_eq!(store.lease_keep_alive(lease).await, Err(StoreError::LeaseNotFound(lease)));
    let late = store.txn(Txn { compare: vec![], ops: vec![leased("e")] }).await;
    assert_eq!(late, Err(StoreError::LeaseNotFound(lease)));
    assert_eq!(store.range(RangeRequest::prefix("")).await.unwrap().count, 2);
    assert!(store.check().await.unwrap().is_ok());
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_files_stay_bounded() {
    const VALUE_BYTES: usize = 4000;
    let scratch = tempfile::tempdir().unwrap();
    let options = Options { checkpoint_pages: 256, ..Options::default() };
    let store = EmbeddedStore::open(scratch.path(), options).await.unwrap();
    let mut sizes = Vec::new();
    for _ in 0..6 {
        for batch in 0..40 {
            let keys = (0..25).map(|key| put(&format!("key-{}", batch % 4 * 25 + key), vec![0; VALUE_BYTES]));
            commit(&store, keys.collect()).await;
        }
        store.compact(store.revision().await.unwrap()).await.unwrap();
        store.settle().await.unwrap();
        sizes.push(store.size_bytes().await.unwrap());
    }
    assert!(sizes[5] <= sizes[1] + sizes[1] / 20, "{sizes:?}");
    let report = store.check().await.unwrap();
    assert!(report.is_ok(), "{report:?}");
    // The newest of each key; what the compacted revision itself replaced is kept for watches from there.
    assert_eq!((report.keys, report.changes), (100, 125));
    store.close().await.unwrap();
}

/// Nobody waits for clean-up or asks for it: what runs beside the writes keeps the files small. The long form is `examples/churn.rs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_without_end_stay_within_bounds() {
    const VALUE_BYTES: usize = 1000;
    const ROUNDS: i64 = 4000;
    let scratch = tempfile::tempdir().unwrap();
    let options = Options { checkpoint_pages: 256, ..Options::default() };
    let store = EmbeddedStore::open(scratch.path(), options).await.unwrap();
    let files = || -> u64 {
        let entries = std::fs::read_dir(scratch.path()).unwrap();
        entries.map(|entry| entry.unwrap().metadata().map_or(0, |file| file.len())).sum()
    };
    let mut largest = 0;
    for round in 0..ROUNDS {
        let key = |index: i64| put(&format!("key-{:03}", (round * 10 + index) % 1000), vec![7; VALUE_BYTES]);
        let revision = commit(&store, (0..10).map(key).collect()).await;
        if round % 100 == 99 {
            store.compact(Revision(revision.0 - 100)).await.unwrap();
            largest = largest.max(files());
        }
    }
    let written = ROUNDS as u64 * 10 * VALUE_BYTES as u64;
    assert!(largest < written / 2, "{largest} bytes for {written} written");
    store.settle().await.unwrap();
    assert!(store.check().await.unwrap().is_ok());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_spike_is_given_back() {
    let scratch = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(scratch.path(), Options::default()).await.unwrap();
    for number in 0..20 {
        commit(&store, vec![put(&format!("big-{number}"), vec![7; 1 << 20])]).await;
    }
    let large = store.size_bytes().await.unwrap();
    let keys = (0..20).map(|number| Op::Delete { key: format!("big-{number}").into() });
    commit(&store, keys.collect()).await;
    let last = commit(&store, vec![put("small", "x")]).await;
    store.compact(last).await.unwrap();
    store.settle().await.unwrap();
    let small = store.size_bytes().await.unwrap();
    assert!(large > 20 << 20 && small < 8 << 20, "{large} then {small}");
    assert!(store.check().await.unwrap().is_ok());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_value_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(scratch.path(), Options::default()).await.unwrap();
    commit(&store, vec![put("a", "precious")]).await;
    store.close().await.unwrap();
    let file = scratch.path().join("store.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(8).position(|window| window == b"precious").unwrap();
    bytes[at] = b'q';
    std::fs::write(&file, bytes).unwrap();

    let store = EmbeddedStore::open(scratch.path(), Options::default()).await.unwrap();
    assert!(matches!(store.range(RangeRequest::key("a")).await, Err(StoreError::Corrupt { .. })));
    assert_eq!(store.check().await.unwrap().problems.len(), 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_gone_or_empty_is_no_new_one() {
    for lose in [
        |file: &std::path::Path| std::fs::remove_file(file),
        |file: &std::path::Path| std::fs::write(file, b""),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        EmbeddedStore::open(scratch.path(), Options::default()).await.unwrap().close().await.unwrap();
        for name in ["store.db-wal", "store.db-shm"] {
            // There may be none.
            let _ = std::fs::remove_file(scratch.path().join(name));
        }
        lose(&scratch.path().join("store.db")).unwrap();
        let refused = EmbeddedStore::open(scratch.path(), Options::default()).await.err();
        let expected =
            StoreError::Corrupt { detail: "the database is empty or gone, and there was one".to_owned() };
        assert_eq!(refused, Some(expected));
    }
}
