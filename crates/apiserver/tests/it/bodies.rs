//! The small bodies of requests in protobuf and YAML: options of deletions, scales, evictions, bindings; and what a client is warned of.

use crate::support::{Answer, Fixture, config_map, model};
use http::Method;
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::schema::{TypeRef, lookup_kind};
use nauplius_meta::{protobuf, yaml};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

fn type_of(group: &str, kind: &str) -> TypeRef {
    lookup_kind(&GroupVersionKind::new(group, "v1", kind)).unwrap()
}

/// Sends an object in protobuf and in YAML, each to a path of its own, and gives the answers.
async fn both(
    fixture: &Fixture,
    method: Method,
    paths: [&str; 2],
    object: &Value,
    ty: TypeRef,
) -> [Answer; 2] {
    let packed = protobuf::encode(object, ty).unwrap();
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let first = fixture.with_headers(method.clone(), paths[0], &headers, packed).await;
    let headers = [("content-type", YAML), ("accept", YAML)];
    let second = fixture.with_headers(method, paths[1], &headers, yaml::encode(object)).await;
    assert_eq!(first.headers["content-type"], PROTOBUF);
    assert_eq!(second.headers["content-type"], YAML);
    [first, second]
}

fn read(answers: [Answer; 2], ty: TypeRef) -> [Value; 2] {
    let [first, second] = answers;
    let first = protobuf::decode(&first.bytes, ty).unwrap();
    [first, yaml::decode(&String::from_utf8_lossy(&second.bytes)).unwrap()]
}

#[tokio::test]
async fn deletions_carry_options() {
    let fixture = model().await;
    for name in ["a", "b"] {
        fixture.post(MAPS, &config_map(name, &json!({}), &json!({}))).await.expect(201);
    }
    let paths = [&*format!("{MAPS}/a"), &*format!("{MAPS}/b")];
    for group_version in ["v1", "meta.k8s.io/v1"] {
        let options =
            json!({"kind": "DeleteOptions", "apiVersion": group_version, "preconditions": {"uid": "other"}});
        let ty = type_of("meta.k8s.io", "DeleteOptions");
        let answers = both(&fixture, Method::DELETE, paths, &options, ty).await;
        assert_eq!(answers[0].code.as_u16(), 409, "{:?}", answers[0].bytes);
        for status in read(answers, type_of("", "Status")) {
            assert_eq!((&status["reason"], &status["code"]), (&json!("Conflict"), &json!(409)), "{status}");
        }
    }
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    let ty = type_of("meta.k8s.io", "DeleteOptions");
    let answers = both(&fixture, Method::DELETE, paths, &options, ty).await;
    for status in read(answers, type_of("", "Status")) {
        assert_eq!(
            (&status["status"], &status["details"]["kind"]),
            (&json!("Success"), &json!("configmaps"))
        );
    }
}

#[tokio::test]
async fn what_waits_for_a_finalizer_is_only_accepted() {
    let fixture = model().await;
    for (name, options, code) in [
        ("a", json!({"orphanDependents": false}), 202),
        ("b", json!({"propagationPolicy": "Background"}), 200),
    ] {
        let map = json!({"metadata": {"name": name, "finalizers": ["example.com/hold"]}});
        fixture.post(MAPS, &map).await.expect(201);
        let pending = fixture.delete_with(&format!("{MAPS}/{name}"), &options).await.expect(code);
        assert!(pending["metadata"]["deletionTimestamp"].is_string());
    }
}

#[tokio::test]
async fn scales_are_read_and_written() {
    let fixture = model().await;
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    let spec = json!({"replicas": 2, "selector": selector, "template": template});
    for (plural, kind) in [("deployments", "Deployment"), ("replicasets", "ReplicaSet")] {
        let collection = format!("/apis/apps/v1/namespaces/default/{plural}");
        let object = json!({"kind": kind, "apiVersion": "apps/v1", "metadata": {"name": "x"}, "spec": spec});
        fixture.post(&collection, &object).await.expect(201);
        let path = format!("{collection}/x/scale");
        let ty = type_of("autoscaling", "Scale");
        let shown = fixture.with_headers(Method::GET, &path, &[("accept", PROTOBUF)], "").await;
        let shown = protobuf::decode(&shown.bytes, ty).unwrap();
        assert_eq!((&shown["spec"]["replicas"], &shown["status"]["selector"]), (&json!(2), &json!("a=b")));
        let scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "x"}, "spec": {"replicas": 5}});
        let answers = both(&fixture, Method::PUT, [&path, &path], &scale, ty).await;
        for scale in read(answers, ty) {
            assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
        }
        let stored = fixture.get(&format!("{collection}/x")).await.expect(200);
        assert_eq!((&stored["spec"]["replicas"], &stored["metadata"]["generation"]), (&json!(5), &json!(2)));
    }
}

#[tokio::test]
async fn pods_are_bound_and_evicted() {
    let fixture = model().await;
    for name in ["a", "b"] {
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        fixture.post(PODS, &pod).await.expect(201);
    }
    for (name, media_type) in [("a", PROTOBUF), ("b", YAML)] {
        let binding = json!({
            "kind": "Binding", "apiVersion": "v1", "metadata": {"name": name}, "target": {"kind": "Node", "name": "n"},
        });
        let eviction = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": name},
            "deleteOptions": {"gracePeriodSeconds": 0}});
        for (subresource, body, ty) in [
            ("binding", &binding, type_of("", "Binding")),
            ("eviction", &eviction, type_of("policy", "Eviction")),
        ] {
            let bytes = match media_type {
                PROTOBUF => protobuf::encode(body, ty).unwrap(),
                _ => yaml::encode(body).into_bytes(),
            };
            let path = format!("{PODS}/{name}/{subresource}");
            let headers = [("content-type", media_type)];
            let status = fixture.with_headers(Method::POST, &path, &headers, bytes).await.expect(201);
            assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Success")));
        }
        fixture.get(&format!("{PODS}/{name}")).await.expect(404);
    }
}

fn warnings(answer: &Answer) -> Vec<String> {
    answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn owners_that_are_named_twice_are_kept_once() {
    let fixture = model().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "1"});
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "p", "uid": "2"});
    let map = json!({"metadata": {"name": "a", "ownerReferences": [owner, other, owner]}});
    let warning = "299 - \".metadata.ownerReferences contains duplicate entries; API server dedups owner references in \
                   1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) \
                   observed: 1\"";
    let made = fixture.post(MAPS, &map).await;
    assert_eq!(warnings(&made), [warning]);
    assert_eq!(made.expect(201)["metadata"]["ownerReferences"], json!([owner, other]));
    let written = fixture.put(&format!("{MAPS}/a"), &map).await;
    assert_eq!(warnings(&written), [warning]);
    let patch = json!([{"op": "add", "path": "/metadata/ownerReferences/-", "value": other}]);
    let patched = fixture.patch(&format!("{MAPS}/a"), "application/json-patch+json", &patch).await;
    assert!(warnings(&patched)[0].contains("duplicate entries after mutating admission happens"));
    assert_eq!(patched.expect(200)["metadata"]["ownerReferences"], json!([owner, other]));
}

#[tokio::test]
async fn uses_of_old_versions_are_warned_of() {
    let fixture = model().await;
    let listed = fixture.get("/api/v1/namespaces/default/endpoints").await;
    assert_eq!(
        warnings(&listed),
        ["299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\""]
    );
    assert!(warnings(&fixture.get(MAPS).await).is_empty());
}
