//! What single kinds need of other objects: addresses and ports of services, bindings, scales, namespaces that end.

use crate::support::{Fixture, embedded, model};
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn service(name: &str, mut spec: Value) -> Value {
    if spec.get("ports").is_none() {
        spec["ports"] = json!([{"port": 80}]);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn services_get_addresses_once() {
    for fixture in [embedded().await, model().await] {
        let made = fixture.post(SERVICES, &service("a", json!({"selector": {"app": "a"}}))).await.expect(201);
        let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
        assert!(ip.starts_with("10."), "{ip}");
        assert_eq!(made["spec"]["clusterIPs"], json!([ip]));
        let taken = fixture.post(SERVICES, &service("b", json!({"clusterIP": ip}))).await;
        let words = format!(
            "422 Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to allocate IP {ip}: \
             provided IP is already allocated"
        );
        assert_eq!(taken.refusal(), words);
        let outside = fixture.post(SERVICES, &service("b", json!({"clusterIP": "192.0.2.1"}))).await;
        assert!(
            outside.refusal().contains("The range of valid IPs is 10.96.0.0/12"),
            "{}",
            outside.refusal()
        );
        fixture.delete(&format!("{SERVICES}/a")).await.expect(200);
        let again = fixture.post(SERVICES, &service("b", json!({"clusterIP": ip}))).await.expect(201);
        assert_eq!(again["spec"]["clusterIP"], ip.as_str());
        let headless = fixture.post(SERVICES, &service("h", json!({"clusterIP": "None"}))).await.expect(201);
        assert_eq!(headless["spec"]["clusterIP"], "None");
    }
}

#[tokio::test]
async fn services_get_node_ports_once_and_give_them_back() {
    let fixture = model().await;
    let node_port = |object: &Value| object["spec"]["ports"][0]["nodePort"].as_u64();
    let made = fixture.post(SERVICES, &service("a", json!({"type": "NodePort"}))).await.expect(201);
    let port = node_port(&made).unwrap();
    assert!((30_086..=32_767).contains(&port), "{port}");
    let same = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let taken = fixture.post(SERVICES, &service("b", same.clone())).await;
    assert_eq!(
        taken.refusal(),
        format!(
            "422 Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is already \
             allocated"
        )
    );
    let low = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]});
    assert!(
        fixture
            .post(SERVICES, &service("b", low))
            .await
            .refusal()
            .contains("The range of valid ports is 30000-32767")
    );

    let mut smaller = made.clone();
    smaller["spec"]["type"] = json!("ClusterIP");
    let smaller = fixture.put(&format!("{SERVICES}/a"), &smaller).await.expect(200);
    assert_eq!(node_port(&smaller), None);
    assert_eq!(smaller["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    fixture.post(SERVICES, &service("b", same)).await.expect(201);
}

#[tokio::test]
async fn concurrent_services_never_share() {
    let fixture = embedded().await;
    let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    let bodies: Vec<Value> = names.iter().map(|name| service(name, json!({"type": "NodePort"}))).collect();
    let made = futures_util::future::join_all(bodies.iter().map(|body| fixture.post(SERVICES, body))).await;
    let mut ips = std::collections::BTreeSet::new();
    let mut ports = std::collections::BTreeSet::new();
    for answer in made {
        let object = answer.expect(201);
        assert!(ips.insert(object["spec"]["clusterIP"].to_string()));
        assert!(ports.insert(object["spec"]["ports"][0]["nodePort"].to_string()));
    }
}

async fn pod(fixture: &Fixture, name: &str) -> Value {
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    fixture.post(PODS, &json!({"metadata": {"name": name}, "spec": spec})).await.expect(201)
}

#[tokio::test]
async fn pods_are_bound_once_and_leave_in_two_phases() {
    let fixture = model().await;
    let path = format!("{PODS}/p");
    let made = pod(&fixture, "p").await;
    assert_eq!(made["status"]["phase"], "Pending");
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    fixture.post(&format!("{path}/binding"), &binding).await.expect(201);
    let again = fixture.post(&format!("{PODS}/p/binding"), &binding).await;
    assert!(again.refusal().contains("pod p is already assigned to node \"n1\""), "{}", again.refusal());
    let bound = fixture.get(&path).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    let on_node = fixture.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.expect(200);
    assert_eq!(on_node["items"].as_array().unwrap().len(), 1);

    let mut running = bound.clone();
    running["status"]["phase"] = json!("Running");
    running["spec"]["nodeName"] = json!("other");
    let running = fixture.put(&format!("{path}/status"), &running).await.expect(200);
    assert_eq!(running["status"]["phase"], "Running");
    assert_eq!(running["spec"]["nodeName"], "n1", "a status update cannot change the spec");

    let leaving = fixture.delete(&path).await.expect(200);
    assert_eq!(leaving["metadata"]["deletionGracePeriodSeconds"], 30);
    let leaving = fixture.delete(&path).await.expect(200);
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    let uid = leaving["metadata"]["uid"].as_str().unwrap();
    let wrong = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}});
    assert_eq!(fixture.delete_with(&path, &wrong).await.code.as_u16(), 409);
    fixture
        .delete_with(&path, &json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}))
        .await
        .expect(200);
    fixture.get(&path).await.expect(404);

    pod(&fixture, "q").await;
    fixture.delete(&format!("{PODS}/q")).await.expect(200);
    fixture.get(&format!("{PODS}/q")).await.expect(404);
}

