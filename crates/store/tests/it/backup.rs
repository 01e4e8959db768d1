//! Backups are made while the store serves, verified, and restored into either store; clients never see a revision twice.

use crate::embedded::put;
use crate::suite::{Backend, backends, committed};
use bytes::Bytes;
use nauplius_base::task;
use nauplius_store::backup::{self, Backup};
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::etcd_process::EtcdProcess;
use nauplius_store::{Event, Op, RangeRequest, Revision, Store, StoreError, Txn, WatchRequest};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

async fn contents(store: &dyn Store, at: Option<Revision>) -> BTreeMap<Bytes, (Bytes, bool)> {
    let all = store.range(RangeRequest { at, ..RangeRequest::prefix("") }).await.unwrap();
    all.kvs.into_iter().map(|kv| (kv.key, (kv.value, kv.lease.is_some()))).collect()
}

async fn fill(store: &dyn Store) {
    for chunk in 0..15 {
        let keys = (0..100)
            .map(|key| put(&format!("/registry/pods/{:04}", chunk * 100 + key), vec![b'x'; key * 20]));
        committed(store, keys.collect()).await;
    }
    let lease = store.lease_grant(600_000).await.unwrap();
    let key = Bytes::from("/registry/events/a");
    committed(store, vec![Op::Put { key, value: "leased".into(), lease: Some(lease) }]).await;
    committed(store, vec![Op::Delete { key: "/registry/pods/0003".into() }]).await;
}

/// What was restored, and that revisions go on above all that clients saw.
async fn check(store: &dyn Store, expected: &BTreeMap<Bytes, (Bytes, bool)>, seen: Revision) {
    assert_eq!(contents(store, None).await, *expected);
    let now = store.revision().await.unwrap();
    assert!(now > seen, "{now} {seen}");
    let oldest =
        store.range(RangeRequest::prefix("")).await.unwrap().kvs.iter().map(|kv| kv.create_revision).min();
    assert!(oldest.unwrap() > seen);
    let resumed = store.watch(WatchRequest::prefix("", Some(seen.next()))).await;
    assert!(matches!(resumed, Err(StoreError::Compacted { .. })), "a client of before must list again");
    let past = store.range(RangeRequest { at: Some(seen), ..RangeRequest::prefix("") }).await;
    assert!(matches!(past, Err(StoreError::Compacted { .. })), "{past:?}");
    let mut watch = store.watch(WatchRequest::prefix("", None)).await.unwrap();
    let next = committed(store, vec![put("/registry/new", "1")]).await;
    assert_eq!(next, now.next());
    let event = crate::suite::events(&mut watch, 1).await.remove(0);
    assert!(matches!(event, Event::Put { .. }) && event.revision() == next);
}

async fn into_embedded(file: &Path, expected: &BTreeMap<Bytes, (Bytes, bool)>, seen: Revision) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("store");
    // Into a store that is there and further on, and again.
    let store = EmbeddedStore::open(&path, Options::default()).await.unwrap();
    for _ in 0..seen.0 + 5 {
        committed(&store, vec![put("/registry/surplus", "x")]).await;
    }
    let mut newest = store.revision().await.unwrap();
    let refused = EmbeddedStore::restore(&path, Options::default(), Backup::open(file).unwrap()).await;
    assert!(matches!(refused, Err(StoreError::InUse { .. })), "{refused:?}");
    store.close().await.unwrap();
    for _ in 0..2 {
        let summary =
            EmbeddedStore::restore(&path, Options::default(), Backup::open(file).unwrap()).await.unwrap();
        assert_eq!(summary.keys, expected.len() as u64);
        let store = EmbeddedStore::open(&path, Options::default()).await.unwrap();
        assert_eq!(store.revision().await, Ok(summary.revision));
        check(&store, expected, newest).await;
        store.settle().await.unwrap();
        let report = store.check().await.unwrap();
        assert!(report.is_ok(), "{report:?}");
        newest = store.revision().await.unwrap();
        store.close().await.unwrap();
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing is left beside the store");
}

