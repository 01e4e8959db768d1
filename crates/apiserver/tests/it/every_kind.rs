//! Every kind over the wire: its sound object (from the cases of `kinds`) is made, read in each served version and encoding, listed,
//! shown as a table, and deleted.

use crate::secured::secured;
use crate::support::{Fixture, configured};
use http::Method;
use nauplius_kinds::{Kind, RuntimeConfig, serving};
use nauplius_meta::{patch, yaml};
use serde_json::{Value, json};
use std::sync::Arc;

const CASES: &[&str] = &[
    include_str!("../../../kinds/tests/it/cases/admissionregistration.yaml"),
    include_str!("../../../kinds/tests/it/cases/core.yaml"),
    include_str!("../../../kinds/tests/it/cases/apps.yaml"),
    include_str!("../../../kinds/tests/it/cases/autoscaling.yaml"),
    include_str!("../../../kinds/tests/it/cases/batch.yaml"),
    include_str!("../../../kinds/tests/it/cases/certificates.yaml"),
    include_str!("../../../kinds/tests/it/cases/networking.yaml"),
    include_str!("../../../kinds/tests/it/cases/registrations.yaml"),
    include_str!("../../../kinds/tests/it/cases/resource.yaml"),
    include_str!("../../../kinds/tests/it/cases/small_groups.yaml"),
    include_str!("../../../kinds/tests/it/cases/storage.yaml"),
];
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn kinds() -> Vec<Arc<dyn Kind>> {
    serving(&RuntimeConfig::parse("api/beta=true").expect("a setting"))
}

fn collection(kind: &dyn Kind, version: &str) -> String {
    let descriptor = kind.descriptor();
    let root = match &*descriptor.group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let namespace = if descriptor.namespaced { "/namespaces/default" } else { "" };
    format!("{root}{namespace}/{}", descriptor.plural)
}

/// Without metadata: a write may fill labels, and moves the version.
fn content(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove("metadata");
    object
}

async fn check(server: &Fixture, case: &Value) {
    let api_version = case["of"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let all = kinds();
    let kind = all.iter().find(|kind| {
        let descriptor = kind.descriptor();
        descriptor.group == group && case["kind"] == *descriptor.kind && descriptor.version(version).is_some()
    });
    let kind = kind.unwrap_or_else(|| panic!("no kind {} in {api_version}", case["kind"]));
    let mut object = json!({"kind": case["kind"], "apiVersion": api_version, "metadata": {"name": "x"}});
    patch::merge::apply(&mut object, case["valid"].clone());
    let path = collection(&**kind, version);
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let created = server.post(&path, &object).await.expect(201);
    let read = server.get(&format!("{path}/{name}")).await.expect(200);
    if case["kind"] == "CustomResourceDefinition" {
        // The server itself writes its status, at any moment from now on.
        return;
    }
    assert_eq!(read, created, "{path}");
    for other in &kind.descriptor().versions {
        let path = collection(&**kind, &other.name);
        let shown = server.get(&format!("{path}/{name}")).await.expect(200);
        let accept = [("accept", PROTOBUF)];
        let answer = server.with_headers(Method::GET, &format!("{path}/{name}"), &accept, "").await;
        assert_eq!(answer.code.as_u16(), 200, "{path} as protobuf");
        let headers = [("content-type", PROTOBUF), ("accept", "application/json")];
        let again = server.with_headers(Method::PUT, &format!("{path}/{name}"), &headers, answer.bytes).await;
        assert_eq!(content(&again.expect(200)), content(&shown), "{path} through protobuf");
    }
    let accept = [("accept", TABLE)];
    let table = server.with_headers(Method::GET, &path, &accept, "").await.expect(200);
    let columns = table["columnDefinitions"].as_array().unwrap().len();
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), columns, "{path}");
    assert!(server.delete(&format!("{path}/{name}")).await.code.is_success(), "{path} is deleted");
}

#[tokio::test]
async fn each_is_made_read_and_deleted() {
    let server = configured(|config| {
        *config = nauplius_apiserver::Config::new(
            Arc::clone(&config.store),
            kinds(),
            Arc::new(nauplius_apiserver::authz::Union::default()),
        );
    })
    .await;
    for text in CASES {
        for case in yaml::decode(text).unwrap().as_array().unwrap() {
            check(&server, case).await;
        }
    }
}

#[tokio::test]
async fn what_nothing_enforces_says_so() {
    let cluster = secured().await;
    let admin = cluster.admin();
    let policy = json!({"metadata": {"name": "a"}, "spec": {"podSelector": {}}});
    let path = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let answer = admin.post(path, &policy).await;
    assert_eq!(answer.code.as_u16(), 201);
    let warning = answer.headers["warning"].to_str().unwrap();
    assert!(warning.contains("not enforced yet"), "{warning}");
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}});
    let answer = admin.post("/api/v1/namespaces/default/resourcequotas", &quota).await;
    assert!(answer.headers["warning"].to_str().unwrap().contains("not enforced yet"));
    answer.expect(201);
    let claim = json!({"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }});
    let answer = admin.post("/api/v1/namespaces/default/persistentvolumeclaims", &claim).await;
    assert!(answer.headers["warning"].to_str().unwrap().contains("nothing acts on claims yet"));
    answer.expect(201);
    let hook = json!({"metadata": {"name": "a"}, "webhooks": [{
        "name": "a.example.com", "clientConfig": {"url": "https://a"}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let refused = admin.post(path, &hook).await.expect(501);
    assert!(refused["message"].as_str().unwrap().contains("not called yet"), "{refused}");
    admin.get(path).await.expect(200);
    let remote = json!({"metadata": {"name": "v1.example.com"}, "spec": {
        "group": "example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
        "service": {"name": "a", "namespace": "b"},
    }});
    admin.post("/apis/apiregistration.k8s.io/v1/apiservices", &remote).await.expect(501);
}

#[tokio::test]
async fn what_the_server_serves_itself_is_registered() {
    let cluster = secured().await;
    let admin = cluster.admin();
    let path = "/apis/apiregistration.k8s.io/v1/apiservices";
    let service = admin.get(&format!("{path}/v1.apps")).await.expect(200);
    assert_eq!(service["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    assert_eq!(
        service["spec"],
        json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17_800, "versionPriority": 15})
    );
    assert_eq!(service["status"]["conditions"][0]["reason"], "Local");
    admin.get(&format!("{path}/v1.")).await.expect(200);
    admin.get(&format!("{path}/v1beta1.resource.k8s.io")).await.expect(404);
}

#[tokio::test]
async fn the_store_has_a_component_status() {
    let server = configured(|_| {}).await;
    let list = server.get("/api/v1/componentstatuses").await;
    assert!(list.headers["warning"].to_str().unwrap().contains("v1 ComponentStatus is deprecated in v1.19+"));
    let list = list.expect(200);
    assert_eq!(list["kind"], "ComponentStatusList");
    assert_eq!(list["items"][0]["metadata"]["name"], "etcd-0");
    assert_eq!(list["items"][0]["conditions"][0]["status"], "True");
    let one = server.get("/api/v1/componentstatuses/etcd-0").await.expect(200);
    assert_eq!(one["kind"], "ComponentStatus");
    server.get("/api/v1/componentstatuses/none").await.expect(404);
    server.delete("/api/v1/componentstatuses/etcd-0").await.expect(405);
    let accept = [("accept", TABLE)];
    let table = server.with_headers(Method::GET, "/api/v1/componentstatuses", &accept, "").await.expect(200);
    assert_eq!(table["rows"][0]["cells"], json!(["etcd-0", "Healthy", "ok", ""]));
}
