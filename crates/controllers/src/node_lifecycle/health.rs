//! What a silent node's conditions become, and its pods'.

use crate::conditions::seconds;
use nauplius_base::time::Timestamp;
use nauplius_kinds::api::core::NodeCondition;
use nauplius_kinds::{Node, Pod, node};
use std::time::Duration;

/// A node that has written its status may be silent for so long.
const MONITOR_GRACE: Duration = Duration::from_secs(50);
/// One that has not yet.
const STARTUP_GRACE: Duration = Duration::from_secs(60);
/// The conditions that its kubelet writes.
const KUBELETS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub(super) fn grace(node: &Node) -> Duration {
    if node::condition(node, "Ready").is_some() { MONITOR_GRACE } else { STARTUP_GRACE }
}

/// Whether all that its kubelet would write is unknown already.
pub(super) fn is_silenced(node: &Node) -> bool {
    KUBELETS
        .iter()
        .all(|type_| node::condition(node, type_).is_some_and(|condition| condition.status == "Unknown"))
}

/// The node with its kubelet's conditions unknown; `None` if they are.
pub(super) fn silenced(node: &Node, now: Timestamp) -> Option<Node> {
    if is_silenced(node) {
        return None;
    }
    let mut silent = node.clone();
    let created = node.metadata.creation_timestamp.clone();
    let conditions = silent.status.get_or_insert_default().conditions.get_or_insert_default();
    for type_ in KUBELETS {
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(seconds(now));
            }
            None => conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: created.clone(),
                last_transition_time: Some(seconds(now)),
            }),
        }
    }
    Some(silent)
}

/// The pod as not ready: nobody can tell any more.
pub(super) fn unready(pod: &Pod, now: Timestamp) -> Pod {
    let mut pod = pod.clone();
    let conditions = pod.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten());
    for condition in conditions.filter(|condition| condition.type_ == "Ready") {
        condition.status = "False".to_owned();
        condition.last_transition_time = Some(seconds(now));
    }
    pod
}
