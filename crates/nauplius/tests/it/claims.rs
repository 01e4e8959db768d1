//! Pods wait for their claims, and are looked at again when these come.

use crate::kube_rs::connect;
use crate::workload::{Workload, once};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

fn unschedulable(reason: &str) -> String {
    format!(
        "0/1 nodes are available: {reason}. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
}

fn scheduled(pod: &Value) -> Option<&Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "PodScheduled")
}

/// Waits until the pod waits for this reason, which it says in its condition and in an event.
async fn waits(world: &Workload, pod: &str, reason: &str) {
    let message = unschedulable(reason);
    world
        .wait(pod, &message, |pod| {
            let told = scheduled(pod)?;
            let is = told["status"] == "False" && told["reason"] == "Unschedulable";
            (is && told["message"] == message.as_str()).then_some(())
        })
        .await;
    world.said(pod, &format!("Warning FailedScheduling {message}")).await;
}

#[tokio::test]
async fn pods_wait_for_their_claims() {
    let world = Workload::new().await;
    let client = connect(&world.cluster).await;
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(client.clone());
    let volumes: Api<PersistentVolume> = Api::all(client);
    let pod = |name: &str, volume: Value| once(name, "true", json!({"volumes": [volume]}), json!({}));
    world.make(pod("named", json!({"name": "v", "persistentVolumeClaim": {"claimName": "data"}}))).await;
    waits(&world, "named", "persistentvolumeclaim \"data\" not found").await;
    let spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}},
    });
    let template = json!({"volumeClaimTemplate": {"spec": spec}});
    world.make(pod("own", json!({"name": "v", "ephemeral": template}))).await;
    let waiting = "waiting for ephemeral volume controller to create the persistentvolumeclaim \"own-v\"";
    waits(&world, "own", waiting).await;

    let claim: PersistentVolumeClaim =
        serde_json::from_value(json!({"metadata": {"name": "data"}, "spec": spec})).unwrap();
    claims.create(&PostParams::default(), &claim).await.unwrap();
    waits(&world, "named", "pod has unbound immediate PersistentVolumeClaims").await;

    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": "disk"},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp"}},
    }))
    .unwrap();
    volumes.create(&PostParams::default(), &volume).await.unwrap();
    let bound = json!({
        "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "disk"},
    });
    claims.patch("data", &PatchParams::default(), &Patch::Merge(&bound)).await.unwrap();
    world
        .wait("named", "a node", |pod| scheduled(pod).filter(|told| told["status"] == "True").map(drop))
        .await;
}
