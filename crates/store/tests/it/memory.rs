//! What SQLite holds when values near the largest come, are read and go: page caches that are bounded, and nothing after them.

use crate::embedded::put;
use nauplius_base::task;
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::{Op, RangeRequest, Store, Txn};
use rusqlite::ffi::{sqlite3_memory_highwater, sqlite3_memory_used};
use std::process::Command;

const CHILD: &str = "NAUPLIUS_STORE_MEMORY_TEST";
const VALUE_BYTES: usize = 2_900_000;
const WRITERS: usize = 4;
const TURNS: usize = 10;
const MIB: i64 = 1 << 20;
/// The caches of the writer and of three readers, the statements that they keep, and the index of the log.
const AT_REST: i64 = 6 * MIB;
/// A value that is written, as it was bound and as a record, and one that each reader has in hand.
const AT_MOST: i64 = AT_REST + 5 * 2 * VALUE_BYTES as i64;

fn used() -> i64 {
    // SAFETY: it reads a counter.
    unsafe { sqlite3_memory_used() }
}

fn most_used() -> i64 {
    // SAFETY: it reads a counter and leaves it as it is.
    unsafe { sqlite3_memory_highwater(0) }
}

/// Not a test of its own: the process whose memory [`large_values_leave_nothing_behind`] looks at, which no other test uses.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let scratch = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(scratch.path(), Options::default()).await.unwrap();
        let writers = (0..WRITERS).map(|writer| {
            let store = store.clone();
            task::spawn("writer", async move {
                for _ in 0..TURNS {
                    come_and_go(&store, &format!("large/{writer}")).await;
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        println!("{} MiB at most, {} KiB at rest", most_used() / MIB, used() >> 10);
        assert!(most_used() > 2 * VALUE_BYTES as i64, "SQLite does not count");
        assert!(most_used() < AT_MOST, "{} MiB at most", most_used() / MIB);
        assert!(used() < AT_REST, "{} KiB at rest", used() >> 10);
        store.close().await.unwrap();
    });
}

async fn come_and_go(store: &EmbeddedStore, key: &str) {
    for op in [put(key, vec![b'x'; VALUE_BYTES]), put(key, vec![b'y'; VALUE_BYTES])] {
        store.txn(Txn { compare: vec![], ops: vec![op] }).await.unwrap();
        let found = store.range(RangeRequest::key(key.to_owned())).await.unwrap();
        assert_eq!(found.kvs[0].value.len(), VALUE_BYTES);
    }
    let gone = Op::Delete { key: key.to_owned().into() };
    store.txn(Txn { compare: vec![], ops: vec![gone] }).await.unwrap();
}

#[test]
fn large_values_leave_nothing_behind() {
    let own = std::env::current_exe().unwrap();
    let ran = Command::new(own).args(["--exact", "memory::child", "--nocapture"]).env(CHILD, "1").output();
    let ran = ran.unwrap();
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    println!("{told}");
    assert!(ran.status.success(), "{told}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(told.contains("at rest"), "the child did nothing: {told}");
}
