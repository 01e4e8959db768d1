//! What a cluster must bear: a server that is killed again and again while it works, an idle minute, a neighbour, and a stop.

use crate::cluster::{Cluster, eventually};
use crate::kube_rs::{connect, demo_pod, is_ready};
use crate::traces::{self, Process};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use nauplius_base::task::CancellationToken;
use nauplius_base::{id, task, time};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const KILLS: u32 = 10;
const WRITERS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(120);

/// Writes that the server has acknowledged: the object's resourceVersion and its counter at that time.
#[derive(Default)]
struct Acknowledged {
    /// Written once, never touched again.
    created: BTreeMap<String, String>,
    /// One object, patched all the time: the last counter that was acknowledged, and the last that was tried.
    counted: Option<(String, u64)>,
    tried: u64,
}

/// Creates config maps and counts in one of them until it is told to stop. A write without an answer may or may not have happened.
async fn write_on(client: Client, writer: u32, stop: CancellationToken) -> Acknowledged {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let mut done = Acknowledged::default();
    let counter = format!("counter-{writer}");
    let mut number = 0_u64;
    while !stop.is_cancelled() {
        number += 1;
        let name = format!("map-{writer}-{number}");
        if let Ok(made) = maps.create(&PostParams::default(), &map(&name, number)).await {
            done.created.insert(name, made.resource_version().unwrap());
        }
        done.tried = number;
        let count = Patch::Merge(json!({"data": {"n": number.to_string()}}));
        let outcome = match &done.counted {
            None => maps.create(&PostParams::default(), &map(&counter, number)).await,
            Some(_) => maps.patch(&counter, &PatchParams::default(), &count).await,
        };
        match outcome {
            Ok(written) => done.counted = Some((written.resource_version().unwrap(), number)),
            // The creation had happened, only the answer was lost.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                done.counted = Some(("0".to_owned(), 0));
            }
            Err(_) => time::sleep(Duration::from_millis(20)).await,
        }
    }
    done
}

fn map(name: &str, number: u64) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"n": number.to_string()}})).unwrap()
}

fn check_acknowledged(writer: u32, done: &Acknowledged, held: &BTreeMap<String, ConfigMap>) {
    for (name, version) in &done.created {
        let found = held.get(name).unwrap_or_else(|| panic!("{name} was acknowledged and is gone"));
        assert_eq!(found.resource_version().as_ref(), Some(version), "{name}");
    }
    let (version, count) = done.counted.as_ref().expect("no count was acknowledged");
    let found = &held[&format!("counter-{writer}")];
    let revision = |text: &str| text.parse::<u64>().unwrap();
    assert!(revision(&found.resource_version().unwrap()) >= revision(version));
    let now: u64 = found.data.as_ref().unwrap()["n"].parse().unwrap();
    assert!((*count..=done.tried).contains(&now), "counted {count}, tried {}, found {now}", done.tried);
}

/// What must not change when the server is killed.
#[derive(Debug, PartialEq)]
struct Running {
    container_id: String,
    restarts: i32,
    started: String,
    address: String,
    processes: Vec<Process>,
}

async fn running_pods(cluster: &Cluster, pods: &Api<Pod>) -> BTreeMap<String, Running> {
    let mut processes = traces::container_processes(cluster);
    let listed = pods.list(&ListParams::default()).await.unwrap();
    let ready = listed.iter().filter(|pod| is_ready(Some(pod)));
    ready
        .map(|pod| {
            let status = pod.status.as_ref().unwrap();
            let container = &status.container_statuses.as_ref().unwrap()[0];
            let started =
                container.state.as_ref().and_then(|state| state.running.as_ref()?.started_at.clone());
            let running = Running {
                container_id: container.container_id.clone().unwrap_or_default(),
                restarts: container.restart_count,
                started: format!("{started:?}"),
                address: status.pod_ip.clone().unwrap_or_default(),
                processes: processes.remove(&pod.uid().unwrap()).unwrap_or_default(),
            };
            (pod.name_any(), running)
        })
        .collect()
}

fn kill(cluster: &Cluster, pid: i32) {
    // SAFETY: a signal to a process of our own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0, "{}", cluster.log_tail());
}

async fn all_ready(cluster: &Cluster, pods: &Api<Pod>) {
    let names = pods.list(&ListParams::default()).await.unwrap();
    for name in names.iter().map(ResourceExt::name_any) {
        let ready = time::timeout(PATIENCE, await_condition(pods.clone(), &name, is_ready)).await;
        assert!(matches!(ready, Ok(Ok(_))), "{name}: {ready:?}\n{}", cluster.log_tail());
    }
}

