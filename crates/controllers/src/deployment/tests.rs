//! Rollouts as golden traces, and against a small API server.

use super::*;
use crate::testing::{at, object, trace};
use serde_json::{Value, json};

fn base(replicas: i32, image: &str) -> Value {
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
    json!({"metadata": {"name": "d", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "template": template,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10}})
}

fn deployment(replicas: i32, image: &str, extra: Value) -> Arc<Deployment> {
    let mut value = base(replicas, image);
    nauplius_meta::patch::merge::apply(&mut value, extra);
    object(value)
}

fn set(name: &str, image: &str, revision: &str, wanted: i32, available: i32, max: i32) -> Arc<ReplicaSet> {
    let owner =
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u", "controller": true}]);
    let labels = json!({"app": "a", "pod-template-hash": name});
    let annotations = json!({"deployment.kubernetes.io/revision": revision, "deployment.kubernetes.io/desired-replicas": "10",
        "deployment.kubernetes.io/max-replicas": max.to_string()});
    object(
        json!({"metadata": {"name": name, "namespace": "n", "uid": name, "labels": labels, "ownerReferences": owner,
            "annotations": annotations, "creationTimestamp": format!("2026-01-01T00:00:0{revision}Z")},
        "spec": {"replicas": wanted, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": image}]}}},
        "status": {"replicas": wanted, "availableReplicas": available, "readyReplicas": available}}),
    )
}

fn check(deployment: Arc<Deployment>, sets: &[Arc<ReplicaSet>], expected: &[&str]) -> Plan {
    let view = View { deployment, sets: sets.to_vec(), occupied: BTreeSet::new() };
    let plan = plan(&view, at(1000));
    assert_eq!(trace(&plan), expected);
    let mut backwards = view.clone();
    backwards.sets.reverse();
    assert_eq!(super::plan(&backwards, at(1000)), plan, "the order of the input must not matter");
    plan
}

/// As the controller leaves it once revision 2 is noted.
fn noted(reason: &str) -> Value {
    json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "2"}}, "status": {"conditions": [{"type": "Progressing",
        "status": "True", "reason": reason, "lastUpdateTime": "1970-01-01T00:16:00Z", "lastTransitionTime": "1970-01-01T00:16:00Z"}]}})
}

#[test]
fn the_first_set_is_created_with_all_pods() {
    let hash = hash::of(&deployment(3, "i:1", json!({})).spec.template, None);
    let create = format!("POST n/replicasets replicas=3 (Scaled up replica set d-{hash} from 0 to 3)");
    let plan = check(deployment(3, "i:1", json!({})), &[], &[&create, "PUT n/deployments/d/status"]);
    let Action::Write(write) = &plan.actions[1] else { panic!("no write") };
    let noted = Deployment::decode(&write.body).unwrap();
    let progressing = nauplius_kinds::deployment::condition(&noted, "Progressing").unwrap();
    assert_eq!(progressing.reason.as_deref(), Some("NewReplicaSetCreated"));
    assert_eq!(progressing.message, Some(format!("Created new replica set \"d-{hash}\"")));
    assert_eq!(noted.metadata.annotations.unwrap()["deployment.kubernetes.io/revision"], "1");
}

#[test]
fn a_new_template_gets_a_set_within_the_surge() {
    let hash = hash::of(&deployment(10, "i:2", json!({})).spec.template, None);
    let create = format!("POST n/replicasets replicas=3 (Scaled up replica set d-{hash} from 0 to 3)");
    let old = set("one", "i:1", "1", 10, 10, 13);
    check(deployment(10, "i:2", json!({})), &[old], &[&create, "PUT n/deployments/d/status"]);
}

#[test]
fn old_sets_shrink_as_far_as_availability_allows() {
    let sets = [set("one", "i:1", "1", 10, 10, 13), set("two", "i:2", "2", 3, 0, 13)];
    let down = "PUT n/replicasets/one replicas=8 (Scaled down replica set one from 10 to 8)";
    check(deployment(10, "i:2", noted("ReplicaSetUpdated")), &sets, &[down, "PUT n/deployments/d/status"]);
}

