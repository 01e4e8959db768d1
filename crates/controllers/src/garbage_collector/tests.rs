//! Every standing of owners as golden cases, and whole trees against a small API server.

use super::*;
use crate::graph::resources::Resources;
use crate::testing::server::Server;
use crate::testing::trace;
use crate::walk::{assert_idle, deployment, is_rolled_out, walk};
use serde_json::{Value, json};

fn thing(extra: Value) -> Arc<Thing> {
    let mut value = json!({"metadata": {"name": "p", "namespace": "n", "uid": "p", "resourceVersion": "7"}});
    nauplius_meta::patch::merge::apply(&mut value, extra);
    let pods = Resources::builtin().find("v1", "Pod").unwrap();
    Arc::new(Seen::decode(value.to_string().as_bytes()).unwrap().thing(pods))
}

fn owner(uid: &str) -> Owner {
    Owner {
        uid: uid.into(),
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: uid.into(),
        blocks: true,
    }
}

fn check(thing: Arc<Thing>, owners: &[Standing], dependents: Vec<Arc<Thing>>, expected: &[(&str, &str)]) {
    let graph = Graph::new(Resources::builtin());
    let owners =
        owners.iter().enumerate().map(|(index, standing)| (owner(&format!("o{index}")), *standing)).collect();
    let plan = plan(&graph, &View { thing, owners, dependents });
    let lines = trace(&plan);
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for ((line, action), (head, part)) in lines.iter().zip(&plan.actions).zip(expected) {
        let Action::Write(write) = action else { panic!("no write: {line}") };
        assert!(line.starts_with(head), "{line} is not {head}");
        let body = String::from_utf8(write.body.clone()).unwrap();
        assert!(body.contains(part), "{body} has no {part}");
    }
}

#[test]
fn owners_decide() {
    use Standing::{Absent, Solid, Unknown, Waiting};
    let plain = || thing(json!({}));
    check(plain(), &[], vec![], &[]);
    check(plain(), &[Solid], vec![], &[]);
    check(plain(), &[Unknown, Absent], vec![], &[]);
    check(plain(), &[Absent], vec![], &[("DELETE n/pods/p", "Background")]);
    check(plain(), &[Waiting], vec![], &[("DELETE n/pods/p", "Background")]);
    check(plain(), &[Waiting], vec![plain()], &[("DELETE n/pods/p", "Foreground")]);
    check(plain(), &[Absent, Solid], vec![], &[("PATCH n/pods/p", r#"[{"$patch":"delete","uid":"o0"}]"#)]);
    let keeps = thing(json!({"metadata": {"finalizers": ["orphan"]}}));
    check(keeps, &[Absent], vec![], &[("DELETE n/pods/p", "Orphan")]);
}

#[test]
fn the_deleted_wait_for_their_dependents_or_free_them() {
    let deleted = |finalizer: &str| {
        thing(
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer, "x/y"]}}),
        )
    };
    let dependent = |blocks: bool| {
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p", "blockOwnerDeletion": blocks}]);
        thing(json!({"metadata": {"name": "d", "uid": "d", "ownerReferences": owner}}))
    };
    let free = ("PATCH n/pods/p", r#""finalizers":["x/y"],"resourceVersion":"7""#);
    check(deleted("foregroundDeletion"), &[], vec![dependent(true)], &[]);
    check(deleted("foregroundDeletion"), &[], vec![dependent(false)], &[free]);
    check(
        deleted("orphan"),
        &[],
        vec![dependent(true)],
        &[("PATCH n/pods/d", r#""$patch":"delete","uid":"p""#), free],
    );
}

fn count(server: &Server) -> (usize, usize) {
    let sets = server.list("/apis/apps/v1/namespaces/n/replicasets").len();
    (sets, server.list("/api/v1/namespaces/n/pods").len())
}

async fn delete_deployment(policy: &str) -> crate::walk::Walk {
    let walk = walk().await;
    walk.server.create("/apis/apps/v1/namespaces/n/deployments", deployment("i:1"));
    walk.server.until("the rollout", |server| is_rolled_out(server, "i:1")).await;
    walk.server.delete("/apis/apps/v1/namespaces/n/deployments/d", &json!({"propagationPolicy": policy}));
    walk
}

#[tokio::test(start_paused = true)]
async fn a_deployment_takes_its_pods_along() {
    for policy in ["Background", "Foreground"] {
        let walk = delete_deployment(policy).await;
        let is_gone = |server: &Server| server.get("/apis/apps/v1/namespaces/n/deployments/d").is_none();
        walk.server.until("all is gone", |server| count(server) == (0, 0) && is_gone(server)).await;
        assert_idle(&walk.server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn orphans_stay() {
    let walk = delete_deployment("Orphan").await;
    let gone = |server: &Server| server.get("/apis/apps/v1/namespaces/n/deployments/d").is_none();
    walk.server.until("the deployment is gone", gone).await;
    assert_idle(&walk.server).await;
    assert_eq!(count(&walk.server), (1, 3));
    let set = &walk.server.list("/apis/apps/v1/namespaces/n/replicasets")[0];
    assert!(set["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty));
}
