//! A node that runs short: its conditions, the pods that end for it, and the images that go.

use crate::api::Api;
use crate::runtime::Fake;
use crate::world::World;
use nauplius_kubelet::EvictionSettings;
use serde_json::{Value, json};

const IMAGE: &str = "demo:1";

fn spec(container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("c");
    container["image"] = json!(IMAGE);
    json!({"terminationGracePeriodSeconds": 30, "containers": [container]})
}

fn condition(object: &Value, type_: &str) -> Value {
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
}

#[tokio::test]
async fn a_node_without_memory_tells_so_and_evicts() {
    let runtime = Fake::new(&[IMAGE]);
    // The node is short of memory whatever it has, but not at once: pods begin before.
    let settings = EvictionSettings::parse("", "memory.available<100%", "memory.available=1s", "").unwrap();
    let world = World::short_of(Api::new(), runtime, settings).await;
    world.create("asking", spec(json!({"resources": {"requests": {"memory": "1Mi"}}})));
    world.phase("asking", "Running").await;
    world
        .api
        .wait("the condition", |api| {
            let node = api.get("/api/v1/nodes/node")?;
            let told = condition(&node, "MemoryPressure");
            (told["status"] == "True" && told["reason"] == "KubeletHasInsufficientMemory").then_some(())
        })
        .await;
    let shortages = world.kubelet.shortages().await;
    let told =
        shortages.first().map(|one| (one.condition, one.signal, one.limit.as_str(), one.lasts, one.is_hard));
    assert_eq!(told, Some(("MemoryPressure", "memory.available", "100%", true, false)));
    world.create("late", spec(json!({})));
    let status = world.phase("late", "Failed").await;
    assert_eq!(status["reason"], "Evicted");
    assert_eq!(status["message"], "Pod was rejected: The node had condition: [MemoryPressure]. ");
    let status = world.phase("asking", "Failed").await;
    assert_eq!(status["reason"], "Evicted");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("The node was low on resource: memory. Threshold quantity: "),
        "{status}"
    );
    let pod = json!({"status": status});
    assert_eq!(condition(&pod, "DisruptionTarget")["reason"], "TerminationByKubelet");
    world.event("EvictionThresholdMet: Attempting to reclaim memory").await;
    world.event("Evicted: The node was low on resource: memory.").await;
}

#[tokio::test]
async fn a_pod_that_writes_too_much_is_evicted_and_apparmor_is_refused() {
    let world = World::new(&[IMAGE]).await;
    let mut writer = spec(json!({}));
    writer["volumes"] = json!([{"name": "v", "emptyDir": {"sizeLimit": "64Ki"}}]);
    world.create("writer", writer);
    world.phase("writer", "Running").await;
    let volume = world.root().join("pods/uid-writer/volumes/kubernetes.io~empty-dir/v");
    std::fs::write(volume.join("big"), vec![1; 200_000]).unwrap();
    let status = world.phase("writer", "Failed").await;
    assert_eq!(status["reason"], "Evicted");
    assert_eq!(status["message"], "Usage of EmptyDir volume \"v\" exceeds the limit \"64Ki\". ");
    assert!(world.runtime.calls().iter().any(|call| call.ends_with("in 2s")), "{:?}", world.runtime.calls());
    if std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'))
    {
        return; // What is confined here is the runtime's business.
    }
    let mut confined = spec(json!({}));
    confined["securityContext"] = json!({"appArmorProfile": {"type": "RuntimeDefault"}});
    world.create("confined", confined);
    let status = world.phase("confined", "Failed").await;
    assert_eq!(status["reason"], "AppArmor");
    assert_eq!(
        status["message"],
        "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"
    );
}
