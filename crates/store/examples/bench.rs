//! Durable commits per second of the embedded store with 1, 16 and 128 clients.
//!
//!     cargo run --release -p nauplius-store --example bench [SECONDS] [DIRECTORY]

use bytes::Bytes;
use nauplius_base::{task, time};
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::{Op, RangeRequest, Store, Txn, WatchMessage, WatchRequest};
use std::path::{Path, PathBuf};
use std::time::Duration;

const KEYS: u64 = 20_000;
const VALUE_BYTES: usize = 1024;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(5, |seconds| seconds.parse().expect("SECONDS is a number"));
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let path = directory.join(format!("nauplius-store-bench-{}", nauplius_base::id::suffix(8)));
    let store = EmbeddedStore::open(&path, Options::default()).await.expect("open");
    for clients in [1, 16, 128] {
        writes(&store, clients, Duration::from_secs(seconds), &path).await;
    }
    reads(&store).await;
    watches(&store, 100, 1000).await;
    compaction(&store, &path).await;
    store.close().await.expect("close");
    std::fs::remove_dir_all(&path).expect("remove the store");
}

async fn writes(store: &EmbeddedStore, clients: usize, duration: Duration, path: &Path) {
    let start = time::monotonic();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let store = store.clone();
            task::spawn("client", async move { client(&store, start + duration).await })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("client"));
    }
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{clients:>4} clients: {rate:>7.0} commits/s, p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}, files {} MB",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        files(path) >> 20
    );
}

async fn client(store: &EmbeddedStore, until: time::Instant) -> Vec<Duration> {
    let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
    let mut latencies = Vec::new();
    loop {
        let begin = time::monotonic();
        if begin >= until {
            return latencies;
        }
        put(store, nauplius_base::id::below(KEYS), value.clone()).await;
        latencies.push(begin.elapsed());
    }
}

async fn put(store: &EmbeddedStore, number: u64, value: Bytes) {
    let key = format!("/registry/configmaps/default/object-{number:08}").into();
    let txn = Txn { compare: vec![], ops: vec![Op::Put { key, value, lease: None }] };
    store.txn(txn).await.expect("txn");
}

async fn reads(store: &EmbeddedStore) {
    let start = time::monotonic();
    for number in 0..2000 {
        let key = format!("/registry/configmaps/default/object-{number:08}");
        store.range(RangeRequest::key(key)).await.expect("read");
    }
    println!("point reads: {:?} each", start.elapsed() / 2000);
    let start = time::monotonic();
    let all = store.range(RangeRequest::prefix("/registry/configmaps/")).await.expect("read");
    println!("range of {}: {:?}", all.count, start.elapsed());
    let past = nauplius_store::Revision(all.revision.0 - 50_000);
    let start = time::monotonic();
    let request =
        RangeRequest { at: Some(past), limit: 500, ..RangeRequest::prefix("/registry/configmaps/") };
    let page = store.range(request).await.expect("read");
    println!("page of {} of {} at a revision 50,000 ago: {:?}", page.kvs.len(), page.count, start.elapsed());
}

async fn watches(store: &EmbeddedStore, watchers: usize, events: usize) {
    let mut tasks = Vec::new();
    for _ in 0..watchers {
        let mut watch = store.watch(WatchRequest::prefix("/registry/", None)).await.expect("watch");
        tasks.push(task::spawn("watcher", async move {
            let mut seen = 0;
            while seen < events {
                if let WatchMessage::Events { events, .. } = watch.next().await.expect("watch") {
                    seen += events.len();
                }
            }
        }));
    }
    let start = time::monotonic();
    let value = Bytes::from(vec![b'y'; VALUE_BYTES]);
    let writers = (0..8).map(|writer| {
        let (store, value) = (store.clone(), value.clone());
        task::spawn("writer", async move {
            for event in 0..events / 8 {
                put(&store, (event * 8 + writer) as u64, value.clone()).await;
            }
        })
    });
    for task in writers.collect::<Vec<_>>().into_iter().chain(tasks) {
        task.await.expect("task");
    }
    let rate = (watchers * events) as f64 / start.elapsed().as_secs_f64();
    println!("{watchers} watchers x {events} events: {rate:.0} deliveries/s");
}

async fn compaction(store: &EmbeddedStore, path: &Path) {
    let start = time::monotonic();
    store.compact(store.revision().await.expect("revision")).await.expect("compact");
    store.settle().await.expect("settle");
    let size = store.size_bytes().await.expect("size");
    println!("clean-up: {:?}; database {} MB, files {} MB", start.elapsed(), size >> 20, files(path) >> 20);
    let report = store.check().await.expect("check");
    assert!(report.is_ok(), "{report:?}");
}

fn files(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).expect("the store's directory");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |file| file.len())).sum()
}
