//! Definitions: served at once, names in conflict, gone with their objects, there again after the server.

use super::{DEFINITIONS, TABS, define, defined, definition, tab, until};
use crate::support::{configured, model};
use http::Method;
use nauplius_apiserver::Config;
use nauplius_apiserver::authz::Union;
use nauplius_base::time::{sleep, timeout};
use nauplius_store::model::ModelStore;
use nauplius_store::{Clock, Store};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

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
