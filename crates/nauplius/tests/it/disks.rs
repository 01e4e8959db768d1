//! A disk that fills while the cluster runs: what is there can be read, what is written is refused in words, nothing that was acknowledged is
//! lost, and the cluster goes on when there is room again.

use crate::cluster::{Cluster, NAUPLIUS};
use crate::commands::run_pod;
use crate::kube_rs::{connect, demo_pod};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use nauplius_base::time;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
/// How many writes the log of the store may still have room for.
const TRIES: usize = 2000;

/// A small disk: a file system in memory.
struct Disk(PathBuf);

impl Disk {
    fn of(bytes: u64, at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        mount("test", &at, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).unwrap();
        Self(at)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves no page free.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        for size in [1 << 20, 4 << 10] {
            let chunk = vec![1; size];
            let full = loop {
                if let Err(error) = file.write_all(&chunk) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            eprintln!("{} is still mounted: {error}", self.0.display());
        }
    }
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v".repeat(50_000)}})).unwrap()
}

/// Writes until the store refuses; the names of what it has acknowledged, and how it refused.
async fn write_until_refused(maps: &Api<ConfigMap>) -> (BTreeSet<String>, kube::core::Status) {
    let mut acknowledged = BTreeSet::new();
    for number in 0..TRIES {
        let name = format!("late-{number}");
        match maps.create(&PostParams::default(), &map(&name)).await {
            Ok(_) => acknowledged.insert(name),
            Err(kube::Error::Api(status)) => return (acknowledged, *status),
            Err(error) => panic!("no answer of the API: {error}"),
        };
    }
    panic!("a full disk took {TRIES} writes");
}

async fn names(maps: &Api<ConfigMap>) -> BTreeSet<String> {
    let listed = maps.list(&ListParams::default()).await.unwrap().items;
    let whole = |map: &ConfigMap| map.data.as_ref().is_some_and(|data| data["k"].len() == 50_000);
    listed.iter().filter(|map| map.data.as_ref().is_some_and(|data| data.contains_key("k"))).for_each(
        |map| {
            assert!(whole(map), "{:?} is cut", map.metadata.name);
        },
    );
    let names = listed.into_iter().filter_map(|map| map.metadata.name);
    names.filter(|name| name != "kube-root-ca.crt").collect()
}

/// Bytes that the node's disk and that images have in use.
async fn in_use(client: &Client) -> (u64, u64) {
    let node = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.unwrap().items.remove(0);
    let path = format!("/api/v1/nodes/{}/proxy/stats/summary", node.metadata.name.unwrap());
    let summary: Value = client.request(http::Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
    let of = |part: &Value| part["usedBytes"].as_u64().unwrap_or_else(|| panic!("{summary}"));
    (of(&summary["node"]["fs"]), of(&summary["node"]["runtime"]["imageFs"]))
}

/// All components work, and yet no pod would come: `up` and `status` say why.
#[test]
fn a_disk_that_is_short_is_told_by_up_and_status() {
    let own = std::fs::metadata(NAUPLIUS).unwrap().len();
    let scratch = tempfile::tempdir().unwrap();
    let disk = Disk::of(2 * own + (160 << 20), scratch.path().join("disk"));
    let cluster = Cluster::named_only();
    let directory = disk.0.to_str().unwrap();
    let told = format!(
        "the disk of {directory} is short: nodefs.available is below 1Gi, so no pod will be scheduled; free space, or make the cluster with another --eviction-hard"
    );
    let up = cluster.run(&["up", "--data-dir", directory]);
    assert!(up.status.success(), "{up:?}");
    let lines = String::from_utf8(up.stderr).unwrap();
    assert_eq!(lines.lines().last(), Some(format!("nauplius: {told}").as_str()), "{lines}");
    let again = cluster.run(&["up"]);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(String::from_utf8(again.stderr).unwrap(), format!("nauplius: {told}\n"));
    // A node that is gone comes back with another server, which finds the disk no better: that is told once.
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    threads.block_on(async {
        let nodes: Api<Node> = Api::all(connect(&cluster).await);
        let node = nodes.list(&ListParams::default()).await.unwrap().items.remove(0);
        nodes.delete(&node.name_any(), &DeleteParams::default()).await.unwrap();
    });
    let mended = cluster.run(&["up"]);
    assert!(mended.status.success(), "{mended:?}");
    assert!(String::from_utf8_lossy(&mended.stdout).contains("the server starts again"), "{mended:?}");
    let lines = String::from_utf8(mended.stderr).unwrap();
    assert_eq!(lines.matches(&told).count(), 1, "{lines}");
    let status = cluster.run(&["status"]);
    let lines = String::from_utf8(status.stdout).unwrap();
    assert!(!status.status.success(), "{lines}");
    let node = lines.lines().find(|line| line.starts_with("node "));
    assert!(node.is_some_and(|line| line.contains(" NOT healthy ") && line.ends_with(&told)), "{lines}");
    cluster.run_ok(&["delete"]);
}

fn up(cluster: &Cluster, directory: &Path) {
    let directory = directory.to_str().unwrap();
    // The node is not to be called short of room: this is about the store.
    cluster.run_ok(&["up", "--data-dir", directory, "--eviction-hard", "memory.available<1Mi"]);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let own = std::fs::metadata(NAUPLIUS).unwrap().len();
    let scratch = tempfile::tempdir().unwrap();
    // The binary is in the demo image: once packed, once unpacked.
    let disk = Disk::of(2 * own + (160 << 20), scratch.path().join("disk"));
    let cluster = Cluster::named_only();
    up(&cluster, &disk.0);
    let client = connect(&cluster).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    run_pod(&cluster, &pods, &demo_pod("demo")).await;
    let mut expected = BTreeSet::new();
    for number in 0..5 {
        let name = format!("early-{number}");
        maps.create(&PostParams::default(), &map(&name)).await.unwrap();
        expected.insert(name);
    }

    let (disk_before, images_before) = in_use(&client).await;
    disk.fill();
    let (disk_after, images_after) = in_use(&client).await;
    assert!(disk_after > disk_before, "{disk_after} bytes are not more than {disk_before}");
    assert!(images_before > 0 && images_before == images_after, "{images_before} became {images_after}");
    let (late, refused) = write_until_refused(&maps).await;
    expected.extend(late);
    assert_eq!((refused.code, refused.reason.as_str()), (507, "InsufficientStorage"), "{refused:?}");
    assert!(
        refused.message.contains("its disk is full, or its quota is used up; nothing was written"),
        "{refused:?}"
    );
    assert_eq!(names(&maps).await, expected);
    let log = pods.logs("demo", &kube::api::LogParams::default()).await.unwrap();
    assert!(log.starts_with("demo: pod demo on node"), "{log}");
    assert!(cluster.status()["pid"].is_i64(), "the server is there: {}", cluster.log_tail());

    std::fs::remove_file(disk.filler()).unwrap();
    let again = time::timeout(PATIENCE, async {
        while maps.create(&PostParams::default(), &map("again")).await.is_err() {
            time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(again.await.is_ok(), "no write after there was room again: {}", cluster.log_tail());
    expected.insert("again".to_owned());
    assert_eq!(names(&maps).await, expected);
    run_pod(&cluster, &pods, &demo_pod("after")).await;
    cluster.run_ok(&["down"]);
    cluster.run_ok(&["store", "check"]);
    up(&cluster, &disk.0);
    assert_eq!(names(&maps).await, expected);
    cluster.run_ok(&["delete"]);
}
