//! A node's way into silence and back.

use super::*;
use crate::testing::{at, object, trace};
use serde_json::Value;

fn node(ready: &str, taints: Value) -> Arc<Node> {
    let conditions: Vec<_> = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .iter()
        .map(|type_| {
            let fine = if *type_ == "Ready" { "True" } else { "False" };
            json!({"type": type_, "status": if ready == "Unknown" { "Unknown" } else if *type_ == "Ready" { ready } else { fine }})
        })
        .collect();
    object(
        json!({"metadata": {"name": "a", "resourceVersion": "5"}, "spec": {"taints": taints}, "status": {"conditions": conditions}}),
    )
}

fn here(node: Arc<Node>, silent_s: u64, all_disrupted: bool) -> Here {
    let silent_for = Duration::from_secs(silent_s);
    Here { node, is_new: false, silent_for, all_disrupted, ready_pods: Vec::new() }
}

fn bodies(plan: &Plan) -> String {
    let body = |action: &Action| match action {
        Action::Write(write) => String::from_utf8(write.body.clone()).unwrap(),
        Action::Event(_) => String::new(),
    };
    plan.actions.iter().map(body).collect()
}

#[test]
fn a_healthy_node_costs_nothing_but_another_look() {
    let plan = plan(&here(node("True", json!([])), 10, false), at(100));
    assert_eq!(trace(&plan), Vec::<String>::new());
    assert_eq!(plan.again_after, Some(Duration::from_millis(40_001)));
}

#[test]
fn a_silent_node_becomes_unknown_then_tainted() {
    let silent = plan(&here(node("True", json!([])), 51, false), at(100));
    let event = "event Normal NodeNotReady: Node a status is now: NodeNotReady";
    assert_eq!(trace(&silent), [event, "PUT /api/v1/nodes/a/status"]);
    assert!(bodies(&silent).contains("Kubelet stopped posting node status."));
    let tainted = plan(&here(node("Unknown", json!([])), 52, false), at(100));
    assert_eq!(trace(&tainted), ["PATCH /api/v1/nodes/a"]);
    let body = bodies(&tainted);
    assert!(
        body.contains("NoSchedule") && body.contains("NoExecute") && body.contains("unreachable"),
        "{body}"
    );
    let alone = plan(&here(node("Unknown", json!([])), 52, true), at(100));
    assert!(!bodies(&alone).contains("NoExecute"));
    assert_eq!((alone.again_after, tainted.again_after), (None, None));
}

#[test]
fn a_node_that_is_back_loses_our_taints_only() {
    let taints = json!([{"key": "mine", "effect": "NoExecute"}, {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
    let plan = plan(&here(node("True", taints), 1, false), at(100));
    assert_eq!(
        bodies(&plan),
        r#"{"metadata":{"resourceVersion":"5"},"spec":{"taints":[{"effect":"NoExecute","key":"mine"}]}}"#
    );
}

#[test]
fn pods_of_a_silent_node_are_not_ready() {
    let pod = object(
        json!({"metadata": {"name": "p", "namespace": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    let taints = json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]);
    let here = Here { ready_pods: vec![pod], ..here(node("Unknown", taints), 60, true) };
    let lines = trace(&plan(&here, at(100)));
    assert_eq!(lines, ["event Warning NodeNotReady: Node is not ready", "PUT n/pods/p/status"]);
}
