//! A full disk refuses writes, keeps serving reads and watches, and is forgotten once there is space again.

use crate::embedded::{commit, put};
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::{RangeRequest, Store, StoreError, Txn, WatchMessage, WatchRequest};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::path::Path;

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        match mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), c"size=3m") {
            Ok(()) => Some(Self(directory)),
            Err(error) => {
                println!("SKIP: cannot mount a tmpfs: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_survived() {
    let Some(disk) = SmallDisk::new() else { return };
    let store = EmbeddedStore::open(&disk.path().join("store"), Options::default()).await.unwrap();
    let mut watch = store.watch(WatchRequest::prefix("", None)).await.unwrap();
    let before = commit(&store, vec![put("first", "1")]).await;
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1_800_000]).unwrap();

    let mut last = before;
    let refused = loop {
        let ops = vec![put(&format!("key-{}", last.0), vec![1; 20_000])];
        match store.txn(Txn { compare: vec![], ops }).await {
            Ok(_) => last = last.next(),
            Err(error) => break error,
        }
        assert!(last.0 < 500, "the disk never fills");
    };
    assert!(matches!(refused, StoreError::NoSpace { .. }), "{refused:?}");
    assert_eq!(store.revision().await, Ok(last));
    assert_eq!(store.range(RangeRequest::prefix("")).await.unwrap().count, (last.0 - 1) as u64);
    let mut seen = before.next();
    while seen <= last {
        let WatchMessage::Events { revision, .. } = watch.next().await.unwrap() else { continue };
        seen = revision.next();
    }

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(commit(&store, vec![put("after", vec![2; 20_000])]).await, last.next());
    assert!(store.check().await.unwrap().is_ok());
    store.close().await.unwrap();
    let store = EmbeddedStore::open(&disk.path().join("store"), Options::default()).await.unwrap();
    assert_eq!(store.revision().await, Ok(last.next()));
    store.close().await.unwrap();
}
