//! Custom resources from their definition to their end: every verb, schemas, subresources, versions, names in conflict, deletion.

use crate::support::{Fixture, configured, model};
use futures_util::future::BoxFuture;
use http::Method;
use nauplius_apiserver::Config;
use nauplius_apiserver::authz::Union;
use nauplius_apiserver::proxy::Dial;
use nauplius_base::time::{sleep, timeout};
use nauplius_meta::cbor;
use nauplius_store::model::ModelStore;
use nauplius_store::{Clock, Store};
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/stable.example.com/v1/namespaces/n/crontabs";

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["cron"], "properties": {
            "cron": {"type": "string", "pattern": "^[0-9* ]+$"},
            "replicas": {"type": "integer", "minimum": 0, "maximum": 10, "default": 1},
            "color": {"type": "string", "enum": ["red", "blue"]},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}},
    }})
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema()},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [{"name": "Cron", "type": "string", "jsonPath": ".spec.cron"},
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}],
                "selectableFields": [{"jsonPath": ".spec.color"}],
            }],
        },
    })
}

fn tab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

async fn until(fixture: &Fixture, name: &str, condition: &str) -> Value {
    let wait = async {
        loop {
            let definition = fixture.get(&format!("{DEFINITIONS}/{name}")).await.json();
            let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|own| {
                format!("{}={}", own["type"].as_str().unwrap(), own["status"].as_str().unwrap()) == condition
            }) {
                return definition;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("{name} did not become {condition}"))
}

pub async fn define(fixture: &Fixture, definition: &Value) -> Value {
    fixture.post(DEFINITIONS, definition).await.expect(201);
    until(fixture, definition["metadata"]["name"].as_str().unwrap(), "Established=True").await
}

async fn defined() -> Fixture {
    let fixture = model().await;
    let namespace = json!({"metadata": {"name": "n"}});
    fixture.post("/api/v1/namespaces", &namespace).await.expect(201);
    define(&fixture, &definition()).await;
    fixture
}

#[tokio::test]
async fn a_definition_is_established_and_served_at_once() {
    let fixture = model().await;
    let made = fixture.post(DEFINITIONS, &definition()).await.expect(201);
    assert_eq!(
        made["status"],
        json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"]})
    );
    let established = until(&fixture, "crontabs.stable.example.com", "Established=True").await;
    assert_eq!(established["status"]["acceptedNames"]["shortNames"], json!(["ct"]));
    // No sooner seen than served.
    fixture.get("/apis/stable.example.com/v1/crontabs").await.expect(200);
    let groups = fixture.get("/apis").await.json();
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "stable.example.com"));
    let resources = fixture.get("/apis/stable.example.com/v1").await.expect(200);
    let resource = &resources["resources"][0];
    assert_eq!(
        (
            &resource["name"],
            &resource["singularName"],
            &resource["kind"],
            &resource["shortNames"],
            &resource["categories"]
        ),
        (&json!("crontabs"), &json!("crontab"), &json!("CronTab"), &json!(["ct"]), &json!(["all"]))
    );
    assert_eq!(resources["resources"][1]["name"], "crontabs/scale");
    assert_eq!(resources["resources"][2]["name"], "crontabs/status");
    let accept = "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io";
    let aggregated = fixture.with_headers(Method::GET, "/apis", &[("accept", accept)], "").await.json();
    let items = aggregated["items"].as_array().unwrap();
    assert!(items.iter().any(|item| item["metadata"]["name"] == "stable.example.com"));
}

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
async fn status_and_scale_are_written_on_their_own() {
    let fixture = defined().await;
    let mut tab = tab("a", json!({"cron": "1"}));
    tab["status"] = json!({"replicas": 9});
    let made = fixture.post(TABS, &tab).await.expect(201);
    assert_eq!(made.get("status"), None);
    let mut status = made.clone();
    status["status"] = json!({"replicas": 2, "selector": "a=b"});
    status["spec"]["replicas"] = 7.into();
    let status = fixture.put(&format!("{TABS}/a/status"), &status).await.expect(200);
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(1), &json!(2)));
    assert_eq!(status["metadata"]["generation"], 1);
    let merge = "application/merge-patch+json";
    let bad = fixture.patch(&format!("{TABS}/a/status"), merge, &json!({"status": {"replicas": "x"}})).await;
    assert_eq!(
        bad.refusal().split("invalid: ").nth(1).unwrap().split(", ").next(),
        Some(
            "[status.replicas: Invalid value: \"string\": replicas in body must be of type integer: \"string\""
        )
    );
    let scale = fixture.get(&format!("{TABS}/a/scale")).await.expect(200);
    assert_eq!(
        (&scale["kind"], &scale["spec"], &scale["status"]),
        (&json!("Scale"), &json!({"replicas": 1}), &json!({"replicas": 2, "selector": "a=b"}))
    );
    let scaled =
        fixture.patch(&format!("{TABS}/a/scale"), merge, &json!({"spec": {"replicas": 5}})).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 5);
    let tab = fixture.get(&format!("{TABS}/a")).await.json();
    assert_eq!((&tab["spec"]["replicas"], &tab["metadata"]["generation"]), (&json!(5), &json!(2)));
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
async fn versions_share_objects_and_the_old_ones_are_warned_of() {
    let fixture = defined().await;
    fixture.post(TABS, &tab("a", json!({"cron": "1", "color": "red"}))).await.expect(201);
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let mut definition = fixture.get(&path).await.json();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["selectableFields"] = json!([{"jsonPath": ".spec.cron"}]);
    definition["spec"]["versions"][0]["deprecated"] = true.into();
    definition["spec"]["versions"][0]["storage"] = false.into();
    definition["spec"]["versions"] = json!([definition["spec"]["versions"][0], second]);
    let mut watch = fixture.watch(&format!("{TABS}?watch=1&resourceVersion=0")).await;
    assert!(watch.line().await.starts_with("ADDED a@"));
    let changed = fixture.put(&path, &definition).await.expect(200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    // A definition that changed is served anew.
    assert_eq!(watch.line().await, "END");
    let newer = "/apis/stable.example.com/v2/namespaces/n/crontabs";
    let found = fixture.get(&format!("{newer}/a")).await.expect(200);
    assert_eq!(
        (&found["apiVersion"], &found["spec"]["color"]),
        (&json!("stable.example.com/v2"), &json!("red"))
    );
    let older = fixture.get(&format!("{TABS}/a")).await;
    assert_eq!(older.headers["warning"], "299 - \"stable.example.com/v1 CronTab is deprecated\"");
    assert_eq!(older.json()["apiVersion"], "stable.example.com/v1");
    let mut both = fixture.watch(&format!("{newer}?watch=1&resourceVersion=0")).await;
    assert_eq!(both.next().await.unwrap()["object"]["apiVersion"], "stable.example.com/v2");
    let mut old_watch =
        fixture.watch(&format!("{TABS}?watch=1&resourceVersion=0&fieldSelector=spec.color%3Dred")).await;
    assert_eq!(old_watch.next().await.unwrap()["object"]["apiVersion"], "stable.example.com/v1");
    let merge = "application/merge-patch+json";
    let patched =
        fixture.patch(&format!("{TABS}/a"), merge, &json!({"spec": {"replicas": 4}})).await.expect(200);
    assert_eq!(patched["apiVersion"], "stable.example.com/v1");
    let event = both.next().await.unwrap();
    assert_eq!(
        (&event["object"]["apiVersion"], &event["object"]["spec"]["replicas"]),
        (&json!("stable.example.com/v2"), &json!(4))
    );
    let event = old_watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["apiVersion"]),
        (&json!("MODIFIED"), &json!("stable.example.com/v1"))
    );
    // Each version has fields of its own to select by.
    let by_cron = |root: &str| format!("{root}?fieldSelector=spec.cron%3D1");
    assert_eq!(fixture.get(&by_cron(newer)).await.expect(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(fixture.get(&by_cron(TABS)).await.code.as_u16(), 400);
    let mut later = fixture.get(&path).await.json();
    later["spec"]["versions"][0]["served"] = false.into();
    fixture.put(&path, &later).await.expect(200);
    assert_eq!(fixture.get(TABS).await.code.as_u16(), 404);
    fixture.get(newer).await.expect(200);
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

#[tokio::test]
async fn names_in_use_are_refused_and_freed() {
    let fixture = defined().await;
    let mut second = definition();
    second["metadata"]["name"] = "others.stable.example.com".into();
    second["spec"]["names"] =
        json!({"plural": "others", "singular": "other", "kind": "CronTab", "listKind": "OtherList"});
    fixture.post(DEFINITIONS, &second).await.expect(201);
    let refused = until(&fixture, "others.stable.example.com", "NamesAccepted=False").await;
    let conditions = refused["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions[0]["message"], "\"CronTab\" is already in use");
    assert_eq!(conditions[0]["reason"], "KindConflict");
    assert_eq!(fixture.get("/apis/stable.example.com/v1/others").await.code.as_u16(), 404);
    fixture.delete(&format!("{DEFINITIONS}/crontabs.stable.example.com")).await.expect(200);
    until(&fixture, "others.stable.example.com", "Established=True").await;
    fixture.get("/apis/stable.example.com/v1/others").await.expect(200);
}

#[tokio::test]
async fn a_definition_goes_with_its_objects() {
    let fixture = defined().await;
    fixture.post(TABS, &tab("a", json!({"cron": "1"}))).await.expect(201);
    let mut kept = tab("b", json!({"cron": "1"}));
    kept["metadata"]["finalizers"] = json!(["example.com/mine"]);
    fixture.post(TABS, &kept).await.expect(201);
    let mut watch = fixture.watch(&format!("{TABS}?watch=1&resourceVersion=0")).await;
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let deleted = fixture.delete(&path).await.expect(200);
    assert_eq!(deleted["kind"], "CustomResourceDefinition");
    assert_eq!(deleted["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    let wait = async {
        loop {
            if fixture.get(&format!("{TABS}/a")).await.code.as_u16() == 404 {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap();
    let ending = until(&fixture, "crontabs.stable.example.com", "Terminating=True").await;
    let reasons: Vec<_> =
        ending["status"]["conditions"].as_array().unwrap().iter().map(|own| own["reason"].clone()).collect();
    assert!(reasons.contains(&json!("InstanceDeletionInProgress")), "{reasons:?}");
    let refused = fixture.post(TABS, &tab("c", json!({"cron": "1"}))).await;
    assert_eq!(refused.refusal(), "405 create not allowed while custom resource definition is terminating");
    let merge = "application/merge-patch+json";
    fixture.patch(&format!("{TABS}/b"), merge, &json!({"metadata": {"finalizers": []}})).await.expect(200);
    let wait = async {
        while fixture.get(&path).await.code.as_u16() != 404 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap();
    assert_eq!(fixture.get(TABS).await.code.as_u16(), 404);
    let groups = fixture.get("/apis").await.json();
    assert!(!groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "stable.example.com"));
    let lines = async {
        loop {
            if watch.line().await == "END" {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), lines).await.expect("watches end with the definition");
    // The name can be defined again, and nothing of before is there.
    define(&fixture, &definition()).await;
    assert_eq!(fixture.get(TABS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn cluster_scoped_resources_have_no_namespace() {
    let fixture = model().await;
    let mut definition = definition();
    definition["spec"]["scope"] = "Cluster".into();
    define(&fixture, &definition).await;
    let tabs = "/apis/stable.example.com/v1/crontabs";
    fixture.post(tabs, &tab("a", json!({"cron": "1"}))).await.expect(201);
    fixture.get(&format!("{tabs}/a")).await.expect(200);
    assert_eq!(fixture.get("/apis/stable.example.com/v1/namespaces/n/crontabs").await.code.as_u16(), 404);
}

#[tokio::test]
async fn definitions_are_published_in_openapi() {
    let fixture = defined().await;
    let index = fixture.get("/openapi/v3").await.expect(200);
    let url = |index: &Value| {
        index["paths"]["apis/stable.example.com/v1"]["serverRelativeURL"].as_str().map(str::to_owned)
    };
    let first = url(&index).unwrap();
    let document = fixture.get(&first).await.expect(200);
    let schemas = &document["components"]["schemas"];
    let tab = &schemas["com.example.stable.v1.CronTab"];
    assert_eq!(
        tab["properties"]["spec"]["properties"]["cron"],
        json!({"type": "string", "pattern": "^[0-9* ]+$"})
    );
    assert_eq!(tab["properties"]["spec"]["properties"]["replicas"]["default"], 1);
    assert_eq!(
        tab["properties"]["metadata"]["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}])
    );
    let gvk = json!([{"group": "stable.example.com", "version": "v1", "kind": "CronTab"}]);
    assert_eq!(tab["x-kubernetes-group-version-kind"], gvk);
    assert_eq!(
        schemas["com.example.stable.v1.CronTabList"]["properties"]["items"]["items"]["$ref"],
        "#/components/schemas/com.example.stable.v1.CronTab"
    );
    assert!(schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry"].is_object());
    let post = &document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs"]["post"];
    assert_eq!(post["operationId"], "createStableExampleComV1NamespacedCronTab");
    let patch = &document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}/status"]
        ["patch"];
    assert!(patch["requestBody"]["content"]["application/merge-patch+json"].is_object());
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_null());

    let old = fixture.get("/openapi/v2").await.expect(200);
    let tab = &old["definitions"]["com.example.stable.v1.CronTab"];
    assert_eq!(
        tab["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    // Old clients would take what may be anything for something.
    assert_eq!(
        tab["properties"]["spec"]["properties"]["free"],
        json!({"x-kubernetes-preserve-unknown-fields": true})
    );
    let protobuf = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let gnostic = fixture.with_headers(Method::GET, "/openapi/v2", &protobuf, "").await;
    let name = b"com.example.stable.v1.CronTabList";
    assert!(gnostic.bytes.windows(name.len()).any(|window| window == name));

    // Another definition changes what is its own.
    let core = |index: &Value| index["paths"]["api/v1"]["serverRelativeURL"].clone();
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let mut definition = fixture.get(&path).await.json();
    let properties = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        ["properties"];
    properties["port"] = json!({"x-kubernetes-int-or-string": true, "description": "A port."});
    fixture.put(&path, &definition).await.expect(200);
    let later = fixture.get("/openapi/v3").await.expect(200);
    assert_ne!(url(&later), Some(first));
    assert_eq!(core(&later), core(&index));
    let document = fixture.get(&url(&later).unwrap()).await.expect(200);
    let port = &document["components"]["schemas"]["com.example.stable.v1.CronTab"]["properties"]["spec"]["properties"]
        ["port"];
    assert_eq!(port["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
    fixture.delete(&path).await.expect(200);
    let wait = async {
        while fixture.get(&path).await.code.as_u16() != 404 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap();
    assert_eq!(url(&fixture.get("/openapi/v3").await.expect(200)), None);
    assert!(
        fixture.get("/openapi/v2").await.expect(200)["definitions"]["com.example.stable.v1.CronTab"]
            .is_null()
    );
}

#[tokio::test]
async fn many_definitions_are_served_each() {
    const COUNT: usize = 100;
    let fixture = model().await;
    for index in 0..COUNT {
        let mut definition = definition();
        definition["metadata"]["name"] = format!("things{index}.stable.example.com").into();
        definition["spec"]["names"] =
            json!({"plural": format!("things{index}"), "kind": format!("Thing{index}")});
        fixture.post(DEFINITIONS, &definition).await.expect(201);
    }
    for index in 0..COUNT {
        fixture.get(&format!("/apis/stable.example.com/v1/things{index}")).await.expect(200);
    }
    let resources = fixture.get("/apis/stable.example.com/v1").await.expect(200);
    assert_eq!(resources["resources"].as_array().unwrap().len(), 3 * COUNT);
    let accept = "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io";
    let first = fixture.with_headers(Method::GET, "/apis", &[("accept", accept)], "").await;
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    let known = [("accept", accept), ("if-none-match", tag.as_str())];
    assert_eq!(fixture.with_headers(Method::GET, "/apis", &known, "").await.code.as_u16(), 304);
    fixture.delete(&format!("{DEFINITIONS}/things0.stable.example.com")).await.expect(200);
    let wait = async {
        while fixture.get("/apis/stable.example.com/v1/things0").await.code.as_u16() != 404 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap();
    assert_eq!(fixture.with_headers(Method::GET, "/apis", &known, "").await.code.as_u16(), 200);
    fixture.get("/apis/stable.example.com/v1/things1").await.expect(200);
}

#[tokio::test]
async fn definitions_outlive_the_server() {
    let store: Arc<dyn Store> = Arc::new(ModelStore::new(Clock::system()));
    let first = configured(|config| *config = over(&store)).await;
    first.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    define(&first, &definition()).await;
    first.post(TABS, &tab("a", json!({"cron": "1"}))).await.expect(201);
    drop(first);
    let second = configured(|config| *config = over(&store)).await;
    assert_eq!(second.get(&format!("{TABS}/a")).await.expect(200)["spec"]["cron"], "1");
    let groups = second.get("/apis").await.json();
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "stable.example.com"));
}

fn over(store: &Arc<dyn Store>) -> Config {
    Config::new(Arc::clone(store), nauplius_kinds::builtin(), Arc::new(Union::default()))
}

#[tokio::test]
async fn a_scale_needs_the_field_that_it_shows() {
    let fixture = model().await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let mut definition = definition();
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    spec["replicas"].as_object_mut().unwrap().remove("default");
    define(&fixture, &definition).await;
    fixture.post(TABS, &tab("a", json!({"cron": "1"}))).await.expect(201);
    assert_eq!(
        fixture.get(&format!("{TABS}/a/scale")).await.refusal(),
        "500 Internal error occurred: the spec replicas field \".spec.replicas\" does not exist"
    );
}

mod webhook {
    //! A conversion webhook over TLS: `spec.host` and `spec.port` of v1 are `spec.address` of v2.

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper_util::rt::TokioIo;
    use nauplius_pki::{Authority, LeafRequest, TlsParts};
    use serde_json::{Value, json};
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    pub struct Webhook {
        pub port: u16,
        pub ca_bundle: String,
        pub calls: Arc<AtomicUsize>,
    }

    fn convert(object: &Value, api_version: &str) -> Value {
        let mut object = object.clone();
        let spec = &object["spec"];
        object["spec"] = if api_version.ends_with("/v2") {
            json!({"address": format!("{}:{}", spec["host"].as_str().unwrap(), spec["port"].as_str().unwrap())})
        } else {
            let (host, port) = spec["address"].as_str().unwrap().split_once(':').unwrap();
            json!({"host": host, "port": port})
        };
        object["apiVersion"] = api_version.into();
        object
    }

    fn answer(review: &Value) -> Value {
        let request = &review["request"];
        let version = request["desiredAPIVersion"].as_str().unwrap();
        let objects = request["objects"].as_array().unwrap();
        let uid = &request["uid"];
        let response = if objects.iter().any(|object| object["metadata"]["labels"]["break"] == "yes") {
            json!({"uid": uid, "result": {"status": "Failure", "message": "told to break"}})
        } else {
            let converted: Vec<_> = objects.iter().map(|object| convert(object, version)).collect();
            json!({"uid": uid, "result": {"status": "Success"}, "convertedObjects": converted})
        };
        json!({"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": response})
    }

    async fn serve(
        calls: Arc<AtomicUsize>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        assert_eq!(request.uri().to_string(), "/convert?timeout=30s");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        calls.fetch_add(1, Ordering::Relaxed);
        let review: Value = serde_json::from_slice(&body).unwrap();
        let answer = Full::new(Bytes::from(answer(&review).to_string()));
        Ok(Response::builder().header("content-type", "application/json").body(answer).unwrap())
    }

    pub async fn start() -> Webhook {
        use base64::Engine as _;
        let authority = Authority::create("webhooks").unwrap();
        let request =
            LeafRequest::server("hook", vec!["hook.n.svc".to_owned()], vec!["127.0.0.1".parse().unwrap()]);
        let issued = authority.issue(&request).unwrap();
        let parts = TlsParts::from_pem(&issued.certificate_pem, &issued.key_pem).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = config.with_no_client_auth().with_single_cert(parts.chain, parts.key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        nauplius_base::task::spawn("webhook", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, calls) = (acceptor.clone(), Arc::clone(&counted));
                nauplius_base::task::spawn("webhook connection", async move {
                    // A client that does not trust us goes away.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service =
                        hyper::service::service_fn(move |request| serve(Arc::clone(&calls), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let ca_bundle = base64::engine::general_purpose::STANDARD.encode(authority.certificate_pem());
        Webhook { port, ca_bundle, calls }
    }
}

fn with_webhook(client: Value) -> Value {
    let texts = |names: &[&str]| {
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}})
    };
    let mut definition = definition();
    definition["spec"]["versions"] = json!([
        {"name": "v1", "served": true, "storage": true, "schema": texts(&["host", "port"]),
            "selectableFields": [{"jsonPath": ".spec.host"}]},
        {"name": "v2", "served": true, "storage": false, "schema": texts(&["address"]),
            "selectableFields": [{"jsonPath": ".spec.address"}]},
    ]);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client}});
    definition
}

/// Leads every address to this machine.
struct ToLoopback;

impl Dial for ToLoopback {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(("127.0.0.1", address.port())))
    }
}

#[tokio::test]
async fn a_webhook_converts_between_versions() {
    let webhook = webhook::start().await;
    let fixture = configured(|config| config.backends = Arc::new(ToLoopback)).await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    // Reached through a service: the endpoints lead to it.
    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 9443, "name": "https"}]}});
    fixture.post("/api/v1/namespaces/n/services", &service).await.expect(201);
    let endpoints = json!({"metadata": {"name": "hook"}, "subsets": [{"addresses": [{"ip": "10.255.255.1"}], "ports": [{"name": "https", "port": webhook.port}]}]});
    fixture.post("/api/v1/namespaces/n/endpoints", &endpoints).await.expect(201);
    let service = json!({"namespace": "n", "name": "hook", "path": "/convert", "port": 9443});
    define(&fixture, &with_webhook(json!({"service": service, "caBundle": webhook.ca_bundle}))).await;
    let newer = "/apis/stable.example.com/v2/namespaces/n/crontabs";

    let made = fixture.post(TABS, &tab("a", json!({"host": "h", "port": "1"}))).await.expect(201);
    let found = fixture.get(&format!("{newer}/a")).await.expect(200);
    assert_eq!(
        (&found["apiVersion"], &found["spec"]),
        (&json!("stable.example.com/v2"), &json!({"address": "h:1"}))
    );
    assert_eq!(found["metadata"], made["metadata"]);
    let mut second = tab("b", json!({"address": "i:2", "odd": 1}));
    second["apiVersion"] = "stable.example.com/v2".into();
    let second = fixture.post(newer, &second).await.expect(201);
    assert_eq!(
        (&second["apiVersion"], &second["spec"]),
        (&json!("stable.example.com/v2"), &json!({"address": "i:2"}))
    );
    assert_eq!(
        fixture.get(&format!("{TABS}/b")).await.expect(200)["spec"],
        json!({"host": "i", "port": "2"})
    );

    let list = fixture.get(&format!("{newer}?fieldSelector=spec.address%3Di%3A2")).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["items"][0]["spec"], json!({"address": "i:2"}));
    let page = fixture.get(&format!("{newer}?limit=1")).await.expect(200);
    assert_eq!(page["items"][0]["metadata"]["name"], "a");
    let next = page["metadata"]["continue"].as_str().unwrap();
    let rest = fixture.get(&format!("{newer}?limit=1&continue={next}")).await.expect(200);
    assert_eq!(rest["items"][0]["spec"], json!({"address": "i:2"}));

    let mut watch = fixture.watch(&format!("{newer}?watch=1&resourceVersion=0")).await;
    for expected in ["h:1", "i:2"] {
        assert_eq!(watch.next().await.unwrap()["object"]["spec"]["address"], expected);
    }
    let merge = "application/merge-patch+json";
    let patched =
        fixture.patch(&format!("{newer}/a"), merge, &json!({"spec": {"address": "j:3"}})).await.expect(200);
    assert_eq!(
        (&patched["spec"], &patched["metadata"]["generation"]),
        (&json!({"address": "j:3"}), &json!(2))
    );
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["spec"]), (&json!("MODIFIED"), &json!({"address": "j:3"})));
    fixture.delete(&format!("{newer}/b")).await.expect(200);
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["spec"]), (&json!("DELETED"), &json!({"address": "i:2"})));

    // What was converted once is not asked for again.
    let calls = webhook.calls.load(std::sync::atomic::Ordering::Relaxed);
    fixture.get(newer).await.expect(200);
    fixture.get(&format!("{newer}/a")).await.expect(200);
    assert_eq!(webhook.calls.load(std::sync::atomic::Ordering::Relaxed), calls);

    let mut broken = tab("c", json!({"host": "h", "port": "1"}));
    broken["metadata"]["labels"] = json!({"break": "yes"});
    fixture.post(TABS, &broken).await.expect(201);
    assert_eq!(
        fixture.get(&format!("{newer}/c")).await.refusal(),
        "500 conversion webhook for stable.example.com/v1, Kind=CronTab failed: told to break"
    );
    fixture.get(&format!("{TABS}/c")).await.expect(200);
    fixture.delete(&format!("{TABS}/c")).await.expect(200);

    // The storage version moves on; what is stored in the older one is converted, too.
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let mut definition = fixture.get(&path).await.json();
    definition["spec"]["versions"][0]["storage"] = false.into();
    definition["spec"]["versions"][1]["storage"] = true.into();
    fixture.put(&path, &definition).await.expect(200);
    assert_eq!(fixture.get(&format!("{newer}/a")).await.expect(200)["spec"], json!({"address": "j:3"}));
    assert_eq!(
        fixture.get(&format!("{TABS}/a")).await.expect(200)["spec"],
        json!({"host": "j", "port": "3"})
    );
    let patched =
        fixture.patch(&format!("{TABS}/a"), merge, &json!({"spec": {"port": "4"}})).await.expect(200);
    assert_eq!(patched["spec"], json!({"host": "j", "port": "4"}));
    assert_eq!(fixture.get(&format!("{newer}/a")).await.expect(200)["spec"], json!({"address": "j:4"}));
}

/// Whose fields are whose is worked out in each owner's version, which only the webhook can make.
#[tokio::test]
async fn owners_follow_an_object_through_its_webhook() {
    let webhook = webhook::start().await;
    let fixture = model().await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let url = format!("https://127.0.0.1:{}/convert", webhook.port);
    define(&fixture, &with_webhook(json!({"url": url, "caBundle": webhook.ca_bundle}))).await;
    let (older, newer) =
        (format!("{TABS}/a"), "/apis/stable.example.com/v2/namespaces/n/crontabs/a".to_owned());
    let apply = async |path: &str, query: &str, spec: Value| {
        let version = if path == newer { "v2" } else { "v1" };
        let mut config = tab("a", spec);
        config["apiVersion"] = format!("stable.example.com/{version}").into();
        fixture.patch(&format!("{path}?{query}"), "application/apply-patch+yaml", &config).await
    };
    let owners = |object: &Value| -> Vec<String> {
        let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
        // One that changed nothing has no time, and stands first.
        let mut owners: Vec<_> =
            entries.map(|entry| format!("{} {}", entry["manager"], entry["fieldsV1"])).collect();
        owners.sort_unstable();
        owners
    };
    apply(&older, "fieldManager=one", json!({"host": "h", "port": "1"})).await.expect(201);
    let shared = apply(&newer, "fieldManager=two", json!({"address": "h:1"})).await.expect(200);
    let both = [
        r#""one" {"f:spec":{"f:host":{},"f:port":{}}}"#.to_owned(),
        r#""two" {"f:spec":{"f:address":{}}}"#.to_owned(),
    ];
    assert_eq!(owners(&shared), both);
    let refused = apply(&newer, "fieldManager=three", json!({"address": "h:2"})).await;
    assert_eq!(
        refused.refusal(),
        "409 Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.port\nconflicts with \"two\":\n- .spec.address"
    );
    let forced = apply(&newer, "fieldManager=three&force=true", json!({"address": "h:2"})).await.expect(200);
    assert_eq!(
        owners(&forced),
        [r#""one" {"f:spec":{"f:host":{}}}"#, r#""three" {"f:spec":{"f:address":{}}}"#]
    );
    // An update in the other version takes what it changes, too.
    let merge = "application/merge-patch+json";
    let change = json!({"spec": {"port": "3"}});
    let patched = fixture.patch(&format!("{older}?fieldManager=cli"), merge, &change).await.expect(200);
    assert_eq!(owners(&patched), [r#""cli" {"f:spec":{"f:port":{}}}"#, r#""one" {"f:spec":{"f:host":{}}}"#]);
}

#[tokio::test]
async fn a_webhook_that_cannot_be_reached_or_trusted_is_told() {
    let webhook = webhook::start().await;
    let fixture = model().await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let other = nauplius_pki::Authority::create("others").unwrap().certificate_pem();
    let other = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(other)
    };
    let url = format!("https://127.0.0.1:{}/convert", webhook.port);
    define(&fixture, &with_webhook(json!({"url": url, "caBundle": other}))).await;
    fixture.post(TABS, &tab("a", json!({"host": "h", "port": "1"}))).await.expect(201);
    let newer = "/apis/stable.example.com/v2/namespaces/n/crontabs/a";
    let about = "500 conversion webhook for stable.example.com/v1, Kind=CronTab failed: Post";
    assert_eq!(
        fixture.get(newer).await.refusal(),
        format!(
            "{about} \"https://127.0.0.1:{}/convert?timeout=30s\": tls: failed to verify certificate: x509: certificate signed by \
             unknown authority",
            webhook.port
        )
    );
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let mut definition = fixture.get(&path).await.json();
    let service = json!({"service": {"namespace": "n", "name": "none", "path": "/convert", "port": 443}, "caBundle": webhook.ca_bundle});
    definition["spec"]["conversion"]["webhook"]["clientConfig"] = service;
    fixture.put(&path, &definition).await.expect(200);
    assert_eq!(
        fixture.get(newer).await.refusal(),
        format!("{about} \"https://none.n.svc:443/convert?timeout=30s\": service \"none\" not found")
    );
    // In the version that is stored nobody is asked.
    fixture.get(&format!("{TABS}/a")).await.expect(200);
}
