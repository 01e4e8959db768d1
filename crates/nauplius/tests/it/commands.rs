//! What commands of ours tell a person: what runs, what they wait for, what they mend, and what they refuse.

use crate::cluster::{Cluster, eventually};
use crate::kube_rs::{connect, demo_pod, is_ready};
use crate::refusals::error_of;
use crate::traces;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use nauplius_base::time;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const DEMO: &str = "nauplius.local/demo:1";
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn run_pod(cluster: &Cluster, pods: &Api<Pod>, pod: &Pod) {
    let name = pod.metadata.name.as_deref().unwrap();
    pods.create(&PostParams::default(), pod).await.unwrap();
    ready(cluster, pods, name).await;
}

pub async fn ready(cluster: &Cluster, pods: &Api<Pod>, name: &str) {
    let ready = time::timeout(PATIENCE, await_condition(pods.clone(), name, is_ready)).await;
    assert!(matches!(ready, Ok(Ok(_))), "{ready:?}\n{}", cluster.log_tail());
}

/// A pod that takes five seconds to end.
fn slow_pod() -> Pod {
    let mut pod = demo_pod("slow");
    let spec = pod.spec.as_mut().unwrap();
    spec.containers[0].readiness_probe = None;
    spec.termination_grace_period_seconds = Some(60);
    let script = "trap 'sleep 5; exit' TERM; while true; do sleep 0.1; done";
    spec.containers[0].command = Some(["sh", "-c", script].map(ToOwned::to_owned).to_vec());
    pod
}

fn lost_images_come_back(cluster: &Cluster) {
    cluster.run_ok(&["image", "remove", DEMO]);
    assert!(!cluster.run_ok(&["image", "list"]).contains(DEMO));
    let again = cluster.run_ok(&["up"]);
    assert!(again.contains(&format!("The demo image {DEMO} was missing: it is there again.")), "{again}");
    assert!(cluster.run_ok(&["image", "list"]).contains(DEMO));
    assert!(!cluster.run_ok(&["up"]).contains("missing"));
}

