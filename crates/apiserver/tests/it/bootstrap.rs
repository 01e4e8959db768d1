//! What a fresh cluster holds, how fast, and that a second start leaves it alone.

use crate::secured;
use crate::support::Fixture;
use nauplius_base::task::Group;
use nauplius_base::time::Instant;
use nauplius_pki::Authority;
use nauplius_store::Store;
use nauplius_store::embedded::{EmbeddedStore, Options};
use serde_json::Value;
use std::sync::Arc;

async fn list(client: &Fixture, path: &str) -> Vec<Value> {
    client.get(path).await.expect(200)["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_store_is_filled_and_a_filled_one_kept() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create("test").unwrap();
    let store: Arc<dyn Store> =
        Arc::new(EmbeddedStore::open(directory.path(), Options::default()).await.unwrap());
    let mut filled_at = 0;
    for what in ["empty", "filled"] {
        let group = Group::new();
        let before = Instant::now();
        let server = secured::start(Arc::clone(&store), &authority, &group).await;
        println!("start over an {what} store: {:?}", before.elapsed());
        let revision = store.revision().await.unwrap().0;
        let user = nauplius_apiserver::UserInfo::authenticated("admin", &["system:masters"]);
        let admin = Fixture::over(Arc::clone(&server), server.transport(user));
        if what == "empty" {
            check_contents(&admin).await;
            // What the start goes on with behind the scenes is the first server's, too.
            filled_at = store.revision().await.unwrap().0;
        } else {
            // The identity lease is renewed and the server says that it is there, nothing else.
            assert!(revision <= filled_at + 3, "{filled_at} {revision}");
        }
        group.shut_down();
    }
}

async fn check_contents(admin: &Fixture) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    assert!(list(admin, &format!("{rbac}/clusterroles")).await.len() > 60);
    assert!(list(admin, &format!("{rbac}/clusterrolebindings")).await.len() > 40);
    let classes = list(admin, "/apis/scheduling.k8s.io/v1/priorityclasses").await;
    let classes: Vec<(&str, i64)> = classes
        .iter()
        .map(|class| (class["metadata"]["name"].as_str().unwrap(), class["value"].as_i64().unwrap()))
        .collect();
    assert_eq!(
        classes,
        [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)]
    );
    let service = admin.get("/api/v1/namespaces/default/services/kubernetes").await.expect(200);
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    assert_eq!(admin.get(slices).await.expect(200)["endpoints"][0]["addresses"][0], "192.0.2.1");
    let config = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    assert!(admin.get(config).await.expect(200)["data"]["client-ca-file"].is_string());
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        admin.get(&format!("/api/v1/namespaces/{namespace}")).await.expect(200);
    }
}

/// Deletes an object and waits until it is there again.
async fn comes_back(admin: &Fixture, collection: &str, name: &str, delete: impl AsyncFnOnce(&str)) -> Value {
    let path = format!("{collection}/{name}");
    let old = admin.get(&path).await.expect(200);
    let field = format!("fieldSelector=metadata.name%3D{name}");
    let since = old["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut events = admin.watch(&format!("{collection}?watch=true&{field}&resourceVersion={since}")).await;
    delete(&path).await;
    let back = async {
        loop {
            let event = events.next().await.expect("the watch goes on");
            if event["type"] == "ADDED" && event["object"]["metadata"]["uid"] != old["metadata"]["uid"] {
                return event["object"].clone();
            }
        }
    };
    let waited = nauplius_base::time::timeout(std::time::Duration::from_secs(60), back).await;
    waited.unwrap_or_else(|_| panic!("{path} does not come back"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cluster_cannot_do_without_comes_back() {
    let secured = secured::secured().await;
    let admin = secured.admin();
    let delete = async |path: &str| drop(admin.delete(path).await.expect(200));
    let service = comes_back(&admin, "/api/v1/namespaces/default/services", "kubernetes", delete).await;
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let addresses = "/apis/networking.k8s.io/v1/ipaddresses";
    let address = comes_back(&admin, addresses, "10.96.0.1", delete).await;
    assert_eq!(address["spec"]["parentRef"]["name"], "kubernetes");
    let configs = "/api/v1/namespaces/kube-system/configmaps";
    let config = comes_back(&admin, configs, "extension-apiserver-authentication", delete).await;
    assert!(config["data"]["client-ca-file"].is_string());
    let finalized = async |path: &str| {
        let mut namespace = admin.delete(path).await.expect(200);
        namespace["spec"]["finalizers"] = serde_json::json!([]);
        admin.put(&format!("{path}/finalize"), &namespace).await.expect(200);
    };
    comes_back(&admin, "/api/v1/namespaces", "kube-node-lease", finalized).await;
    let released = async |path: &str| {
        let going = admin.delete(path).await.expect(200);
        assert!(going["metadata"]["deletionTimestamp"].is_string(), "a range in use stays: {going}");
        let patch = serde_json::json!({"metadata": {"finalizers": null}});
        admin.patch(path, "application/merge-patch+json", &patch).await.expect(200);
    };
    let range = comes_back(&admin, "/apis/networking.k8s.io/v1/servicecidrs", "kubernetes", released).await;
    assert_eq!(range["spec"]["cidrs"][0], "10.96.0.0/12");
}