async fn into_etcd(
    etcd: &EtcdProcess,
    file: &Path,
    expected: &BTreeMap<Bytes, (Bytes, bool)>,
    seen: Revision,
) {
    let prefix = format!("/{}/", nauplius_base::id::suffix(6));
    let mut newest = seen;
    for _ in 0..2 {
        let store = etcd.store("/registry/", &prefix).await.unwrap();
        committed(&store, vec![put("/registry/surplus", "x")]).await;
        newest = newest.max(store.revision().await.unwrap());
        let summary = store.restore(&Backup::open(file).unwrap()).await.unwrap();
        let store = etcd.store("/registry/", &prefix).await.unwrap();
        assert_eq!(store.revision().await, Ok(summary.revision));
        check(&store, expected, newest).await;
        let report = store.check().await.unwrap();
        assert!(report.is_ok() && report.keys == expected.len() as u64 + 1, "{report:?}");
        newest = store.revision().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn from_either_store_to_either() {
    let test = "from_either_store_to_either";
    let target = EtcdProcess::start(test, &[]).await;
    for Backend { store, .. } in &backends(test).await {
        fill(&**store).await;
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("backup");
        // Others go on writing meanwhile.
        let (writer, stop) = (Arc::clone(store), task::CancellationToken::new());
        let stopped = stop.clone();
        let writing = task::spawn("writer", async move {
            let mut number = 0;
            while !stopped.is_cancelled() {
                number += 1;
                committed(
                    &*writer,
                    vec![put(&format!("/registry/busy/{}", number % 50), number.to_string())],
                )
                .await;
            }
        });
        let summary = backup::write(&**store, &file).await.unwrap();
        stop.cancel();
        writing.await.unwrap();
        let expected = contents(&**store, Some(summary.revision)).await;
        assert_eq!(summary.keys, expected.len() as u64);
        let opened = Backup::open(&file).unwrap();
        assert_eq!((opened.revision(), opened.keys()), (summary.revision, summary.keys));
        let seen = store.revision().await.unwrap();
        into_embedded(&file, &expected, seen).await;
        if let Some(etcd) = &target {
            into_etcd(etcd, &file, &expected, seen).await;
        }
    }
}

#[tokio::test]
async fn what_was_true_only_then_is_left_out() {
    let scratch = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&scratch.path().join("store"), Options::default()).await.unwrap();
    committed(&store, vec![put("/a/1", "x"), put("/gone/1", "x"), put("/gone/2", "x"), put("/z", "x")]).await;
    let file = scratch.path().join("backup");
    backup::write(&store, &file).await.unwrap();
    store.close().await.unwrap();
    let opened = Backup::open_leaving_out(&file, Some("/gone/".into())).unwrap();
    assert_eq!(opened.keys(), 2);
    let path = scratch.path().join("restored");
    assert_eq!(EmbeddedStore::restore(&path, Options::default(), opened).await.unwrap().keys, 2);
    let store = EmbeddedStore::open(&path, Options::default()).await.unwrap();
    let keys: Vec<_> = contents(&store, None).await.into_iter().map(|kv| kv.0).collect();
    assert_eq!(keys, ["/a/1", "/z"]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_cluster_is_removed_from_etcd_and_its_neighbour_stays() {
    let Some(etcd) = EtcdProcess::start("a_cluster_is_removed_from_etcd", &[]).await else { return };
    let one = etcd.store("/registry/", "/one/").await.unwrap();
    let other = etcd.store("/registry/", "/other/").await.unwrap();
    for store in [&one, &other] {
        committed(store, vec![put("/registry/a", "x"), put("/registry/b", "x")]).await;
    }
    assert_eq!(one.remove_all().await, Ok(2));
    assert_eq!(one.remove_all().await, Ok(0));
    assert_eq!(contents(&one, None).await.len(), 0);
    assert_eq!(contents(&other, None).await.len(), 2);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_restore_loses_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("store");
    let store = EmbeddedStore::open(&path, Options::default()).await.unwrap();
    let revision = committed(&store, vec![put("a", "precious")]).await;
    store.close().await.unwrap();
    std::fs::rename(&path, scratch.path().join("store.replaced")).unwrap();
    let store = EmbeddedStore::open(&path, Options::default()).await.unwrap();
    assert_eq!(store.revision().await, Ok(revision));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_changes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("store");
    let store = EmbeddedStore::open(&path, Options::default()).await.unwrap();
    committed(&store, vec![put("a", "precious"), put("b", vec![1; 3000])]).await;
    let file = scratch.path().join("backup");
    backup::write(&store, &file).await.unwrap();
    let whole = std::fs::read(&file).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&file, &damaged).unwrap();
        assert!(matches!(Backup::open(&file), Err(StoreError::Backup { .. })), "byte {at}");
        std::fs::write(&file, &whole[..at]).unwrap();
        assert!(matches!(Backup::open(&file), Err(StoreError::Backup { .. })), "torn at {at}");
    }
    std::fs::write(&file, "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    let refused = Backup::open(&file).map(drop).unwrap_err().to_string();
    assert_eq!(refused, "it is no backup that this program can read");
    let refused = store.txn(Txn { compare: vec![], ops: vec![put("c", "still serves")] }).await;
    assert!(refused.is_ok());
    store.close().await.unwrap();
}
