//! Pods that nobody looks after: on nodes that are gone, deleted before they were bound, or ended and too many.

use crate::context::{Context, NODE};
use nauplius_base::time::{self, Timestamp};
use nauplius_client::{Client, DeleteOptions, Patch};
use nauplius_kinds::{Node, Object, Pod, pod};
use nauplius_reconcile::{Action, Asked, Change, Controller, Informer, Key, Plan, Queue};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const WORKERS: usize = 1;
/// So many ended pods may stay; the oldest beyond them go.
const TERMINATED_MAX: usize = 12_500;
/// A node may come back within this time.
const QUARANTINE: Duration = Duration::from_secs(40);

struct PodGc {
    pods: Informer<Pod>,
    nodes: Informer<Node>,
}

#[derive(Debug, Clone)]
struct View {
    pod: Arc<Pod>,
    /// It is bound to a node that is not there.
    is_lost: bool,
    /// So many ended pods are older or as old.
    is_surplus: bool,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    let keys = queue.clone();
    let nodes = context.nodes.clone();
    context.pods.on_change(move |change: &Change<Pod>| {
        let pod = change.object();
        let is_bound_to_nobody =
            !pod::node_name(pod).is_empty() && nodes.snapshot().find("", pod::node_name(pod)).is_none();
        if is_unbound_and_leaving(pod) || pod::is_terminal(pod) {
            keys.add(Key::of(&**pod));
        } else if is_bound_to_nobody {
            keys.add_after(Key::of(&**pod), QUARANTINE);
        }
    });
    let (keys, pods) = (queue.clone(), context.pods.clone());
    context.nodes.on_change(move |change| {
        if let Change::Deleted(node) = change {
            let pods = pods.snapshot();
            pods.indexed(NODE, node.name()).for_each(|pod| keys.add_after(Key::of(&**pod), QUARANTINE));
        }
    });
    let controller = PodGc { pods: context.pods.clone(), nodes: context.nodes.clone() };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.pods));
}

fn is_unbound_and_leaving(pod: &Pod) -> bool {
    pod::is_terminating(pod) && pod::node_name(pod).is_empty()
}

impl PodGc {
    /// Whether too many ended pods are there and this one is among the oldest.
    fn is_surplus(&self, pod: &Pod) -> bool {
        let pods = self.pods.snapshot();
        if !pod::is_terminal(pod) || pods.len() <= TERMINATED_MAX {
            return false;
        }
        let age = |pod: &Pod| (pod.metadata.creation_timestamp.clone(), pod.uid().to_owned());
        let ended = pods.iter().filter(|other| pod::is_terminal(other));
        ended.filter(|other| age(other) > age(pod)).count() >= TERMINATED_MAX
    }
}

impl Controller for PodGc {
    type View = View;
    const NAME: &'static str = "pod-garbage-collector";
    const QUEUE: &'static str = "orphaned_pods_nodes";

    fn view(&self, key: &Key) -> Option<View> {
        let pod = Arc::clone(self.pods.snapshot().get(key)?);
        let node = pod::node_name(&pod);
        let is_lost = !node.is_empty() && self.nodes.snapshot().find("", node).is_none();
        let is_surplus = self.is_surplus(&pod);
        Some(View { pod, is_lost, is_surplus })
    }

    /// The cache may not know the node yet.
    fn ask<'a>(&'a self, client: &'a Client, mut view: View) -> Asked<'a, View> {
        Box::pin(async move {
            if view.is_lost {
                match client.all::<Node>().get(pod::node_name(&view.pod)).await {
                    Ok(_) => view.is_lost = false,
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(view)
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan(view, now)
    }
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let pod = &view.pod;
    if view.is_lost && !pod::is_terminal(pod) {
        // It ends first, so that what waits for its end sees it; the deletion follows when the caches show that.
        plan.act(Action::patch(&**pod, Some("status"), failed(pod, now)));
    } else if view.is_lost || view.is_surplus || is_unbound_and_leaving(pod) {
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::of_uid(pod.uid()) };
        plan.act(Action::delete_with(&**pod, options));
    }
    plan
}

fn failed(pod: &Pod, now: Timestamp) -> Patch {
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists", "lastTransitionTime": time::rfc3339_seconds(now)});
    let status = json!({"phase": "Failed", "conditions": [condition]});
    Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, object, trace};
    use serde_json::Value;

    fn check(status: Value, deleted: bool, is_lost: bool, is_surplus: bool, expected: &[&str]) {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "status": status});
        if deleted {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        let view = View { pod: object(pod), is_lost, is_surplus };
        assert_eq!(trace(&plan(&view, at(1))), expected);
    }

    #[test]
    fn what_nobody_looks_after_goes() {
        check(json!({}), false, false, false, &[]);
        check(json!({}), true, false, false, &["DELETE n/pods/p"]);
        check(json!({"phase": "Running"}), false, true, false, &["PATCH n/pods/p/status"]);
        check(json!({"phase": "Failed"}), false, true, false, &["DELETE n/pods/p"]);
        check(json!({"phase": "Succeeded"}), false, false, true, &["DELETE n/pods/p"]);
    }
}