#[tokio::test]
async fn evictions_delete() {
    let fixture = model().await;
    pod(&fixture, "p").await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    fixture.post(&format!("{PODS}/p/eviction"), &eviction).await.expect(201);
    fixture.get(&format!("{PODS}/p")).await.expect(404);
}

/// A pod that runs on a node, ready or not.
async fn running(fixture: &Fixture, name: &str, ready: &str) {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    fixture.post(PODS, &pod).await.expect(201);
    let condition = json!({"type": "Ready", "status": ready});
    let status = json!({"status": {"phase": "Running", "conditions": [condition]}});
    let path = format!("{PODS}/{name}/status");
    fixture.patch(&path, "application/merge-patch+json", &status).await.expect(200);
}

#[tokio::test]
async fn evicted_pods_are_told_and_budgets_spare_those_that_are_not_ready() {
    let fixture = model().await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    fixture.post(budgets, &budget).await.expect(201);
    let counted = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 2}});
    fixture.patch(&format!("{budgets}/b/status"), "application/merge-patch+json", &counted).await.expect(200);
    running(&fixture, "ready", "True").await;
    running(&fixture, "unready", "False").await;
    let eviction =
        |name: &str| json!({"metadata": {"name": name}, "deleteOptions": {"gracePeriodSeconds": 5}});
    let refused = fixture.post(&format!("{PODS}/ready/eviction"), &eviction("ready")).await;
    assert_eq!(refused.refusal(), "429 Cannot evict pod as it would violate the pod's disruption budget.");
    fixture.post(&format!("{PODS}/unready/eviction?dryRun=All"), &eviction("unready")).await.expect(201);
    let tried = fixture.get(&format!("{PODS}/unready")).await.json();
    assert!(tried["metadata"]["deletionTimestamp"].is_null(), "the query says that it is only tried");
    fixture.post(&format!("{PODS}/unready/eviction"), &eviction("unready")).await.expect(201);
    let evicted = fixture.get(&format!("{PODS}/unready")).await.json();
    assert_eq!(evicted["metadata"]["deletionGracePeriodSeconds"], 5);
    let told =
        evicted["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "DisruptionTarget");
    assert_eq!(told.unwrap()["reason"], "EvictionByEvictionAPI");
    let allows = json!({"status": {"disruptionsAllowed": 1}});
    fixture.patch(&format!("{budgets}/b/status"), "application/merge-patch+json", &allows).await.expect(200);
    fixture.post(&format!("{PODS}/ready/eviction"), &eviction("ready")).await.expect(201);
    let status = fixture.get(&format!("{budgets}/b")).await.json()["status"].clone();
    assert_eq!(
        (&status["disruptionsAllowed"], &status["conditions"][0]["reason"]),
        (&json!(0), &json!("InsufficientPods"))
    );
    assert!(status["disruptedPods"]["ready"].is_string(), "{status}");
}

#[tokio::test]
async fn deployments_scale_and_count_generations() {
    let fixture = model().await;
    let template =
        json!({"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"selector": {"matchLabels": {"app": "d"}}, "template": template});
    let made = fixture.post(DEPLOYMENTS, &json!({"metadata": {"name": "d"}, "spec": spec})).await.expect(201);
    assert_eq!(made["spec"]["replicas"], 1);
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("{DEPLOYMENTS}/d/scale");
    let mut scale = fixture.get(&path).await.expect(200);
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["status"]["selector"], "app=d");
    scale["spec"]["replicas"] = json!(5);
    let scaled = fixture.put(&path, &scale).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 5);
    let object = fixture.get(&format!("{DEPLOYMENTS}/d")).await.expect(200);
    assert_eq!(object["spec"]["replicas"], 5);
    assert_eq!(object["metadata"]["generation"], 2);
    let stale = fixture.put(&path, &scale).await;
    assert_eq!(stale.code.as_u16(), 409);
    let mut negative = scaled.clone();
    negative["spec"]["replicas"] = json!(-1);
    assert_eq!(
        fixture.put(&path, &negative).await.refusal(),
        "422 Scale.autoscaling \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
}

#[tokio::test]
async fn namespaces_end_when_they_are_finalized() {
    let fixture = model().await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let path = "/api/v1/namespaces/n";
    let ending = fixture.delete(path).await.expect(200);
    assert_eq!(ending["status"]["phase"], "Terminating");
    let still = fixture.get(path).await.expect(200);
    assert!(still["metadata"]["deletionTimestamp"].is_string());
    let mut finalized = still.clone();
    finalized["spec"]["finalizers"] = json!([]);
    fixture.put("/api/v1/namespaces/n/finalize", &finalized).await.expect(200);
    fixture.get(path).await.expect(404);
}
