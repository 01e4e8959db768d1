//! The three patches, on objects, scales and status.

use crate::support::{Fixture, config_map, embedded, model, version};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

async fn deployment(fixture: &Fixture) -> Value {
    let containers = json!([{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]);
    let template = json!({"metadata": {"labels": {"app": "d"}}, "spec": {"containers": containers}});
    let spec = json!({"selector": {"matchLabels": {"app": "d"}}, "template": template});
    fixture.post(DEPLOYMENTS, &json!({"metadata": {"name": "d"}, "spec": spec})).await.expect(201)
}

#[tokio::test]
async fn each_patch_changes_what_it_says() {
    let fixture = model().await;
    fixture.post(MAPS, &config_map("a", &json!({}), &json!({"k": "1", "x": "1"}))).await.expect(201);
    let path = format!("{MAPS}/a");
    let merged = fixture.patch(&path, MERGE, &json!({"data": {"k": "2", "x": null}})).await.expect(200);
    assert_eq!(merged["data"], json!({"k": "2"}));
    let same = fixture.patch(&path, MERGE, &json!({"data": {"k": "2"}})).await.expect(200);
    assert_eq!(version(&same), version(&merged), "a patch that changes nothing writes nothing");
    let operations = json!([{"op": "test", "path": "/data/k", "value": "2"}, {"op": "add", "path": "/data/y", "value": "3"}]);
    let patched = fixture.patch(&path, JSON, &operations).await.expect(200);
    assert_eq!(patched["data"], json!({"k": "2", "y": "3"}));
    let failed =
        fixture.patch(&path, JSON, &json!([{"op": "test", "path": "/data/k", "value": "other"}])).await;
    assert_eq!(failed.refusal(), "422 the server rejected our request due to an error in our request");

    deployment(&fixture).await;
    let path = format!("{DEPLOYMENTS}/d");
    let one = json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}}});
    let patched = fixture.patch(&path, STRATEGIC, &one).await.expect(200);
    let containers = patched["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let images: Vec<_> = containers.iter().map(|c| format!("{}={}", c["name"], c["image"])).collect();
    assert_eq!(images.len(), 2);
    assert!(images.contains(&"\"b\"=\"b:2\"".to_owned()) && images.contains(&"\"a\"=\"a:1\"".to_owned()));
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[tokio::test]
async fn scales_and_status_are_patched() {
    let fixture = model().await;
    deployment(&fixture).await;
    let path = format!("{DEPLOYMENTS}/d");
    let scaled =
        fixture.patch(&format!("{path}/scale"), MERGE, &json!({"spec": {"replicas": 4}})).await.expect(200);
    assert_eq!(scaled["kind"], "Scale");
    assert_eq!(scaled["spec"]["replicas"], 4);
    let status = json!({"status": {"replicas": 4}, "spec": {"replicas": 9}});
    let patched = fixture.patch(&format!("{path}/status"), MERGE, &status).await.expect(200);
    assert_eq!(patched["spec"]["replicas"], 4);
    assert_eq!(patched["status"]["replicas"], 4);
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[tokio::test]
async fn refusals() {
    let fixture = model().await;
    fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let path = format!("{MAPS}/a");
    let other = fixture.patch(&path, "application/json", &json!({})).await;
    assert_eq!(
        other.refusal(),
        "415 the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
         application/apply-patch+yaml, application/apply-patch+cbor"
    );
    let missing = fixture.patch(&format!("{MAPS}/none"), MERGE, &json!({})).await;
    assert_eq!(missing.refusal(), "404 configmaps \"none\" not found");
    let stale =
        fixture.patch(&path, MERGE, &json!({"metadata": {"resourceVersion": "1"}, "data": {"a": "b"}})).await;
    assert_eq!(stale.code.as_u16(), 409);
    let renamed = fixture.patch(&path, MERGE, &json!({"metadata": {"name": "b"}})).await;
    assert_eq!(renamed.refusal(), "400 the name of the object (b) does not match the name on the URL (a)");
    let unknown = fixture.patch(&format!("{path}?fieldValidation=Strict"), MERGE, &json!({"dta": {}})).await;
    assert_eq!(unknown.code.as_u16(), 422);
    assert!(
        unknown.refusal().contains("strict decoding error: unknown field \"dta\""),
        "{}",
        unknown.refusal()
    );
    // What a text becomes is decoded anew.
    for (patch, problem) in [
        (json!({"kind": "X"}), "no kind \"X\" is registered for version \"v1\" in scheme "),
        (json!({"apiVersion": "v2"}), "no kind \"ConfigMap\" is registered for version \"v2\" in scheme "),
        (json!({"kind": "Secret"}), "converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
    ] {
        let refused = fixture.patch(&path, MERGE, &patch).await.refusal();
        assert!(refused.starts_with("422 ") && refused.contains(problem), "{patch}: {refused}");
        fixture.patch(&path, STRATEGIC, &patch).await.expect(200);
    }
    let typed = fixture.patch(&path, MERGE, &json!({"data": {"k": 1}})).await;
    assert_eq!(typed.code.as_u16(), 422, "{}", typed.refusal());
}

#[tokio::test]
async fn concurrent_patches_all_count() {
    let fixture = embedded().await;
    fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let path = format!("{MAPS}/a");
    let patches: Vec<Value> = (0..30).map(|n| json!({"data": {format!("k{n}"): "1"}})).collect();
    let answers =
        futures_util::future::join_all(patches.iter().map(|patch| fixture.patch(&path, MERGE, patch))).await;
    for answer in answers {
        answer.expect(200);
    }
    let object = fixture.get(&path).await.expect(200);
    assert_eq!(object["data"].as_object().unwrap().len(), 30);
}
