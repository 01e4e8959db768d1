//! Objects of a definition: every verb, what their schema makes of them, how they are selected and shown.

use super::{DEFINITIONS, TABS, defined, tab};
use http::Method;
use nauplius_base::time::{sleep, timeout};
use nauplius_meta::cbor;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn every_verb_works() {
    let fixture = defined().await;
    let made = fixture.post(TABS, &tab("a", json!({"cron": "* *", "extra": 1}))).await.expect(201);
    assert_eq!(made["spec"], json!({"cron": "* *", "replicas": 1}));
    assert_eq!(made["metadata"]["generation"], 1);
    let mut watch = fixture
        .watch(&format!(
            "{TABS}?watch=1&resourceVersion={}",
            made["metadata"]["resourceVersion"].as_str().unwrap()
        ))
        .await;

    let mut next = made.clone();
    next["spec"]["replicas"] = 3.into();
    next["metadata"]["resourceVersion"] = "".into();
    assert_eq!(
        fixture.put(&format!("{TABS}/a"), &next).await.refusal(),
        "422 crontabs.stable.example.com \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    );
    next["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let next = fixture.put(&format!("{TABS}/a"), &next).await.expect(200);
    assert_eq!((&next["spec"]["replicas"], &next["metadata"]["generation"]), (&json!(3), &json!(2)));

    let merge = "application/merge-patch+json";
    let patched =
        fixture.patch(&format!("{TABS}/a"), merge, &json!({"spec": {"color": "red"}})).await.expect(200);
    assert_eq!(patched["spec"]["color"], "red");
    let json_patch = json!([{"op": "replace", "path": "/spec/color", "value": "blue"}]);
    fixture.patch(&format!("{TABS}/a"), "application/json-patch+json", &json_patch).await.expect(200);
    let strategic =
        fixture.patch(&format!("{TABS}/a"), "application/strategic-merge-patch+json", &json!({})).await;
    assert_eq!(
        strategic.refusal().split(':').next(),
        Some("415 the body of the request was in an unknown format - accepted media types include")
    );

    let list = fixture.get(TABS).await.expect(200);
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("CronTabList"), &json!("stable.example.com/v1"))
    );
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    fixture.delete(&format!("{TABS}/a")).await.expect(200);
    assert!(
        fixture
            .get(&format!("{TABS}/a"))
            .await
            .refusal()
            .starts_with("404 crontabs.stable.example.com \"a\" not found")
    );
    for expected in ["MODIFIED a", "MODIFIED a", "MODIFIED a", "DELETED a"] {
        let line = watch.line().await;
        assert_eq!(line.split('@').next(), Some(expected));
    }
    for name in ["b", "c"] {
        fixture.post(TABS, &tab(name, json!({"cron": "1"}))).await.expect(201);
    }
    let generated = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"generateName": "g-"}, "spec": {"cron": "1"}});
    let generated = fixture.post(TABS, &generated).await.expect(201);
    assert!(generated["metadata"]["name"].as_str().unwrap().starts_with("g-"));
    fixture.delete(TABS).await.expect(200);
    assert_eq!(fixture.get(TABS).await.json()["items"], json!([]));
}

#[tokio::test]
async fn objects_follow_their_schema() {
    let fixture = defined().await;
    assert_eq!(
        fixture.post(TABS, &tab("a", json!({"cron": "x", "replicas": 11, "color": "green"}))).await.refusal(),
        "422 CronTab.stable.example.com \"a\" is invalid: [spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\", \
         spec.cron: Invalid value: \"x\": spec.cron in body should match '^[0-9* ]+$', \
         spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10]"
    );
    assert_eq!(
        fixture.post(TABS, &tab("a", json!({"replicas": "1"}))).await.refusal(),
        "422 CronTab.stable.example.com \"a\" is invalid: [spec.replicas: Invalid value: \"string\": spec.replicas in body must be of \
         type integer: \"string\", spec.cron: Required value, .spec.replicas: Invalid value: 0: .spec.replicas accessor error: \
         1 is of the type string, expected int64]"
    );
    assert_eq!(fixture.post(TABS, &tab("A_", json!({"cron": "1"}))).await.code.as_u16(), 422);
    let odd = tab("a", json!({"cron": "1", "odd": 1}));
    let strict = fixture.post(&format!("{TABS}?fieldValidation=Strict"), &odd).await;
    assert_eq!(
        strict.refusal(),
        "400 CronTab in version \"v1\" cannot be handled as a CronTab: strict decoding error: unknown field \"spec.odd\""
    );
    let warned = fixture.post(&format!("{TABS}?fieldValidation=Warn"), &odd).await;
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"spec.odd\\\"\"");
    warned.expect(201);
    let free = tab("b", json!({"cron": "1", "free": {"any": {"thing": [1]}}}));
    assert_eq!(fixture.post(TABS, &free).await.expect(201)["spec"]["free"], json!({"any": {"thing": [1]}}));
    let wrong = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "c", "labels": 1}});
    assert!(
        fixture
            .post(TABS, &wrong)
            .await
            .refusal()
            .starts_with("400 CronTab in version \"v1\" cannot be handled as a CronTab: metadata")
    );
    let other = json!({"apiVersion": "stable.example.com/v1", "kind": "Other", "metadata": {"name": "c"}});
    assert_eq!(fixture.post(TABS, &other).await.code.as_u16(), 400);
}

