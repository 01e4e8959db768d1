//! The taints that follow from a node's conditions. Those that people set stay.

use crate::conditions::seconds;
use nauplius_base::time::{self, Timestamp};
use nauplius_kinds::api::core::Taint;
use nauplius_kinds::{Node, node};
use serde_json::{Value, json};

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition, its status, and the taint that says so.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// All taints that the node shall have; `None` if it has them.
pub(super) fn wanted(node: &Node, all_disrupted: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let effects = due(node, all_disrupted);
    let mut taints: Vec<_> = node::taints(node)
        .iter()
        .filter(|taint| !is_ours(taint) || is_due(&effects, taint))
        .cloned()
        .collect();
    for (key, effect) in &effects {
        if !taints.iter().any(|taint| taint.key == *key && taint.effect == *effect) {
            let (key, effect) = ((*key).to_owned(), (*effect).to_owned());
            taints.push(Taint { key, effect, time_added: Some(seconds(now)), value: None });
        }
    }
    (taints != node::taints(node)).then_some(taints)
}

fn is_due(due: &[(&str, &str)], taint: &Taint) -> bool {
    due.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect)
}

fn is_ours(taint: &Taint) -> bool {
    let follows = || BY_CONDITION.iter().any(|(_, _, key)| taint.key == *key) || taint.key == UNSCHEDULABLE;
    match taint.effect.as_str() {
        "NoSchedule" => follows(),
        "NoExecute" => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    }
}

fn due(node: &Node, all_disrupted: bool) -> Vec<(&'static str, &'static str)> {
    let holds = |type_: &str, status: &str| {
        node::condition(node, type_).is_some_and(|condition| condition.status == status)
    };
    let mut due: Vec<_> = BY_CONDITION
        .iter()
        .filter(|(type_, status, _)| holds(type_, status))
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    if !node::is_schedulable(node) {
        due.push((UNSCHEDULABLE, "NoSchedule"));
    }
    // Where no node at all works, the fault is more likely ours than theirs: nobody is evicted.
    let evicts = BY_CONDITION.iter().filter(|(type_, status, _)| *type_ == "Ready" && holds(type_, status));
    due.extend(evicts.filter(|_| !all_disrupted).map(|(_, _, key)| (*key, "NoExecute")));
    due
}

/// As a patch holds them.
pub(super) fn json(taints: &[Taint]) -> Value {
    let json = |taint: &Taint| {
        let mut value = json!({"key": taint.key, "effect": taint.effect});
        if let Some(text) = &taint.value {
            value["value"] = text.as_str().into();
        }
        if let Some(added) = &taint.time_added {
            value["timeAdded"] = time::rfc3339_seconds(added.0).into();
        }
        value
    };
    taints.iter().map(json).collect()
}
