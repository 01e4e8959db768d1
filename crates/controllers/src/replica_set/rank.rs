//! Which pods go first when there are too many, in upstream's order.

use nauplius_base::time::Timestamp;
use nauplius_kinds::api::meta::Time;
use nauplius_kinds::{Object, Pod, pod};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Smaller goes first.
type Rank<'a> = (bool, u8, bool, i32, Reverse<usize>, i64, Reverse<i32>, i64, &'a str);

/// The first `count` pods to delete.
pub(super) fn first_to_go(
    pods: &[Arc<Pod>],
    neighbours: &BTreeMap<String, usize>,
    now: Timestamp,
    count: usize,
) -> Vec<Arc<Pod>> {
    let mut sorted: Vec<_> = pods.iter().collect();
    sorted.sort_by(|one, other| rank(one, neighbours, now).cmp(&rank(other, neighbours, now)));
    sorted.into_iter().take(count).cloned().collect()
}

/// Unassigned, pending, unready, cheap, doubled up on its node, ready for a short time, often restarted, young. Times count by
/// their order of magnitude, so that pods of about one age go in a random (that is, the uid's) order.
fn rank<'a>(pod: &'a Pod, neighbours: &BTreeMap<String, usize>, now: Timestamp) -> Rank<'a> {
    let node = pod::node_name(pod);
    let ready = pod::is_ready(pod);
    let ready_since =
        pod::condition(pod, "Ready").and_then(|condition| condition.last_transition_time.as_ref());
    (
        !node.is_empty(),
        phase(pod),
        ready,
        pod::deletion_cost(pod),
        Reverse(neighbours.get(node).copied().unwrap_or(0)),
        if ready { magnitude(ready_since, now) } else { 0 },
        Reverse(restarts(pod)),
        magnitude(pod.metadata.creation_timestamp.as_ref(), now),
        pod.uid(),
    )
}

fn phase(pod: &Pod) -> u8 {
    match pod::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).max().unwrap_or(0)
}

/// The binary logarithm of an age; the unknown and the future are youngest.
fn magnitude(since: Option<&Time>, now: Timestamp) -> i64 {
    let age = since.map_or(0, |since| now.as_nanosecond() - since.0.as_nanosecond());
    if age <= 0 { -1 } else { i64::from(age.ilog2()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, node: &str, phase: &str, ready: bool, extra: &Value) -> Arc<Pod> {
        let mut pod = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase, "conditions": [{"type": "Ready",
                "status": if ready { "True" } else { "False" }, "lastTransitionTime": "1970-01-01T00:00:00Z"}]}});
        nauplius_meta::patch::merge::apply(&mut pod, extra.clone());
        Arc::new(Pod::decode(pod.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn pods_go_in_upstreams_order() {
        let cost = |cost: &str| json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}}});
        let none = json!({});
        let restarted = json!({"status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 3}]}});
        let pods = [
            pod(
                "young",
                "n1",
                "Running",
                true,
                &json!({"metadata": {"creationTimestamp": "1970-01-01T00:15:00Z"}}),
            ),
            pod("old", "n1", "Running", true, &none),
            pod("restarted", "n1", "Running", true, &restarted),
            pod(
                "fresh",
                "n1",
                "Running",
                true,
                &json!({"status": {"conditions": [{"type": "Ready", "status": "True",
                "lastTransitionTime": "1970-01-01T00:16:00Z"}]}}),
            ),
            pod("doubled", "n2", "Running", true, &none),
            pod("cheap", "n1", "Running", true, &cost("-1")),
            pod("dear", "n1", "Running", true, &cost("7")),
            pod("unready", "n1", "Running", false, &none),
            pod("pending", "n1", "Pending", false, &none),
            pod("unassigned", "", "Pending", false, &none),
        ];
        let neighbours = BTreeMap::from([("n1".to_owned(), 1), ("n2".to_owned(), 2)]);
        let now = Timestamp::from_second(1000).unwrap();
        let names = |pods: &[Arc<Pod>]| {
            first_to_go(pods, &neighbours, now, 20)
                .iter()
                .map(|pod| pod.name().to_owned())
                .collect::<Vec<_>>()
        };
        let expected = [
            "unassigned",
            "pending",
            "unready",
            "cheap",
            "doubled",
            "fresh",
            "restarted",
            "young",
            "old",
            "dear",
        ];
        assert_eq!(names(&pods), expected);
        let mut backwards = pods.to_vec();
        backwards.reverse();
        assert_eq!(names(&backwards), expected);
    }
}
