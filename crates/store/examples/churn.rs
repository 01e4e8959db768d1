//! Updates without end on the embedded store, with nothing but compaction beside them: how large do the files get?
//!
//!     cargo run --release -p nauplius-store --example churn [UPDATES] [OBJECTS] [DIRECTORY]

use bytes::Bytes;
use nauplius_base::{task, time};
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::{Op, Revision, Store, StoreError, Txn};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const CLIENTS: usize = 16;
const VALUE_BYTES: usize = 1024;
/// So many revisions stay.
const KEPT: i64 = 50_000;
/// The largest files, for that history and twice its size of rows and indexes.
const LARGEST_BYTES: u64 = 400 << 20;
/// What is left of a million updates of a thousand objects, when clean-up has caught up.
const LEFT_BYTES: u64 = 40 << 20;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(default, |given| given.parse().expect("a number"));
    let (updates, objects) = (number(1_000_000_u64), number(1_000_u64));
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let path = directory.join(format!("nauplius-store-churn-{}", nauplius_base::id::suffix(8)));
    let store = EmbeddedStore::open(&path, Options::default()).await.expect("open");
    let (start, done) = (time::monotonic(), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (store, done) = (store.clone(), Arc::clone(&done));
            task::spawn("client", async move { while update(&store, &done, updates, objects).await {} })
        })
        .collect();
    let mut largest = 0;
    while done.load(Ordering::Relaxed) < updates {
        time::sleep(Duration::from_millis(250)).await;
        largest = largest.max(files(&path));
        let newest = store.revision().await.expect("revision");
        match store.compact(Revision((newest.0 - KEPT).max(1))).await {
            Ok(()) | Err(StoreError::Compacted { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    for client in clients {
        client.await.expect("client");
    }
    let took = start.elapsed();
    store.compact(store.revision().await.expect("revision")).await.expect("compact");
    store.settle().await.expect("settle");
    let left = store.size_bytes().await.expect("size");
    println!(
        "{updates} updates of {objects} objects in {took:?}: files at most {} MB, the database {} MB at the end",
        largest >> 20,
        left >> 20
    );
    assert!(store.check().await.expect("check").is_ok());
    store.close().await.expect("close");
    std::fs::remove_dir_all(&path).expect("remove the store");
    assert!(largest < LARGEST_BYTES && left < LEFT_BYTES, "the files are not bounded");
}

async fn update(store: &EmbeddedStore, done: &AtomicU64, updates: u64, objects: u64) -> bool {
    let number = done.fetch_add(1, Ordering::Relaxed);
    if number >= updates {
        return false;
    }
    let key = format!("/registry/configmaps/default/object-{:06}", number % objects).into();
    let ops = vec![Op::Put { key, value: Bytes::from(vec![b'x'; VALUE_BYTES]), lease: None }];
    store.txn(Txn { compare: vec![], ops }).await.expect("txn");
    true
}

fn files(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).expect("the store's directory");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |file| file.len())).sum()
}