/// Kills the server while a pod is being made and another is being deleted, and starts it again.
async fn kill_and_start(cluster: &Cluster, client: &Client, round: u32) {
    let pods: &Api<Pod> = &Api::default_namespaced(client.clone());
    let ready_since = node_ready_since(client).await;
    let mut before = running_pods(cluster, pods).await;
    assert!(before.values().all(|pod| !pod.processes.is_empty()), "{before:?}");
    let (new, doomed) = (format!("pod-{round}"), format!("pod-{}", round.wrapping_sub(3)));
    let pid = cluster.server_pid();
    pods.create(&PostParams::default(), &demo_pod(&new)).await.unwrap();
    if before.remove(&doomed).is_some() {
        pods.delete(&doomed, &DeleteParams::default()).await.unwrap();
    }
    // Somewhere between the first step and the last.
    time::sleep(Duration::from_millis(id::below(300))).await;
    kill(cluster, pid);
    cluster.run_ok(&["up"]);
    healthy(cluster);
    let gone = await_condition(pods.clone(), &doomed, |pod: Option<&Pod>| pod.is_none());
    let gone = time::timeout(PATIENCE, gone).await;
    assert!(gone.is_ok(), "{doomed} stays\n{}", cluster.log_tail());
    all_ready(cluster, pods).await;
    let mut after = running_pods(cluster, pods).await;
    after.remove(&new).unwrap();
    assert_eq!(after, before, "round {round}");
    assert_eq!(
        node_ready_since(client).await,
        ready_since,
        "round {round}: the node was not ready for a while"
    );
}

/// Since when the only node is ready.
async fn node_ready_since(client: &Client) -> String {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let conditions = nodes.items[0].status.as_ref().unwrap().conditions.as_ref().unwrap();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    format!("{} {:?}", ready.status, ready.last_transition_time)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_ten_times_loses_nothing_and_leaks_nothing() {
    let cluster = Cluster::up();
    let client = connect(&cluster).await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let stop = CancellationToken::new();
    let start = |writer| task::spawn("writer", write_on(client.clone(), writer, stop.clone()));
    let writers: Vec<_> = (0..WRITERS).map(start).collect();
    for round in 0..KILLS {
        kill_and_start(&cluster, &client, round).await;
    }
    stop.cancel();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.push(writer.await.unwrap());
    }
    let held = maps.list(&ListParams::default()).await.unwrap();
    let held: BTreeMap<_, _> = held.into_iter().map(|map| (map.name_any(), map)).collect();
    for (writer, done) in (0..).zip(&acknowledged) {
        check_acknowledged(writer, done, &held);
    }
    let writes: usize = acknowledged.iter().map(|done| done.created.len()).sum();
    println!("{writes} creations were acknowledged and found");
    without_pods_nothing_of_them_is_left(&cluster, &pods).await;
    cluster.run_ok(&["delete"]);
    eventually("nothing to be left", || {
        let left = traces::of(&cluster);
        left.iter().for_each(|line| println!("still there: {line}"));
        left.is_empty().then_some(())
    });
}

