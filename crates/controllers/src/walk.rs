//! All controllers together, against a small API server whose pods run as soon as they are there.

use crate::context::Settings;
use crate::testing::server::Server;
use nauplius_base::task::Group;
use nauplius_base::time;
use serde_json::{Value, json};
use std::time::Duration;

const PODS: &str = "/api/v1/namespaces/n/pods";
const SETS: &str = "/apis/apps/v1/namespaces/n/replicasets";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/n/deployments";

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Controllers at work; they end with it.
pub(crate) struct Walk {
    pub server: Server,
    group: Group,
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.group.shut_down();
    }
}

/// Starts the controllers and makes the namespace `n`.
pub(crate) async fn walk() -> Walk {
    let (server, group) = (Server::default(), Group::new());
    let settings = Settings { root_ca: "PEM".into(), cluster_cidr: "10.244.0.0/16".into(), node_prefix: 24 };
    let account = server.clone();
    let health = crate::run(server.client(), move |_| account.client(), settings, &group);
    server.until("the controllers are ready", |_| health.is_ready()).await;
    server.create(
        "/api/v1/namespaces",
        json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}}),
    );
    server.create("/api/v1/nodes", json!({"metadata": {"name": "node"}}));
    let ready = json!({"type": "Ready", "status": "True"});
    server.merge("/api/v1/nodes/node/status", &json!({"status": {"conditions": [ready]}}));
    server.create(LEASES, json!({"metadata": {"name": "node"}}));
    Walk { server, group }
}

/// What a kubelet does, in no time.
pub(crate) fn run_pods(server: &Server) {
    for (index, pod) in server.list(PODS).iter().enumerate().filter(|(_, pod)| pod["status"].is_null()) {
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": time::rfc3339_seconds(time::now())});
        let ip = format!("10.244.0.{index}");
        let status = json!({"phase": "Running", "conditions": [ready], "podIP": ip, "podIPs": [{"ip": ip}]});
        let name = pod["metadata"]["name"].as_str().unwrap();
        server.merge(&format!("{PODS}/{name}"), &json!({"spec": {"nodeName": "node"}}));
        server.merge(&format!("{PODS}/{name}/status"), &json!({"status": status}));
    }
}

pub(crate) fn deployment(image: &str) -> Value {
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image,
        "ports": [{"name": "web", "containerPort": 8080}]}]}});
    json!({"metadata": {"name": "d"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}}, "template": template,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10}})
}

/// Whether the rollout is through and the status says so.
pub(crate) fn is_rolled_out(server: &Server, image: &str) -> bool {
    run_pods(server);
    let pods = server.list(PODS);
    let status = server.get(&format!("{DEPLOYMENTS}/d")).unwrap_or_default();
    pods.len() == 3
        && pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == image)
        && status["status"]["availableReplicas"] == 3
        && status["status"]["updatedReplicas"] == 3
        && status["status"]["conditions"].to_string().contains("NewReplicaSetAvailable")
}

