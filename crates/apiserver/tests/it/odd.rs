//! Odd requests of every kind: whatever is sent, the answer is an object or a Status, and never our mistake.

use crate::support::{Fixture, config_map, model};
use http::Method;
use serde_json::{Value, json};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn bodies() -> Vec<Value> {
    vec![
        json!(null),
        json!([]),
        json!(5),
        json!({}),
        json!({"metadata": null}),
        json!({"metadata": 5}),
        json!({"metadata": {}}),
        json!({"metadata": {"name": 7}}),
        json!({"metadata": {"labels": []}}),
        json!({"metadata": {"name": "a", "labels": {"x": null}}}),
        json!({"metadata": {"name": "b"}, "spec": null, "status": null}),
        json!({"metadata": {"name": "c"}, "spec": 5}),
        json!({"metadata": {"name": "d"}, "spec": {}, "rules": {}}),
        json!({"metadata": {"name": "e", "finalizers": [null], "ownerReferences": [{}]}}),
        json!({"metadata": {"name": "f", "creationTimestamp": "yesterday"}}),
        json!({"metadata": {"name": "g", "deletionTimestamp": "2020-01-01T00:00:00Z", "resourceVersion": "x"}}),
        json!({"metadata": {"name": "../h", "namespace": "default"}}),
        json!({"metadata": {"generateName": "-".repeat(300)}}),
        json!({"metadata": {"name": "i"}, "kind": "Other", "apiVersion": "a/b/c"}),
    ]
}

fn collections(fixture: &Fixture) -> Vec<String> {
    let mut paths = Vec::new();
    for kind in fixture.server.served().kinds() {
        let descriptor = kind.descriptor();
        if !descriptor.verbs.stored {
            continue;
        }
        let root = if descriptor.group.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{}", descriptor.group)
        };
        let namespace = if descriptor.namespaced { "/namespaces/default" } else { "" };
        for version in &descriptor.versions {
            paths.push(format!("{root}/{}{namespace}/{}", version.name, descriptor.plural));
        }
    }
    paths
}

/// What upstream calls its own failure, though the client made the mistake.
const ITS_OWN: &[&str] = &[
    "resourceVersion",
    "couldn't get version/kind",
    "json: cannot unmarshal",
    "no kind ",
    "unexpected GroupVersion",
];

fn check(answer: &crate::support::Answer, what: &str) {
    let object = answer.json();
    assert!(object["kind"].is_string(), "{what}: {object}");
    let message = object["message"].as_str().unwrap_or_default();
    assert!(!message.contains("panic"), "{what}: {message}");
    let ours = answer.code.as_u16() >= 500 && !ITS_OWN.iter().any(|own| message.starts_with(own));
    assert!(!ours, "{what}: {} {message}", answer.code);
}

#[tokio::test]
async fn odd_bodies() {
    let fixture = model().await;
    for path in collections(&fixture) {
        for body in bodies() {
            let answer = fixture.post(&path, &body).await;
            check(&answer, &format!("POST {path} {body}"));
            let answer = fixture.put(&format!("{path}/a"), &body).await;
            check(&answer, &format!("PUT {path}/a {body}"));
            let answer = fixture.delete_with(&format!("{path}/none"), &body).await;
            check(&answer, &format!("DELETE {path}/none {body}"));
        }
        check(&fixture.get(&path).await, &path);
    }
}

#[tokio::test]
async fn odd_patches() {
    let fixture = model().await;
    let path = "/api/v1/namespaces/default/configmaps/a";
    fixture
        .post("/api/v1/namespaces/default/configmaps", &config_map("a", &json!({}), &json!({})))
        .await
        .expect(201);
    for body in bodies() {
        for form in [MERGE, STRATEGIC, JSON_PATCH] {
            check(&fixture.patch(path, form, &body).await, &format!("{form} {body}"));
        }
    }
    for pointer in
        ["", "/", "/metadata", "/metadata/name", "/metadata/uid", "/kind", "/apiVersion", "/data", "/data/-"]
    {
        for op in ["remove", "replace", "add", "move", "copy", "test", "dance"] {
            let body = json!([{"op": op, "path": pointer, "from": "/metadata", "value": 5}]);
            check(&fixture.patch(path, JSON_PATCH, &body).await, &body.to_string());
        }
    }
    let object = fixture.get(path).await.expect(200);
    assert_eq!(object["metadata"]["name"], "a");
}

#[tokio::test]
async fn odd_queries_and_paths() {
    let fixture = model().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let queries = [
        "limit=x",
        "limit=-5",
        "limit=99999999999999999999",
        "continue=x",
        "continue=e30",
        "resourceVersion=x",
        "resourceVersion=-1",
        "labelSelector=%00",
        "labelSelector=a%20in%20(",
        "fieldSelector=%5C",
        "watch=1&timeoutSeconds=x",
        "watch=1&resourceVersion=x",
        "resourceVersionMatch=Never&resourceVersion=1",
        "labelSelector=%ff%fe",
    ];
    for query in queries {
        check(&fixture.get(&format!("{maps}?{query}")).await, query);
    }
    for path in ["/api/v1/namespaces//configmaps", "/api/v1/namespaces/default/configmaps/", "/apis///"] {
        let answer = fixture.get(path).await;
        assert!(answer.code.as_u16() < 500, "{path}: {}", answer.code);
    }
    // What upstream takes for its own failure.
    let unreadable = fixture.get("/api/v1/watch").await;
    let expected = "Internal Server Error: \"/api/v1/watch\": failed to create RequestInfo: unable to determine kind and namespace \
                    from url, /api/v1/watch\n";
    assert_eq!((unreadable.code.as_u16(), &*String::from_utf8_lossy(&unreadable.bytes)), (500, expected));
    for method in [Method::OPTIONS, Method::HEAD, Method::TRACE, Method::POST, Method::PUT, Method::PATCH] {
        let answer = fixture.with_headers(method.clone(), &format!("{maps}/a/b/c/d"), &[], "").await;
        assert!(answer.code.as_u16() < 500, "{method}: {}", answer.code);
    }
    let raw = fixture
        .with_headers(Method::POST, maps, &[("content-type", "application/json")], "{\"metadata\":")
        .await;
    check(&raw, "half a body");
    let raw = fixture
        .with_headers(
            Method::POST,
            maps,
            &[("content-type", "application/vnd.kubernetes.protobuf")],
            "k8s\0\u{1}",
        )
        .await;
    check(&raw, "half a message");
}
