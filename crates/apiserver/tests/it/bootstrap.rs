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
            filled_at = revision;
            check_contents(&admin).await;
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