/// `up` returns when the cluster works, whatever somebody has deleted of it.
async fn lost_objects_come_back(cluster: &Cluster) {
    let client = connect(cluster).await;
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    services.delete("kube-dns", &DeleteParams::default()).await.unwrap();
    let again = cluster.run_ok(&["up"]);
    assert!(again.contains("The Service kube-dns was missing: it is there again."), "{again}");
    let nodes: Api<Node> = Api::all(client);
    let node = nodes.list(&ListParams::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    nodes.delete(&node, &DeleteParams::default()).await.unwrap();
    let again = cluster.run_ok(&["up"]);
    assert!(again.contains(&format!("The node {node} was missing: the server starts again")), "{again}");
    nodes.get(&node).await.unwrap();
    cluster.run_ok(&["status"]);
}

/// Only pods need these.
pub fn nothing_of_pods_is_left(cluster: &Cluster) {
    assert_eq!(traces::mounts(&cluster.data_dir()), Vec::<String>::new());
    assert_eq!(traces::links(&cluster.name), Vec::<String>::new());
    assert_eq!(traces::tables(&cluster.name), Vec::<String>::new());
    assert_eq!(traces::cgroups(&cluster.name), Vec::<std::path::PathBuf>::new());
    assert!(traces::container_processes(cluster).is_empty());
}

#[tokio::test]
async fn commands_say_what_runs_and_what_they_wait_for() {
    let cluster = Cluster::named_only();
    let name = cluster.name.clone();
    let other = "{apiVersion: v1, kind: Config, current-context: other, contexts: [{name: other, context: {cluster: o, user: o}}]}";
    std::fs::write(cluster.kubeconfig(), other).unwrap();
    cluster.run_ok(&["up"]);
    lost_images_come_back(&cluster);
    lost_objects_come_back(&cluster).await;
    let pods: Api<Pod> = Api::default_namespaced(connect(&cluster).await);
    run_pod(&cluster, &pods, &demo_pod("demo")).await;
    let refused = error_of(&cluster.run(&["image", "remove", DEMO]));
    assert!(
        refused.contains(&format!("image {DEMO} is in use by pod default/demo: delete what uses it first")),
        "{refused}"
    );

    cluster.kill_server();
    for command in
        [&["status"] as &[&str], &["image", "list"], &["bench", "pod"], &["bench", "idle", "--wait-s=0"]]
    {
        let error = error_of(&cluster.run(command));
        let expected = format!(
            "the server of cluster {name} is down, but 1 pod runs still: default/demo; `nauplius up --name {name}` adopts them"
        );
        assert!(error.contains(&expected), "{command:?}: {error}");
    }
    let stopped = cluster.run_ok(&["down"]);
    assert!(
        stopped.starts_with(&format!("Stopping 1 pod: default/demo.\nCluster {name} is down")),
        "{stopped}"
    );
    nothing_of_pods_is_left(&cluster);
    assert!(!Path::new("/run/nauplius").join(&name).join("control.sock").exists());
    cluster.run_ok(&["up"]);
    ready(&cluster, &pods, "demo").await;

    run_pod(&cluster, &pods, &slow_pod()).await;
    let down = cluster.run(&["down"]);
    let (out, told) = (String::from_utf8_lossy(&down.stdout), String::from_utf8_lossy(&down.stderr));
    assert!(out.starts_with("Stopping 2 pods: default/demo, default/slow.\n"), "{out}");
    assert!(told.contains(" s still waiting for default/slow"), "{told}");
    nothing_of_pods_is_left(&cluster);
    let gone = cluster.run_ok(&["delete"]);
    let current = format!("kubectl's context in {} is \"other\" again.", cluster.kubeconfig().display());
    assert!(gone.contains(&current), "{gone}");
    let left = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    assert!(left.contains("current-context: other"), "{left}");
}

fn measured(cluster: &Cluster, arguments: &[&str]) -> Value {
    let out = cluster.run_ok(&[&["bench"], arguments].concat());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[tokio::test]
async fn benches_measure_and_leave_nothing() {
    let cluster = Cluster::up();
    let up = measured(&cluster, &["up", "--rounds=1"]);
    assert!(up["seconds"]["median"].as_f64().is_some_and(|seconds| seconds > 0.0), "{up}");
    let clusters = std::fs::read_to_string("/var/lib/nauplius/clusters.json").unwrap();
    assert!(!clusters.contains("\"bench-"), "{clusters}");

    let pod = measured(&cluster, &["pod", "--rounds=2"]);
    assert_eq!(pod["seconds"]["rounds"], 2, "{pod}");
    let idle = measured(&cluster, &["idle", "--wait-s=0", "--pods=1"]);
    // A server that has just started is still giving memory back: only what cannot vary is compared.
    let kib = |field: &str| idle[field].as_u64().unwrap_or_default();
    assert!(idle["pods"] == 1 && kib("totalWithPodsKiB") > 0, "{idle}");
    assert!((1..=kib("totalKiB")).contains(&kib("serverKiB")), "{idle}");
    let pods: Api<Pod> = Api::default_namespaced(connect(&cluster).await);
    eventually("the bench's pods to be gone", || {
        traces::container_processes(&cluster).is_empty().then_some(())
    });
    assert!(pods.delete("demo", &DeleteParams::default()).await.is_err());
}

#[test]
fn two_that_start_one_cluster_both_see_it_work() {
    let cluster = Cluster::named_only();
    let said: Vec<String> = std::thread::scope(|scope| {
        let starts = [(); 2].map(|()| scope.spawn(|| cluster.run_ok(&["up"])));
        starts.map(|start| start.join().unwrap()).into()
    });
    let count = |words: &str| said.iter().filter(|said| said.contains(words)).count();
    assert_eq!((count(" works, "), count(" is up already, at ")), (1, 1), "{said:?}");
}