async fn without_pods_nothing_of_them_is_left(cluster: &Cluster, pods: &Api<Pod>) {
    pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let wait = async {
        while !pods.list(&ListParams::default()).await.unwrap().items.is_empty() {
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    time::timeout(PATIENCE, wait).await.expect("pods are left");
    let bridge = format!("link {}0", nauplius_net::bridge::interface_prefix(&cluster.name));
    eventually("the pods' traces to be gone", || {
        let mut left = traces::mounts(&cluster.data_dir().join("kubelet"));
        left.extend(traces::mounts(&cluster.data_dir().join("runtime/sandboxes")));
        left.extend(traces::links(&cluster.name).into_iter().filter(|link| *link != bridge));
        left.extend(traces::container_processes(cluster).into_keys());
        left.is_empty().then_some(())
    });
}

type Counters = BTreeMap<String, u64>;

/// Requests so far, by verb, resource and subresource.
async fn requests(client: &Client) -> Counters {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    let mut counters = Counters::new();
    for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let (labels, count) = line.rsplit_once(' ').unwrap();
        let label = |name: &str| {
            let start = labels.split_once(&format!(",{name}=\"")).map_or("", |(_, rest)| rest);
            start.split('"').next().unwrap_or_default()
        };
        let key = format!("{} {} {}", label("verb"), label("resource"), label("subresource"));
        *counters.entry(key.trim_end().to_owned()).or_default() += count.parse::<u64>().unwrap();
    }
    counters
}

fn grown(before: &Counters, after: &Counters) -> Counters {
    let grown = after.iter().map(|(key, count)| (key.clone(), count - before.get(key).unwrap_or(&0)));
    grown.filter(|(_, count)| *count > 0).collect()
}

/// Leases that are renewed, watches that begin anew, and our own look at the counters.
fn is_renewal(key: &str) -> bool {
    key == "PATCH leases" || key == "PUT leases" || key.starts_with("WATCH ") || key == "GET"
}

async fn idle_for(client: &Client, duration: Duration) -> Counters {
    let before = requests(client).await;
    time::sleep(duration).await;
    grown(&before, &requests(client).await)
}

#[tokio::test]
async fn an_idle_cluster_asks_for_nothing() {
    let cluster = Cluster::up();
    let client = connect(&cluster).await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut probed = demo_pod("probed");
    let container = &mut probed.spec.as_mut().unwrap().containers[0];
    container.liveness_probe = container.readiness_probe.clone();
    pods.create(&PostParams::default(), &probed).await.unwrap();
    time::timeout(PATIENCE, await_condition(pods, "probed", is_ready)).await.unwrap().unwrap();
    // The last of the start: statuses that settle.
    let settled =
        async { while idle_for(&client, Duration::from_secs(2)).await.keys().any(|key| !is_renewal(key)) {} };
    time::timeout(PATIENCE, settled).await.expect("the cluster does not settle");
    let seen = idle_for(&client, Duration::from_secs(60)).await;
    println!("in an idle minute: {seen:?}");
    let busy: Vec<_> = seen.iter().filter(|(key, _)| !is_renewal(key)).collect();
    assert!(busy.is_empty(), "{busy:?}");
    // One look at the counters is ours; the rest of the minute belongs to leases: of the node each 10 s, of the server each 10 s.
    assert!(seen.get("GET").is_none_or(|count| *count <= 2), "{seen:?}");
    assert!(seen.values().sum::<u64>() < 40, "{seen:?}");
}

async fn api_service_address(client: &Client) -> String {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let service = services.get("kubernetes").await.unwrap();
    service.spec.and_then(|spec| spec.cluster_ip).unwrap()
}

fn healthy(cluster: &Cluster) {
    let status = cluster.status();
    let components = status["components"].as_array().unwrap_or_else(|| panic!("{}", cluster.log_tail()));
    let ill: Vec<&Value> = components.iter().filter(|component| component["healthy"] != true).collect();
    assert!(ill.is_empty(), "{ill:?}\n{}", cluster.log_tail());
}

async fn demo(cluster: &Cluster, client: &Client) -> BTreeMap<String, Running> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.create(&PostParams::default(), &demo_pod("demo")).await.unwrap();
    all_ready(cluster, &pods).await;
    running_pods(cluster, &pods).await
}

async fn serves(address: &str) -> String {
    let address: std::net::SocketAddr = format!("{address}:8080").parse().unwrap();
    let ask = async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    time::timeout(PATIENCE, ask).await.unwrap()
}

#[tokio::test]
async fn two_clusters_live_side_by_side() {
    let one = Cluster::up();
    // A name that begins with the other's: what is removed by name must be exact.
    let two = Cluster::up_as(&format!("{}0", one.name));
    let (client_one, client_two) = (connect(&one).await, connect(&two).await);
    assert_ne!(one.status()["server"], two.status()["server"]);
    assert_ne!(api_service_address(&client_one).await, api_service_address(&client_two).await);
    let first = demo(&one, &client_one).await;
    let second = demo(&two, &client_two).await;
    assert_ne!(first["demo"].address, second["demo"].address);
    for pods in [&first, &second] {
        assert!(serves(&pods["demo"].address).await.contains("demo"));
    }
    healthy(&one);
    healthy(&two);
    two.run_ok(&["delete"]);
    eventually("nothing to be left of the second", || traces::of(&two).is_empty().then_some(()));
    let pods: Api<Pod> = Api::default_namespaced(client_one.clone());
    assert_eq!(running_pods(&one, &pods).await, first);
    assert!(serves(&first["demo"].address).await.contains("demo"));
    healthy(&one);
}

#[tokio::test]
async fn down_keeps_the_objects_and_up_brings_the_pods_back() {
    let cluster = Cluster::up();
    let client = connect(&cluster).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let kept = maps.create(&PostParams::default(), &map("kept", 1)).await.unwrap();
    let before = demo(&cluster, &client).await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let uid = pods.get("demo").await.unwrap().uid();

    cluster.run_ok(&["down"]);
    assert_eq!(traces::container_processes(&cluster), BTreeMap::new());
    cluster.run_ok(&["up"]);
    healthy(&cluster);
    assert_eq!(maps.get("kept").await.unwrap(), kept);
    eventually("the pod to run anew", || {
        let other = |process: &Process| !before["demo"].processes.contains(process);
        traces::container_processes(&cluster).values().flatten().any(other).then_some(())
    });
    all_ready(&cluster, &pods).await;
    let pod = pods.get("demo").await.unwrap();
    assert_eq!(pod.uid(), uid);
    let after = running_pods(&cluster, &pods).await;
    assert_eq!(after["demo"].restarts, 1);
    assert_ne!(after["demo"].container_id, before["demo"].container_id);
    assert!(serves(&after["demo"].address).await.contains("demo"));
    healthy(&cluster);
}
