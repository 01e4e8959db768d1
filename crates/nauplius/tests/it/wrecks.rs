//! What somebody has removed under a running cluster: its directory, which `delete` bears with, and its bridge, which comes back.

use crate::cluster::{Cluster, eventually};
use crate::commands::run_pod;
use crate::kube_rs::{connect, demo_pod};
use crate::traces;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use nauplius_link::Rtnl;
use nauplius_net::bridge::{bridge_name, interface_prefix};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// A pod with a volume in memory, whose mount nobody can remove as a file, and that does not end by itself.
fn stubborn_pod() -> Pod {
    let mut pod = demo_pod("stubborn");
    let spec = pod.spec.as_mut().unwrap();
    spec.termination_grace_period_seconds = Some(600);
    spec.volumes = serde_json::from_value(json!([{"name": "m", "emptyDir": {"medium": "Memory"}}])).unwrap();
    let container = &mut spec.containers[0];
    container.volume_mounts = serde_json::from_value(json!([{"name": "m", "mountPath": "/m"}])).unwrap();
    let script = "trap '' TERM; while true; do sleep 1; done";
    container.command = Some(["sh", "-c", script].map(ToOwned::to_owned).to_vec());
    container.readiness_probe = None;
    pod
}

async fn removed_under(before: impl FnOnce(&Cluster)) {
    let cluster = Cluster::up();
    let pods: Api<Pod> = Api::default_namespaced(connect(&cluster).await);
    run_pod(&cluster, &pods, &demo_pod("demo")).await;
    run_pod(&cluster, &pods, &stubborn_pod()).await;
    before(&cluster);
    // What is mounted there stays, and with it the directories above.
    Command::new("rm").arg("-rf").arg(cluster.data_dir()).output().unwrap();
    let deleted = cluster.run(&["delete"]);
    let told = String::from_utf8_lossy(&deleted.stderr);
    assert!(deleted.status.success() && told.contains("what still runs is ended at once"), "{deleted:?}");
    assert_eq!(traces::of(&cluster), Vec::<String>::new());
    let again = cluster.run_ok(&["delete"]);
    assert_eq!(again, format!("There is no cluster {:?} here.\n", cluster.name));
}

#[tokio::test]
async fn a_running_cluster_whose_directory_is_gone_is_deleted_whole() {
    removed_under(|_| {}).await;
}

#[tokio::test]
async fn so_is_one_whose_server_was_killed() {
    removed_under(Cluster::kill_server).await;
}

/// Without its lock and its socket a server cannot be asked, only found.
#[tokio::test]
async fn a_server_that_cannot_be_reached_is_ended() {
    let cluster = Cluster::up();
    std::fs::remove_dir_all(std::path::Path::new("/run/nauplius").join(&cluster.name)).unwrap();
    cluster.run_ok(&["delete"]);
    assert_eq!(traces::of(&cluster), Vec::<String>::new());
}

fn answers(address: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}

#[tokio::test]
async fn a_removed_bridge_comes_back_with_the_pods_on_it() {
    let cluster = Cluster::up();
    let client = connect(&cluster).await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    run_pod(&cluster, &pods, &demo_pod("demo")).await;
    let ip = pods.get("demo").await.unwrap().status.unwrap().pod_ip.unwrap();
    let address = format!("{ip}:8080").parse().unwrap();
    eventually("the pod's answer", || answers(address));
    let bridge = bridge_name(&interface_prefix(&cluster.name));
    assert!(Rtnl::open().unwrap().delete_link(&bridge).unwrap());
    eventually("the pod's answer over a new bridge", || answers(address));
    let nodes: Api<Node> = Api::all(client);
    let node = nodes.list(&ListParams::default()).await.unwrap().items.remove(0);
    let ready = node.status.unwrap().conditions.unwrap().into_iter().find(|one| one.type_ == "Ready");
    assert!(ready.as_ref().is_some_and(|ready| ready.status == "True"), "{ready:?}");
    // Names are answered on it, and a further pod is put on it.
    run_pod(&cluster, &pods, &demo_pod("later")).await;
    cluster.run_ok(&["status"]);
}