/// The laws: what has settled stays, without a request.
pub(crate) async fn assert_idle(server: &Server) {
    time::sleep(Duration::from_secs(5)).await;
    let before = server.writes().len();
    for second in 0..12 {
        let renewed = json!({"spec": {"renewTime": format!("2026-01-01T00:00:{:02}.000000Z", second * 5)}});
        server.merge(&format!("{LEASES}/node"), &renewed);
        time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(server.writes()[before..], Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_gets_its_account_and_its_ca() {
    let walk = walk().await;
    let there = |server: &Server| {
        server.get("/api/v1/namespaces/n/serviceaccounts/default").is_some()
            && server.get("/api/v1/namespaces/n/configmaps/kube-root-ca.crt").is_some()
    };
    walk.server.until("account and CA", there).await;
    assert_idle(&walk.server).await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_rolls_out_updates_and_rolls_back() {
    let walk = walk().await;
    let server = &walk.server;
    server.create(DEPLOYMENTS, deployment("i:1"));
    server.until("the first rollout", |server| is_rolled_out(server, "i:1")).await;
    assert_idle(server).await;

    let image = |image: &str| deployment(image)["spec"]["template"].clone();
    server.merge(&format!("{DEPLOYMENTS}/d"), &json!({"spec": {"template": image("i:2")}}));
    server.until("the second rollout", |server| is_rolled_out(server, "i:2")).await;
    server.merge(&format!("{DEPLOYMENTS}/d"), &json!({"spec": {"template": image("i:1")}}));
    server.until("the way back", |server| is_rolled_out(server, "i:1")).await;
    assert_idle(server).await;

    let sets = server.list(SETS);
    let revisions: Vec<_> = sets
        .iter()
        .map(|set| set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone())
        .collect();
    assert_eq!(sets.len(), 2);
    assert!(revisions.contains(&"3".into()) && revisions.contains(&"2".into()), "{revisions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_killed_pod_comes_back_and_scaling_follows() {
    let walk = walk().await;
    let server = &walk.server;
    server.create(DEPLOYMENTS, deployment("i:1"));
    server.until("the rollout", |server| is_rolled_out(server, "i:1")).await;
    let victim = server.list(PODS)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    server.delete(&format!("{PODS}/{victim}"), &Value::Null);
    server.until("another pod", |server| is_rolled_out(server, "i:1")).await;
    assert!(server.get(&format!("{PODS}/{victim}")).is_none());
    server.merge(&format!("{DEPLOYMENTS}/d"), &json!({"spec": {"replicas": 1}}));
    server.until("one pod", |server| server.list(PODS).len() == 1).await;
    assert_idle(server).await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_follow_the_pods() {
    let walk = walk().await;
    let server = &walk.server;
    let spec = json!({"selector": {"app": "a"}, "clusterIP": "10.96.0.7", "ports": [{"port": 80, "targetPort": "web", "protocol": "TCP"}]});
    server.create("/api/v1/namespaces/n/services", json!({"metadata": {"name": "s"}, "spec": spec}));
    server.create(DEPLOYMENTS, deployment("i:1"));
    let counts = |server: &Server| {
        let slices = server.list("/apis/discovery.k8s.io/v1/namespaces/n/endpointslices");
        let slice = slices.first().and_then(|slice| slice["endpoints"].as_array().map(Vec::len)).unwrap_or(0);
        let endpoints = server.get("/api/v1/namespaces/n/endpoints/s").unwrap_or_default();
        (slices.len(), slice, endpoints["subsets"][0]["addresses"].as_array().map_or(0, Vec::len))
    };
    server
        .until("three endpoints", |server| is_rolled_out(server, "i:1") && counts(server) == (1, 3, 3))
        .await;
    server.merge(&format!("{DEPLOYMENTS}/d"), &json!({"spec": {"replicas": 1}}));
    server.until("one endpoint", |server| counts(server) == (1, 1, 1)).await;
    assert_idle(server).await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_ones_own_are_mirrored() {
    const ENDPOINTS: &str = "/api/v1/namespaces/n/endpoints";
    let walk = walk().await;
    let server = &walk.server;
    server.create(
        "/api/v1/namespaces/n/services",
        json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}),
    );
    let subset = |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": [{"name": "http", "port": 80}]}]);
    server.create(ENDPOINTS, json!({"metadata": {"name": "s"}, "subsets": subset("10.1.2.3")}));
    let mirrored = |server: &Server| {
        let slices = server.list("/apis/discovery.k8s.io/v1/namespaces/n/endpointslices");
        slices.iter().map(|slice| slice["endpoints"][0]["addresses"][0].clone()).collect::<Vec<_>>()
    };
    server.until("a mirrored slice", |server| mirrored(server) == ["10.1.2.3"]).await;
    assert_idle(server).await;
    server.merge(&format!("{ENDPOINTS}/s"), &json!({"subsets": subset("10.1.2.4")}));
    server.until("the change", |server| mirrored(server) == ["10.1.2.4"]).await;
    server.delete(&format!("{ENDPOINTS}/s"), &Value::Null);
    server.until("the end", |server| mirrored(server).is_empty()).await;
    assert_idle(server).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_unknown_and_a_removed_one_takes_its_pods_along() {
    let walk = walk().await;
    let server = &walk.server;
    server.create(DEPLOYMENTS, deployment("i:1"));
    server.until("the rollout", |server| is_rolled_out(server, "i:1")).await;
    time::sleep(Duration::from_secs(51)).await;
    let is_unknown = |server: &Server| {
        let node = server.get("/api/v1/nodes/node").unwrap_or_default();
        let unready = |pod: &Value| pod["status"]["conditions"][0]["status"] == "False";
        node["status"].to_string().contains("Kubelet stopped posting node status.")
            && node["spec"]["taints"].to_string().contains("node.kubernetes.io/unreachable")
            && server.list(PODS).iter().all(unready)
    };
    server.until("the node is unknown", is_unknown).await;
    server.delete("/api/v1/nodes/node", &Value::Null);
    time::sleep(Duration::from_secs(41)).await;
    let is_replaced = |server: &Server| {
        let pods = server.list(PODS);
        pods.len() == 3 && pods.iter().all(|pod| pod["spec"]["nodeName"].is_null())
    };
    server.until("the pods are replaced", is_replaced).await;
}
