//! Plans as golden traces.

use super::*;
use crate::testing::{at, object, trace};
use serde_json::{Value, json};

fn set(replicas: i32, extra: Value) -> Arc<ReplicaSet> {
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": []}});
    let mut set = json!({"metadata": {"name": "s", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "template": template}});
    nauplius_meta::patch::merge::apply(&mut set, extra);
    object(set)
}

fn owned(name: &str, ready: bool) -> Arc<Pod> {
    let owner =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": "u", "controller": true}]);
    object(
        json!({"metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "a"}, "ownerReferences": owner},
        "spec": {"nodeName": "node", "containers": []}, "status": {"phase": "Running", "conditions": [{"type": "Ready",
            "status": if ready { "True" } else { "False" }, "lastTransitionTime": "1970-01-01T00:01:40Z"}]}}),
    )
}

fn view(set: Arc<ReplicaSet>, pods: Vec<Arc<Pod>>) -> View {
    View { set, pods, neighbours: BTreeMap::new() }
}

#[test]
fn missing_pods_are_created() {
    let plan = plan(&view(set(2, json!({})), Vec::new()), at(200));
    let create = "POST n/pods (Created pod: {name})";
    assert_eq!(trace(&plan), [create, create, "PUT n/replicasets/s/status"]);
    let Action::Write(write) = &plan.actions[0] else { panic!("no write") };
    let pod = Pod::decode(&write.body).unwrap();
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("s-"));
    assert_eq!(labels::controller_of(&pod.metadata).unwrap().uid, "u");
    assert_eq!(write.on_failure.as_ref().unwrap().reason, "FailedCreate");
}

#[test]
fn surplus_pods_are_deleted_unready_first() {
    let plan = plan(&view(set(1, json!({})), vec![owned("a", true), owned("b", false)]), at(200));
    assert_eq!(trace(&plan), ["DELETE n/pods/b (Deleted pod: b)", "PUT n/replicasets/s/status"]);
}

#[test]
fn no_look_exceeds_the_burst() {
    let plan = plan(&view(set(2000, json!({})), Vec::new()), at(200));
    assert_eq!(plan.actions.len(), BURST + 1);
}

#[test]
fn strangers_are_adopted_or_released_before_anything_else() {
    let orphan =
        object(json!({"metadata": {"name": "o", "namespace": "n", "uid": "o", "labels": {"app": "a"}}}));
    let mut lost = Pod::clone(&owned("l", true));
    lost.metadata.labels = None;
    let plan = plan(&view(set(1, json!({})), vec![orphan, Arc::new(lost)]), at(200));
    assert_eq!(trace(&plan), ["PATCH n/pods/o", "PATCH n/pods/l"]);
}

#[test]
fn min_ready_seconds_ask_for_another_look() {
    let status = json!({"replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1, "terminatingReplicas": 0, "observedGeneration": 1});
    let view =
        view(set(1, json!({"spec": {"minReadySeconds": 30}, "status": status})), vec![owned("a", true)]);
    let early = plan(&view, at(110));
    assert_eq!((trace(&early), early.again_after), (Vec::new(), Some(std::time::Duration::from_secs(20))));
    let late = plan(&view, at(130));
    assert_eq!((trace(&late).len(), late.again_after), (1, None));
}

#[test]
fn a_failure_becomes_a_condition_and_goes_again() {
    let view = view(set(1, json!({})), Vec::new());
    let failure = Failure::Is { reason: "FailedCreate", message: "no quota".into() };
    let Some(Action::Write(write)) = view.update_status(&failure, at(1)) else { panic!("no write") };
    let failed = Arc::new(ReplicaSet::decode(&write.body).unwrap());
    let conditions = failed.status.as_ref().unwrap().conditions.as_ref().unwrap();
    assert_eq!(conditions[0].reason.as_deref(), Some("FailedCreate"));
    let healed = status(&failed, &[owned("a", true)], 0, &Failure::None, at(2));
    assert_eq!(healed.conditions, None);
}
