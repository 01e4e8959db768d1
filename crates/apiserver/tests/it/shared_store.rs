//! Two API servers on one etcd: neither serves what is old, allocates what is taken, or writes the bootstrap objects twice.

use crate::secured;
use crate::support::{Fixture, config_map};
use nauplius_apiserver::{ApiServer, UserInfo};
use nauplius_base::task::{self, Group};
use nauplius_base::time::{monotonic, sleep};
use nauplius_pki::Authority;
use nauplius_store::etcd_process::EtcdProcess;
use nauplius_store::{Op, RangeRequest, Store, Txn};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICES: &str = "/api/v1/namespaces/default/services";

struct Pair {
    etcd: EtcdProcess,
    servers: [Arc<ApiServer>; 2],
    group: Group,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.group.shut_down();
    }
}

impl Pair {
    /// Both start at the same time.
    async fn start(test: &str) -> Option<Self> {
        let etcd = EtcdProcess::start(test, &[]).await?;
        let (authority, group) = (Authority::create("test").unwrap(), Group::new());
        let one = Arc::new(etcd.store("/registry/", "/registry/").await.unwrap());
        let other = Arc::new(etcd.store("/registry/", "/registry/").await.unwrap());
        let (one, other) = tokio::join!(
            secured::start_at(IpAddr::from([192, 0, 2, 1]), one, &authority, &group),
            secured::start_at(IpAddr::from([192, 0, 2, 2]), other, &authority, &group),
        );
        Some(Self { etcd, servers: [one, other], group })
    }

    fn admins(&self) -> [Fixture; 2] {
        self.servers.each_ref().map(|server| {
            let user = UserInfo::authenticated("admin", &["system:masters"]);
            Fixture::over(Arc::clone(server), server.transport(user))
        })
    }
}

async fn names(client: &Fixture, path: &str) -> Vec<String> {
    let list = client.get(path).await.expect(200);
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn both_write_the_bootstrap_once_and_stand_behind_the_service() {
    let Some(pair) = Pair::start("both_write_the_bootstrap_once").await else { return };
    let [one, other] = pair.admins();
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert_eq!(names(&one, roles).await, names(&other, roles).await);
    assert_eq!(names(&one, "/api/v1/namespaces").await.len(), 4);
    let classes = names(&other, "/apis/scheduling.k8s.io/v1/priorityclasses").await;
    assert_eq!(classes, ["system-cluster-critical", "system-node-critical"]);
    let start = monotonic();
    let both = json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]);
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    loop {
        let endpoints = other.get("/api/v1/namespaces/default/endpoints/kubernetes").await.expect(200);
        // The slice is written after them.
        let in_slice = one.get(slice).await.expect(200)["endpoints"].as_array().map_or(0, Vec::len);
        if endpoints["subsets"][0]["addresses"] == both && in_slice == 2 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{endpoints}, {in_slice} in the slice");
        sleep(Duration::from_millis(100)).await;
    }
    let leases = names(&one, "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases").await;
    assert_eq!(leases.iter().filter(|name| name.starts_with("apiserver-")).count(), 2, "{leases:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_through_one_sees_what_was_written_through_the_other() {
    let Some(pair) = Pair::start("a_read_through_one_sees_what_was_written").await else { return };
    let [one, other] = pair.admins();
    let elsewhere = pair.etcd.store("", "/another-cluster/").await.unwrap();
    let mut watch = other.watch(&format!("{MAPS}?watch=true")).await;
    for number in 0..30 {
        let (name, path) = (format!("map-{number}"), format!("{MAPS}/map-{number}"));
        let created = one.post(MAPS, &config_map(&name, &json!({}), &json!({"n": number.to_string()}))).await;
        let version = created.expect(201)["metadata"]["resourceVersion"].clone();
        // Somebody else's write moves etcd's revision on, without an event for any of us.
        if number % 5 == 0 {
            let op = Op::Put { key: "key".into(), value: "x".into(), lease: None };
            elsewhere.txn(Txn { compare: vec![], ops: vec![op] }).await.unwrap();
        }
        let seen = other.get(&path).await.expect(200);
        assert_eq!(seen["metadata"]["resourceVersion"], version);
        assert_eq!(names(&other, MAPS).await.iter().filter(|other| **other == name).count(), 1);
        assert_eq!(watch.line().await, format!("ADDED {name}@{}", version.as_str().unwrap()));
        if number % 3 == 0 {
            other.delete(&path).await.expect(200);
            assert_eq!(one.get(&path).await.code.as_u16(), 404, "a deleted object is served");
            assert!(watch.line().await.starts_with("DELETED"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn addresses_and_ports_are_given_once() {
    let Some(pair) = Pair::start("addresses_and_ports_are_given_once").await else { return };
    let pair = Arc::new(pair);
    let service = |name: String, ip: Option<&str>| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
            "type": "NodePort", "clusterIP": ip, "ports": [{"port": 80}]}})
    };
    let creating: Vec<_> = (0..40)
        .map(|number| {
            let (pair, body) = (Arc::clone(&pair), service(format!("service-{number}"), None));
            task::spawn(
                "create",
                async move { pair.admins()[number % 2].post(SERVICES, &body).await.expect(201) },
            )
        })
        .collect();
    let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for created in creating {
        let spec = created.await.unwrap()["spec"].clone();
        assert!(addresses.insert(spec["clusterIP"].to_string()), "an address is given twice");
        assert!(ports.insert(spec["ports"][0]["nodePort"].to_string()), "a port is given twice");
    }
    let wanted = ["left", "right"].map(|name| service(name.to_owned(), Some("10.96.7.7")));
    let [one, other] = pair.admins();
    let (left, right) = tokio::join!(one.post(SERVICES, &wanted[0]), other.post(SERVICES, &wanted[1]));
    let mut codes = [left.code.as_u16(), right.code.as_u16()];
    codes.sort_unstable();
    assert_eq!(codes, [201, 422]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_are_on_a_lease_and_a_lost_etcd_is_told() {
    let Some(mut pair) = Pair::start("events_are_on_a_lease").await else { return };
    let [one, other] = pair.admins();
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Test",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}});
    one.post("/api/v1/namespaces/default/events", &event).await.expect(201);
    let store = pair.etcd.store("", "").await.unwrap();
    let kept = store.range(RangeRequest::prefix("/registry/events/")).await.unwrap();
    assert!(kept.kvs.len() == 1 && kept.kvs[0].lease.is_some(), "{kept:?}");
    one.post(MAPS, &config_map("before", &json!({}), &json!({}))).await.expect(201);
    pair.etcd.kill();
    let refused = other.post(MAPS, &config_map("lost", &json!({}), &json!({}))).await;
    assert_eq!(refused.refusal(), "503 the cluster's store is unavailable");
    assert_eq!(other.get(MAPS).await.code.as_u16(), 503, "what may be old is not served as new");
    other.get(&format!("{MAPS}?resourceVersion=0")).await.expect(200);
    pair.etcd.launch_again();
    pair.etcd.wait().await;
    let start = monotonic();
    while one.post(MAPS, &config_map("after", &json!({}), &json!({}))).await.code.as_u16() == 503 {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not recover");
        sleep(Duration::from_millis(100)).await;
    }
    let both: BTreeSet<String> = names(&other, MAPS).await.into_iter().collect();
    assert!(both.contains("before") && both.contains("after"), "{both:?}");
}
