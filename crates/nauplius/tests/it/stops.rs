//! `down` stops each pod as its deletion would, in its own time.

use crate::cluster::Cluster;
use crate::commands::{nothing_of_pods_is_left, run_pod};
use crate::kube_rs::connect;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use serde_json::{Value, json};
use std::path::Path;

fn shell(name: &str, script: &str) -> Value {
    let mounts = json!([{"name": "notes", "mountPath": "/notes"}]);
    json!({"name": name, "image": "nauplius.local/demo:1", "command": ["sh", "-c", script], "volumeMounts": mounts})
}

fn pod(name: &str, grace_s: i64, notes: &Path, mut spec: Value) -> Pod {
    spec["terminationGracePeriodSeconds"] = json!(grace_s);
    spec["volumes"] = json!([{"name": "notes", "hostPath": {"path": notes}}]);
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

/// Never ends by itself.
const STUBBORN: &str = "trap '' TERM; while true; do sleep 887701; done";
/// Ends when the stubborn one has gone: one grace for all would have ended both at once.
const PATIENT: &str = "m=8877; gone() { case \"$(cat /proc/[0-9]*/cmdline 2>/dev/null)\" in *${m}01*) return 1;; esac; }
    trap 'until gone; do sleep 0.1; done; echo outlived > /notes/patient; exit' TERM; while true; do sleep 0.1; done";
const MAIN: &str = "trap 'sleep 1; echo main >> /notes/order; exit' TERM; while true; do sleep 0.1; done";
const SIDECAR: &str = "trap 'echo sidecar >> /notes/order; exit' TERM; while true; do sleep 0.1; done";

#[tokio::test]
async fn each_pod_ends_as_its_deletion_would_end_it() {
    check(|_| {}).await;
}

/// Hooks, order and time of each are noted at its containers.
#[tokio::test]
async fn pods_whose_server_was_killed_end_so_too() {
    check(Cluster::kill_server).await;
}

async fn check(before: impl FnOnce(&Cluster)) {
    let cluster = Cluster::up();
    let notes = cluster.scratch.path().join("notes");
    std::fs::create_dir(&notes).unwrap();
    let pods: Api<Pod> = Api::default_namespaced(connect(&cluster).await);
    let alone = |script: &str| json!({"containers": [shell("c", script)]});
    run_pod(&cluster, &pods, &pod("stubborn", 1, &notes, alone(STUBBORN))).await;
    let mut patient = alone(PATIENT);
    patient["hostPID"] = json!(true);
    run_pod(&cluster, &pods, &pod("patient", 600, &notes, patient)).await;
    let mut main = shell("c", MAIN);
    main["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /notes/order"]}}});
    let mut sidecar = shell("s", SIDECAR);
    sidecar["restartPolicy"] = json!("Always");
    let ordered = json!({"initContainers": [sidecar], "containers": [main]});
    run_pod(&cluster, &pods, &pod("ordered", 60, &notes, ordered)).await;

    before(&cluster);
    cluster.run_ok(&["down"]);
    nothing_of_pods_is_left(&cluster);
    let note = |name: &str| std::fs::read_to_string(notes.join(name)).unwrap_or_default();
    assert_eq!(note("patient"), "outlived\n");
    assert_eq!(note("order"), "hook\nmain\nsidecar\n");
}