#[test]
fn broken_old_pods_go_first() {
    let sets = [set("one", "i:0", "1", 3, 0, 13), set("two", "i:2", "2", 10, 8, 13)];
    let down = "PUT n/replicasets/one replicas=0 (Scaled down replica set one from 3 to 0)";
    check(deployment(10, "i:2", noted("ReplicaSetUpdated")), &sets, &[down, "PUT n/deployments/d/status"]);
}

#[test]
fn scaling_amid_a_rollout_keeps_proportions() {
    let sets = [set("one", "i:1", "1", 8, 8, 13), set("two", "i:2", "2", 5, 2, 13)];
    let one = "PUT n/replicasets/one replicas=15 (Scaled up replica set one from 8 to 15)";
    let two = "PUT n/replicasets/two replicas=10 (Scaled up replica set two from 5 to 10)";
    check(deployment(20, "i:2", noted("ReplicaSetUpdated")), &sets, &[one, two]);
}

#[test]
fn a_paused_deployment_only_scales() {
    let mut paused = noted("DeploymentPaused");
    paused["spec"] = json!({"paused": true});
    paused["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1".into();
    let scale = "PUT n/replicasets/one replicas=4 (Scaled down replica set one from 10 to 4)";
    check(
        deployment(4, "i:9", paused),
        &[set("one", "i:1", "1", 10, 10, 13)],
        &[scale, "PUT n/deployments/d/status"],
    );
    let pause = deployment(4, "i:9", json!({"spec": {"paused": true}}));
    check(pause, &[], &["PUT n/deployments/d/status"]);
}

#[test]
fn recreation_waits_for_the_old_pods() {
    let strategy = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let down = "PUT n/replicasets/one replicas=0 (Scaled down replica set one from 10 to 0)";
    let old = set("one", "i:1", "1", 10, 10, 10);
    check(deployment(10, "i:2", strategy.clone()), &[old], &[down, "PUT n/deployments/d/status"]);
    let waiting = View {
        deployment: deployment(10, "i:2", strategy.clone()),
        sets: vec![set("one", "i:1", "1", 0, 0, 10)],
        occupied: BTreeSet::from(["one".to_owned()]),
    };
    assert_eq!(trace(&plan(&waiting, at(1000))), ["PUT n/deployments/d/status"]);
    let hash = hash::of(&waiting.deployment.spec.template, None);
    let create = format!("POST n/replicasets replicas=10 (Scaled up replica set d-{hash} from 0 to 10)");
    let empty = set("one", "i:1", "1", 0, 0, 10);
    check(deployment(10, "i:2", strategy), &[empty], &[&create, "PUT n/deployments/d/status"]);
}

#[test]
fn the_deadline_passes_once() {
    let sets = [set("two", "i:2", "2", 10, 0, 13)];
    let mut stuck = noted("ReplicaSetUpdated");
    stuck["status"]["updatedReplicas"] = 10.into();
    stuck["status"]["replicas"] = 10.into();
    let view =
        View { deployment: deployment(10, "i:2", stuck), sets: sets.to_vec(), occupied: BTreeSet::new() };
    let early = plan(&view, at(1000));
    assert_eq!(early.again_after, Some(std::time::Duration::from_secs(561)));
    let late = plan(&view, at(1561));
    let Some(Action::Write(write)) = late.actions.last() else { panic!("no write") };
    let late = Deployment::decode(&write.body).unwrap();
    let condition = nauplius_kinds::deployment::condition(&late, "Progressing").unwrap();
    assert_eq!(condition.reason.as_deref(), Some("ProgressDeadlineExceeded"));
    assert_eq!(condition.message.as_deref(), Some("ReplicaSet \"two\" has timed out progressing."));
    let view = View { deployment: Arc::new(late), ..view };
    assert_eq!(trace(&plan(&view, at(1600))), Vec::<String>::new());
}

#[test]
fn old_empty_sets_beyond_the_limit_are_deleted() {
    let complete = json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "3"}}, "spec": {"revisionHistoryLimit": 1},
        "status": {"observedGeneration": 1, "replicas": 10, "updatedReplicas": 10, "readyReplicas": 10, "availableReplicas": 10,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]}});
    let sets = [
        set("one", "i:1", "1", 0, 0, 13),
        set("two", "i:2", "2", 0, 0, 13),
        set("three", "i:3", "3", 10, 10, 13),
    ];
    check(deployment(10, "i:3", complete), &sets, &["DELETE n/replicasets/one"]);
}
