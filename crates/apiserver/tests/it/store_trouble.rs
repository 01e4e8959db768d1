//! What clients are told when the disk of the store is full or fails, and that reads and watches go on meanwhile.

use crate::support::{config_map, over_store};
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::faults::{Disk, Plan};
use serde_json::{Value, json};
use std::sync::Arc;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const NAMESPACE: &str = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default"}}"#;

async fn store_on(disk: &Disk, directory: &tempfile::TempDir) -> EmbeddedStore {
    let options = Options { vfs: Some(disk.vfs()), ..Options::default() };
    EmbeddedStore::open(directory.path(), options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_serves_reads_and_is_forgotten() {
    let (disk, directory) = (Disk::new(1), tempfile::tempdir().unwrap());
    let server = over_store(Arc::new(store_on(&disk, &directory).await)).await;
    server.post("/api/v1/namespaces", &serde_json::from_str(NAMESPACE).unwrap()).await;
    let big = |name: &str| config_map(name, &json!({}), &json!({"text": "x".repeat(20_000)}));
    server.post(MAPS, &big("first")).await.expect(201);
    let mut watch = server.watch(&format!("{MAPS}?watch=true")).await;
    assert!(watch.line().await.starts_with("ADDED first"));

    disk.plan(Plan { capacity: Some(disk.bytes() + 300_000), ..Plan::default() });
    let mut written = 0;
    let refused = loop {
        let answer = server.post(MAPS, &big(&format!("map-{written}"))).await;
        if answer.code.as_u16() != 201 {
            break answer;
        }
        written += 1;
        assert!(written < 100, "it never fills");
    };
    let status = refused.expect(507);
    assert_eq!((&status["reason"], &status["status"]), (&json!("InsufficientStorage"), &json!("Failure")));
    assert_eq!(
        status["message"],
        "the cluster's store has no space left: its disk is full, or its quota is used up; nothing was written"
    );
    let patch = json!({"data": {"text": "y".repeat(40_000)}});
    let refused = server.patch(&format!("{MAPS}/first"), "application/merge-patch+json", &patch).await;
    assert_eq!(refused.code.as_u16(), 507);

    assert_eq!(server.get(MAPS).await.expect(200)["items"].as_array().unwrap().len(), written + 1);
    server.get(&format!("{MAPS}/first")).await.expect(200);
    for number in 0..written {
        assert!(watch.line().await.starts_with(&format!("ADDED map-{number}@")));
    }
    disk.plan(Plan::default());
    server.post(MAPS, &big("after")).await.expect(201);
    assert!(watch.line().await.starts_with("ADDED after@"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_writes_are_refused_and_reads_go_on() {
    let (disk, directory) = (Disk::new(2), tempfile::tempdir().unwrap());
    let server = over_store(Arc::new(store_on(&disk, &directory).await)).await;
    server.post("/api/v1/namespaces", &serde_json::from_str(NAMESPACE).unwrap()).await;
    let map = |name: &str| config_map(name, &json!({}), &json!({}));
    server.post(MAPS, &map("kept")).await.expect(201);
    disk.plan(Plan { fail_sync: Some(1), ..Plan::default() });
    for name in ["lost", "refused"] {
        let refused = server.post(MAPS, &map(name)).await;
        assert_eq!(refused.refusal(), "503 the cluster's store is unavailable");
    }
    let items = server.get(MAPS).await.expect(200)["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 1, "what was not acknowledged is not shown");
}

/// A map whose many keys make its managed fields larger than itself.
fn wide(name: &str, keys: usize) -> Value {
    let data: serde_json::Map<String, Value> =
        (0..keys).map(|key| (format!("a-key-of-many-{key:05}"), "".into())).collect();
    config_map(name, &json!({}), &data.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_stored_without_its_managed_fields() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { txn_bytes: 500_000, ..Options::default() };
    let server = over_store(Arc::new(EmbeddedStore::open(directory.path(), options).await.unwrap())).await;
    server.post("/api/v1/namespaces", &serde_json::from_str(NAMESPACE).unwrap()).await;
    let small = server.post(MAPS, &wide("small", 10)).await.expect(201);
    assert_eq!(small["metadata"]["managedFields"].as_array().map(Vec::len), Some(1));
    let made = server.post(MAPS, &wide("wide", 12_000)).await.expect(201);
    assert_eq!(made["metadata"].get("managedFields"), None);
    let path = format!("{MAPS}/small");
    let put = server.put(&path, &wide("small", 12_001)).await.expect(200);
    assert_eq!(
        (put["metadata"].get("managedFields"), put["data"].as_object().unwrap().len()),
        (None, 12_001)
    );
    assert_eq!(server.get(&path).await.expect(200), put);
    let patched = server
        .patch(&path, "application/merge-patch+json", &json!({"data": {"more": "x"}}))
        .await
        .expect(200);
    assert_eq!((patched["metadata"].get("managedFields"), &patched["data"]["more"]), (None, &json!("x")));
    // Whoever applies is to own what they apply, so it is refused.
    let apply = format!("{MAPS}/applied?fieldManager=m");
    let refused = server.patch(&apply, "application/apply-patch+yaml", &wide("applied", 12_000)).await;
    assert_eq!(refused.code.as_u16(), 413, "{}", refused.refusal());
    let refused = server.post(MAPS, &wide("wider", 30_000)).await;
    assert_eq!(refused.code.as_u16(), 413, "{}", refused.refusal());
}
