//! Pods that do not tolerate a NoExecute taint of their node go, at once or when their toleration ends.

use crate::conditions::seconds;
use crate::context::{Context, NODE, enqueue};
use nauplius_base::time::{self, Timestamp};
use nauplius_kinds::api::core::{PodCondition, Taint, Toleration};
use nauplius_kinds::{Node, Object, Pod, node, pod, toleration};
use nauplius_reconcile::{Action, Controller, EventKind, Informer, Key, Plan, Queue};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const WORKERS: usize = 4;
const NO_EXECUTE: &str = "NoExecute";

/// A taint of a node: node, key, value.
type Noticed = BTreeMap<(String, String, Option<String>), Timestamp>;

struct TaintEviction {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    /// Since when taints that carry no time are known.
    noticed: Mutex<Noticed>,
}

#[derive(Debug, Clone)]
struct View {
    pod: Arc<Pod>,
    /// The NoExecute taints of its node, and since when they are there.
    taints: Vec<(Taint, Timestamp)>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    enqueue(&context.pods, &queue, |change| Some(Key::of(&**change.object())));
    let (pods, keys) = (context.pods.clone(), queue.clone());
    context.nodes.on_change(move |change| {
        let changed = match change {
            nauplius_reconcile::Change::Updated { old, new } => node::taints(old) != node::taints(new),
            _ => true,
        };
        if changed {
            let pods = pods.snapshot();
            pods.indexed(NODE, change.object().name()).for_each(|pod| keys.add(Key::of(&**pod)));
        }
    });
    let controller =
        TaintEviction { nodes: context.nodes.clone(), pods: context.pods.clone(), noticed: Mutex::default() };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.pods));
}

impl TaintEviction {
    fn taints(&self, node: &Node) -> Vec<(Taint, Timestamp)> {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        let current: Vec<_> = node::taints(node).iter().filter(|taint| taint.effect == NO_EXECUTE).collect();
        noticed.retain(|(name, key, value), _| {
            name != node.name() || current.iter().any(|taint| taint.key == *key && taint.value == *value)
        });
        let mut since = |taint: &Taint| match &taint.time_added {
            Some(added) => added.0,
            None => {
                let key = (node.name().to_owned(), taint.key.clone(), taint.value.clone());
                *noticed.entry(key).or_insert_with(time::now)
            }
        };
        current.into_iter().map(|taint| (taint.clone(), since(taint))).collect()
    }
}

impl Controller for TaintEviction {
    type View = View;
    const NAME: &'static str = "node-controller";
    const COMPONENT: &'static str = "taint-eviction-controller";
    const QUEUE: &'static str = "noexec_taint_pod";

    fn view(&self, key: &Key) -> Option<View> {
        let pod = Arc::clone(self.pods.snapshot().get(key)?);
        let taints = self.taints(self.nodes.snapshot().find("", pod::node_name(&pod))?);
        (!taints.is_empty() && !pod::is_terminating(&pod)).then_some(View { pod, taints })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan(view, now)
    }
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let spec = view.pod.spec.as_ref();
    let tolerations = spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let deadlines = view.taints.iter().filter_map(|(taint, since)| deadline(taint, *since, tolerations));
    let Some(deadline_s) = deadlines.min() else { return plan };
    let left_s = deadline_s.saturating_sub(now.as_second());
    if left_s > 0 {
        plan.because("waiting for a toleration to end");
        plan.again(Duration::from_secs(left_s.unsigned_abs()));
        return plan;
    }
    let pod = &view.pod;
    if pod::condition(pod, "DisruptionTarget").is_none_or(|condition| condition.status != "True") {
        let message = format!("Marking for deletion Pod {}/{}", pod.namespace(), pod.name());
        plan.act(Action::event(&**pod, EventKind::Normal, "TaintManagerEviction", message));
        // The deletion follows when the caches show the condition.
        plan.act(Action::update_status(&disrupted(pod, now)));
    } else {
        plan.act(Action::delete(&**pod));
    }
    plan
}

/// The second at which the taint drives the pod out; `None` = never.
fn deadline(taint: &Taint, since: Timestamp, tolerations: &[Toleration]) -> Option<i64> {
    let matching: Vec<_> =
        tolerations.iter().filter(|toleration| toleration::tolerates(toleration, taint)).collect();
    if matching.is_empty() {
        return Some(i64::MIN);
    }
    let seconds = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min()?;
    Some(since.as_second().saturating_add(seconds.max(0)))
}

fn disrupted(pod: &Pod, now: Timestamp) -> Pod {
    let mut pod = pod.clone();
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("DeletionByTaintManager".to_owned()),
        message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
        last_transition_time: Some(seconds(now)),
        ..PodCondition::default()
    });
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, object, trace};
    use serde_json::{Value, json};

    fn check(tolerations: Value, now: i64, expected: &[&str], again_s: Option<u64>) {
        let pod = object(
            json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [], "tolerations": tolerations}}),
        );
        let taint = Taint { key: "k".into(), effect: NO_EXECUTE.into(), ..Taint::default() };
        let plan = plan(&View { pod, taints: vec![(taint, at(100))] }, at(now));
        assert_eq!(trace(&plan), expected);
        assert_eq!(plan.again_after, again_s.map(Duration::from_secs));
    }

    #[test]
    fn tolerations_decide_when_a_pod_goes() {
        let tolerates =
            |seconds: Value| json!([{"key": "k", "operator": "Exists", "tolerationSeconds": seconds}]);
        let evict =
            ["event Normal TaintManagerEviction: Marking for deletion Pod n/p", "PUT n/pods/p/status"];
        check(json!([]), 100, &evict, None);
        check(tolerates(json!(300)), 100, &[], Some(300));
        check(tolerates(json!(300)), 400, &evict, None);
        check(tolerates(Value::Null), 4000, &[], None);
    }

    #[test]
    fn what_is_marked_is_deleted() {
        let pod = disrupted(&Pod::default(), at(1));
        let taint = Taint { key: "k".into(), effect: NO_EXECUTE.into(), ..Taint::default() };
        let plan = plan(&View { pod: Arc::new(pod), taints: vec![(taint, at(0))] }, at(2));
        assert_eq!(plan.actions.len(), 1);
    }
}