#[tokio::test]
async fn objects_are_selected_and_shown_in_columns() {
    let fixture = defined().await;
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        fixture.post(TABS, &tab(name, json!({"cron": "1", "color": color}))).await.expect(201);
    }
    let red = fixture.get(&format!("{TABS}?fieldSelector=spec.color%3Dred")).await.expect(200);
    let names: Vec<_> =
        red["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["a", "c"]);
    let named = fixture.get(&format!("{TABS}?fieldSelector=metadata.name%3Db")).await.expect(200);
    assert_eq!(named["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        fixture.get(&format!("{TABS}?fieldSelector=spec.cron%3D1")).await.refusal(),
        "400 field label not supported: spec.cron"
    );
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = fixture.with_headers(Method::GET, &format!("{TABS}/a"), &accept, "").await.expect(200);
    let columns: Vec<_> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].clone()).collect();
    assert_eq!(columns, ["Name", "Cron", "Replicas"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", "1", 1]));
    let yaml =
        fixture.with_headers(Method::GET, &format!("{TABS}/a"), &[("accept", "application/yaml")], "").await;
    assert!(String::from_utf8_lossy(&yaml.bytes).contains("kind: CronTab"));
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf")];
    assert_eq!(
        fixture.with_headers(Method::GET, &format!("{TABS}/a"), &protobuf, "").await.code.as_u16(),
        406
    );
    let metadata =
        [("accept", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let metadata = fixture.with_headers(Method::GET, &format!("{TABS}/a"), &metadata, "").await;
    assert_eq!(&metadata.bytes[..4], b"k8s\0");
    let content = [("content-type", "application/vnd.kubernetes.protobuf")];
    assert_eq!(fixture.with_headers(Method::POST, TABS, &content, "k8s\0").await.code.as_u16(), 415);
    let both = [("accept", "application/cbor"), ("content-type", "application/cbor")];
    let shown = fixture.with_headers(Method::GET, &format!("{TABS}/a"), &both[..1], "").await;
    let mut shown = cbor::decode(&shown.bytes).unwrap();
    shown["spec"]["replicas"] = 2.into();
    let put = fixture.with_headers(Method::PUT, &format!("{TABS}/a"), &both, cbor::encode(&shown)).await;
    assert_eq!(cbor::decode(&put.bytes).unwrap()["spec"]["replicas"], 2);
}

#[tokio::test]
async fn objects_follow_a_schema_that_changed() {
    let fixture = defined().await;
    fixture
        .post(TABS, &tab("a", json!({"cron": "x1".trim_start_matches('x'), "color": "red"})))
        .await
        .expect(201);
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let mut definition = fixture.get(&path).await.json();
    let properties = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        ["properties"];
    properties["mode"] = json!({"type": "string", "default": "auto"});
    properties["cron"]["pattern"] = "^never$".into();
    properties.as_object_mut().unwrap().remove("color");
    definition["spec"]["versions"][0].as_object_mut().unwrap().remove("selectableFields");
    fixture.put(&path, &definition).await.expect(200);
    let wait = async {
        while fixture.get(&format!("{TABS}/a")).await.json()["spec"]["mode"] != "auto" {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap();
    let found = fixture.get(&format!("{TABS}/a")).await.json();
    assert_eq!(found["spec"], json!({"cron": "1", "replicas": 1, "mode": "auto"}));
    // What did not change may stay as it is.
    let merge = "application/merge-patch+json";
    fixture.patch(&format!("{TABS}/a"), merge, &json!({"spec": {"replicas": 2}})).await.expect(200);
    let bad = fixture.patch(&format!("{TABS}/a"), merge, &json!({"spec": {"cron": "2"}})).await;
    assert!(bad.refusal().contains("should match '^never$'"));
}
