//! The end of a namespace, step by step and against a small API server.

use super::*;
use crate::graph::resources::Resources;
use crate::testing::server::Server;
use crate::testing::{at, object, trace};
use crate::walk::{assert_idle, deployment, is_rolled_out, walk};
use serde_json::json;

fn view(left: BTreeMap<usize, Left>) -> View {
    let namespace = object(json!({"metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}}));
    View { namespace, left, is_behind: false }
}

#[test]
fn pods_go_first_then_the_rest_then_the_namespace() {
    let graph = Graph::new(Resources::builtin());
    let index = |api: &str, kind: &str| graph.resources.find(api, kind).unwrap();
    let left = |count: usize, undeleted: usize| Left { count, undeleted, finalizers: BTreeMap::new() };
    let (pods, sets) = (index("v1", "Pod"), index("apps/v1", "ReplicaSet"));
    let both = view(BTreeMap::from([(pods, left(2, 1)), (sets, left(1, 1))]));
    let status =
        "PUT /api/v1/namespaces/n/status".split_once("/namespaces/").map(|(_, path)| format!("PUT {path}"));
    let status = status.unwrap();
    assert_eq!(trace(&plan(&graph, &both, at(1))), ["DELETE n/pods", &status]);
    let leaving = view(BTreeMap::from([(pods, left(2, 0)), (sets, left(1, 1))]));
    assert_eq!(trace(&plan(&graph, &leaving, at(1))), [status.as_str()]);
    let rest = view(BTreeMap::from([(sets, left(1, 1))]));
    assert_eq!(trace(&plan(&graph, &rest, at(1))), ["DELETE n/replicasets", &status]);
    assert_eq!(trace(&plan(&graph, &view(BTreeMap::new()), at(1))), ["DELETE n/events", "PUT n/finalize"]);
}

#[test]
fn one_that_others_keep_is_told_to_be_empty_first() {
    let graph = Graph::new(Resources::builtin());
    let mut view = view(BTreeMap::new());
    Arc::make_mut(&mut view.namespace).spec.as_mut().unwrap().finalizers =
        Some(vec!["kubernetes".to_owned(), "example.com/mine".to_owned()]);
    assert_eq!(trace(&plan(&graph, &view, at(1))), ["PUT n/status"]);
    let Some(Action::Write(write)) = conditions::update(&graph, &view, None, at(1)) else {
        panic!("no write")
    };
    view.namespace = Arc::new(Namespace::decode(&write.body).unwrap());
    assert_eq!(trace(&plan(&graph, &view, at(2))), ["DELETE n/events", "PUT n/finalize"]);
}

#[test]
fn the_status_names_what_is_left() {
    let graph = Graph::new(Resources::builtin());
    let pods = graph.resources.find("v1", "Pod").unwrap();
    let left = Left { count: 2, undeleted: 0, finalizers: BTreeMap::from([("a/b".to_owned(), 1)]) };
    let mut view = view(BTreeMap::from([(pods, left)]));
    let Some(Action::Write(write)) = conditions::update(&graph, &view, None, at(1)) else {
        panic!("no write")
    };
    let namespace = Namespace::decode(&write.body).unwrap();
    let conditions = namespace.status.as_ref().unwrap().conditions.clone().unwrap();
    let messages: Vec<_> =
        conditions.iter().skip(3).filter_map(|condition| condition.message.as_deref()).collect();
    assert_eq!(
        messages,
        [
            "Some resources are remaining: pods. has 2 resource instances",
            "Some content in the namespace has finalizers remaining: a/b in 1 resource instances"
        ]
    );
    view.namespace = Arc::new(namespace);
    assert_eq!(conditions::update(&graph, &view, None, at(9)), None);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_namespace_ends_when_it_is_empty() {
    let walk = walk().await;
    let server = &walk.server;
    server.create("/apis/apps/v1/namespaces/n/deployments", deployment("i:1"));
    let held = json!({"metadata": {"name": "held", "finalizers": ["a/b"]}});
    server.create("/api/v1/namespaces/n/configmaps", held);
    server.until("the rollout", |server| is_rolled_out(server, "i:1")).await;
    server.delete("/api/v1/namespaces/n", &json!({}));
    let waits = |server: &Server| {
        let namespace = server.get("/api/v1/namespaces/n").unwrap_or_default();
        server.list("/api/v1/namespaces/n/pods").is_empty()
            && namespace["status"].to_string().contains("a/b in 1 resource instances")
    };
    server.until("only the finalizer is left", waits).await;
    server.merge("/api/v1/namespaces/n/configmaps/held", &json!({"metadata": {"finalizers": []}}));
    server.until("the end", |server| server.get("/api/v1/namespaces/n").is_none()).await;
    assert_idle(server).await;
}
