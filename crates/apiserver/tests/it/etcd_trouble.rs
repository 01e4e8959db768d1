//! What clients are told when etcd is slow or has no space left, that reads and watches go on meanwhile, and that it is over by itself.

use crate::support::{Answer, Fixture, config_map, over_store, version};
use futures_util::future::join_all;
use nauplius_base::time::{monotonic, sleep};
use nauplius_store::etcd::{EtcdOptions, EtcdStore};
use nauplius_store::etcd_process::EtcdProcess;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LATE: &str = "504 Timeout: the cluster's store did not answer in time";
/// How long a call to etcd may take here.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The limit of what must not hang.
const FOR_EVER: Duration = Duration::from_secs(60);

/// An etcd that can be stopped; it goes on when this is dropped, so that it can be ended.
struct Slow(Pid);

impl Slow {
    fn of(etcd: &EtcdProcess) -> Self {
        let process = Pid::from_raw(etcd.id().unwrap().cast_signed()).unwrap();
        kill_process(process, Signal::STOP).unwrap();
        Self(process)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

async fn server_over(etcd: &EtcdProcess) -> Fixture {
    let mut options = EtcdOptions::new(vec![etcd.client_url().to_owned()]);
    options.timeout = PATIENCE;
    let server = over_store(Arc::new(EtcdStore::connect(options).await.unwrap())).await;
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await.expect(201);
    server
}

/// Writes until it is taken; what is refused meanwhile is refused as `expected`.
async fn written(server: &Fixture, map: &Value, expected: u16) -> Value {
    let start = monotonic();
    loop {
        let answer = server.post(MAPS, map).await;
        if answer.code.as_u16() == 201 {
            return answer.json();
        }
        assert_eq!(answer.code.as_u16(), expected, "{}", answer.refusal());
        assert!(start.elapsed() < FOR_EVER, "it does not recover");
        sleep(Duration::from_millis(100)).await;
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_etcd_is_told_in_time_and_nothing_old_is_served_as_new() {
    let Some(etcd) = EtcdProcess::start("a_slow_etcd_is_told_in_time", &[]).await else { return };
    let server = server_over(&etcd).await;
    let map = |name: &str| config_map(name, &json!({}), &json!({}));
    let before = server.post(MAPS, &map("before")).await.expect(201);
    let mut watch = server.watch(&format!("{MAPS}?watch=true")).await;
    assert_eq!(watch.line().await, format!("ADDED before@{}", version(&before)));

    let slow = Slow::of(&etcd);
    let refused = server.post(MAPS, &map("unsure")).await;
    assert_eq!(refused.json()["reason"], "Timeout");
    assert_eq!(refused.refusal(), format!("{LATE}; a write may or may not have happened"));
    // The client has less patience than the store's calls.
    let refused = server.post(&format!("{MAPS}?timeout=100ms"), &map("unsure-too")).await;
    assert_eq!(refused.refusal(), "504 Timeout: request did not complete within the allotted timeout");
    // Many who ask at once are told at once, not one after the other.
    let start = monotonic();
    let one = format!("{MAPS}/before");
    let paths = [MAPS, &one, &format!("{MAPS}?limit=1"), &format!("{MAPS}?watch=true")].map(str::to_owned);
    let reads = paths.iter().cycle().take(80).map(|path| server.get(path));
    for read in join_all(reads).await {
        assert_eq!(read.refusal(), LATE);
    }
    assert!(start.elapsed() < PATIENCE * 10, "80 reads took {:?}", start.elapsed());
    // What may be old is for those who ask for it.
    for path in [format!("{MAPS}?resourceVersion=0"), format!("{one}?resourceVersion=0")] {
        server.get(&path).await.expect(200);
    }
    drop(slow);

    let after = written(&server, &map("after"), 504).await;
    let then = format!("{MAPS}?resourceVersion={}&resourceVersionMatch=Exact", version(&after));
    let list = server.get(&then).await.expect(200);
    let (mut seen, end) = (vec!["before".to_owned()], format!("ADDED after@{}", version(&after)));
    loop {
        let line = watch.line().await;
        seen.extend(
            line.strip_prefix("ADDED ")
                .and_then(|line| line.split_once('@'))
                .map(|(name, _)| name.to_owned()),
        );
        if line == end {
            break;
        }
    }
    seen.sort_unstable();
    assert_eq!(names(&list), seen, "the unsure ones happened for all or for nobody");
}

/// Fills etcd by updates of one object.
async fn fill(server: &Fixture, watch: &mut crate::support::Events) -> (Value, Answer) {
    let mut newest = Value::Null;
    for number in 0..1_000 {
        let data = json!({"number": number.to_string(), "text": "x".repeat(100_000)});
        let answer = server.put(&format!("{MAPS}/same"), &config_map("same", &json!({}), &data)).await;
        if answer.code.as_u16() != 200 {
            return (newest, answer);
        }
        newest = answer.json();
        assert_eq!(watch.line().await, format!("MODIFIED same@{}", version(&newest)));
    }
    panic!("it never fills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_without_space_refuses_writes_serves_reads_and_recovers_by_itself() {
    let test = "an_etcd_without_space_refuses_writes";
    let Some(etcd) = EtcdProcess::start(test, &["--quota-backend-bytes", "4194304"]).await else { return };
    let server = server_over(&etcd).await;
    let map = |name: &str| config_map(name, &json!({}), &json!({}));
    server.post(MAPS, &map("same")).await.expect(201);
    let mut watch = server.watch(&format!("{MAPS}?watch=true")).await;
    assert!(watch.line().await.starts_with("ADDED same@"));

    let (newest, refused) = fill(&server, &mut watch).await;
    let message = "507 the cluster's store has no space left: its disk is full, or its quota is used up; nothing was written";
    assert_eq!(refused.refusal(), message);
    assert_eq!(refused.json()["reason"], "InsufficientStorage");
    let refused = server.post(MAPS, &map("refused")).await;
    assert_eq!(refused.refusal(), message);
    assert_eq!(server.get(&format!("{MAPS}/same")).await.expect(200), newest);
    assert_eq!(names(&server.get(MAPS).await.expect(200)), ["same"]);
    let mut other = server.watch(&format!("{MAPS}?watch=true")).await;
    assert_eq!(other.line().await, format!("ADDED same@{}", version(&newest)));

    // What the API server does by itself every few minutes.
    let store = server.server.caches().store();
    store.compact(store.revision().await.unwrap()).await.unwrap();
    let after = written(&server, &map("after"), 507).await;
    for watch in [&mut watch, &mut other] {
        assert_eq!(watch.line().await, format!("ADDED after@{}", version(&after)));
    }
    assert_eq!(names(&server.get(MAPS).await.expect(200)), ["after", "same"]);
}
