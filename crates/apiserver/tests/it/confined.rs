//! A watcher that may see less than there is sees nothing more, however it asks and wherever it begins.

use crate::secured::start;
use crate::support::{Events, Fixture, config_map, version};
use nauplius_apiserver::{ApiServer, UserInfo};
use nauplius_base::task::Group;
use nauplius_pki::Authority;
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::etcd_process::EtcdProcess;
use nauplius_store::model::ModelStore;
use nauplius_store::{Clock, Store};
use serde_json::{Value, json};
use std::sync::Arc;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
const GROUP: &str = "rbac.authorization.k8s.io";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Begins like the namespace that is allowed.
const NEIGHBOUR: &str = "/api/v1/namespaces/default-too/configmaps";

struct Cluster {
    server: Arc<ApiServer>,
    group: Group,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.group.shut_down();
    }
}

impl Cluster {
    async fn over(store: Arc<dyn Store>) -> Self {
        let group = Group::new();
        let server = start(store, &Authority::create("test").unwrap(), &group).await;
        Self { server, group }
    }

    fn as_user(&self, name: &str, groups: &[&str]) -> Fixture {
        let user = UserInfo::authenticated(name, groups);
        Fixture::over(Arc::clone(&self.server), self.server.transport(user))
    }

    fn admin(&self) -> Fixture {
        self.as_user("admin", &["system:masters"])
    }

    /// A user who may read the config maps of `default`; only some of them, when `names` has any.
    async fn reader(&self, user: &str, names: &[&str]) -> Fixture {
        let mut rule =
            json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]});
        if !names.is_empty() {
            rule["resourceNames"] = json!(names);
        }
        let admin = self.admin();
        admin
            .post(&format!("{RBAC}/roles"), &json!({"metadata": {"name": user}, "rules": [rule]}))
            .await
            .expect(201);
        let binding = json!({"metadata": {"name": user},
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": user},
            "subjects": [{"kind": "User", "apiGroup": GROUP, "name": user}]});
        admin.post(&format!("{RBAC}/rolebindings"), &binding).await.expect(201);
        self.as_user(user, &[])
    }
}

/// Changes of every kind to what is allowed and what is not; returns the revision before them.
async fn changes(admin: &Fixture) -> i64 {
    let before = admin.get(MAPS).await.expect(200);
    for collection in [MAPS, NEIGHBOUR, "/api/v1/namespaces/kube-system/configmaps"] {
        for name in ["mine", "mine-too", "other"] {
            let one = format!("{collection}/{name}");
            admin.post(collection, &config_map(name, &json!({"a": "b"}), &json!({}))).await.expect(201);
            admin.put(&one, &config_map(name, &json!({"a": "c"}), &json!({"x": "1"}))).await.expect(200);
            admin.delete(&one).await.expect(200);
            admin.post(collection, &config_map(name, &json!({"a": "b"}), &json!({}))).await.expect(201);
        }
    }
    version(&before).parse().unwrap()
}

/// What a watch shows until the end marker, as `TYPE namespace/name`.
async fn shown(reader: &Fixture, admin: &Fixture, path: &str, marker: &str) -> Vec<String> {
    let mut events = reader.watch(path).await;
    // A watch takes its snapshot when it is first read, and at revision 0 it may be an older one: the marker comes after that,
    // and is unlike those of other watches.
    let mut event = events.next().await.expect("an event");
    let end = json!({"data": {"end": path}});
    let mut lines = Vec::new();
    admin.patch(&format!("{MAPS}/{marker}"), "application/merge-patch+json", &end).await.expect(200);
    loop {
        let object: &Value = &event["object"];
        if object["data"]["end"] == path {
            return lines;
        }
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        lines.push(format!("{} {}/{}", event["type"].as_str().unwrap(), text("namespace"), text("name")));
        event = events.next().await.expect("an event");
    }
}

/// Watches of all namespaces by someone who may, which were sent some events.
async fn everything(admin: &Fixture, query: &str) -> Vec<Events> {
    let mut watches = Vec::new();
    for path in ["/api/v1/configmaps", MAPS] {
        for _ in 0..2 {
            let mut watch = admin.watch(&format!("{path}?watch=1&{query}")).await;
            assert!(watch.next().await.is_some());
            watches.push(watch);
        }
    }
    watches
}

/// What must be kept while the stores are used, and the stores: files, memory, and etcd where there is one.
async fn stores(test: &str) -> ((tempfile::TempDir, Option<EtcdProcess>), Vec<Arc<dyn Store>>) {
    let directory = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(directory.path(), Options::default()).await.unwrap();
    let mut stores: Vec<Arc<dyn Store>> =
        vec![Arc::new(embedded), Arc::new(ModelStore::new(Clock::system()))];
    let etcd = EtcdProcess::start(test, &[]).await;
    if let Some(etcd) = &etcd {
        stores.push(Arc::new(etcd.store("/registry/", "/registry/").await.unwrap()));
    }
    ((directory, etcd), stores)
}

async fn prepared(store: Arc<dyn Store>) -> (Cluster, i64) {
    let cluster = Cluster::over(store).await;
    let admin = cluster.admin();
    admin.post("/api/v1/namespaces", &json!({"metadata": {"name": "default-too"}})).await.expect(201);
    let before = changes(&admin).await;
    (cluster, before)
}

#[tokio::test]
async fn who_may_see_one_namespace_sees_no_other() {
    let (_kept, stores) = stores("who_may_see_one_namespace").await;
    for store in stores {
        let (cluster, before) = prepared(store).await;
        let (admin, joe) = (cluster.admin(), cluster.reader("joe", &[]).await);
        for refused in [
            "/api/v1/configmaps?watch=1".to_owned(),
            "/api/v1/watch/configmaps".to_owned(),
            "/api/v1/configmaps?watch=1&fieldSelector=metadata.namespace%3Ddefault".to_owned(),
            "/api/v1/configmaps?watch=1&fieldSelector=metadata.name%3Dmine".to_owned(),
            format!("{NEIGHBOUR}?watch=1"),
            "/api/v1/watch/namespaces/kube-system/configmaps".to_owned(),
            "/api/v1/namespaces/default%2F..%2Fkube-system/configmaps?watch=1".to_owned(),
        ] {
            assert_eq!(joe.get(&refused).await.code.as_u16(), 403, "{refused}");
        }
        for query in [
            format!("resourceVersion={before}"),
            "resourceVersion=0".to_owned(),
            String::new(),
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true".to_owned(),
            "resourceVersion=0&labelSelector=a".to_owned(),
        ] {
            // Those who see everything stand at the same place, and what they are sent is kept for others.
            let _others = everything(&admin, &query).await;
            let seen = shown(&joe, &admin, &format!("{MAPS}?watch=1&{query}"), "mine").await;
            let own = |line: &String| line.contains(" default/") || line == "BOOKMARK /";
            assert!(!seen.is_empty() && seen.iter().all(own), "{query}: {seen:?}");
        }
        let elsewhere =
            format!("{MAPS}?watch=1&timeoutSeconds=1&fieldSelector=metadata.namespace%3Dkube-system");
        assert_eq!(joe.watch(&elsewhere).await.next().await, None);
    }
}

#[tokio::test]
async fn who_may_see_one_name_sees_no_other() {
    let (_kept, stores) = stores("who_may_see_one_name").await;
    for store in stores {
        let (cluster, before) = prepared(store).await;
        let (admin, ann) = (cluster.admin(), cluster.reader("ann", &["mine"]).await);
        for refused in [
            "",
            "&fieldSelector=metadata.name!%3Dother",
            "&fieldSelector=metadata.name%3Dother",
            "&fieldSelector=metadata.name%3Dother,metadata.name%3Dmine",
            "&fieldSelector=metadata.namespace%3Ddefault",
            "&labelSelector=a",
            "&fieldSelector=&fieldSelector=metadata.name%3Dmine",
        ] {
            let path = format!("{MAPS}?watch=1&resourceVersion={before}{refused}");
            assert_eq!(ann.get(&path).await.code.as_u16(), 403, "{path}");
        }
        for path in [
            format!("{MAPS}?watch=1&resourceVersion={before}&fieldSelector=metadata.name%3Dmine"),
            format!("{MAPS}?watch=1&resourceVersion=0&fieldSelector=metadata.name%3D%3Dmine"),
            format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dmine&fieldSelector=metadata.name%3Dother"),
            format!("/api/v1/watch/namespaces/default/configmaps/mine?resourceVersion={before}"),
        ] {
            let query =
                path.split_once('?').map_or("", |(_, query)| query).split("&fieldSelector").next().unwrap();
            let _others = everything(&admin, query.trim_start_matches("watch=1&")).await;
            let seen = shown(&ann, &admin, &path, "mine").await;
            let own = |line: &String| line.ends_with(" default/mine");
            assert!(!seen.is_empty() && seen.iter().all(own), "{path}: {seen:?}");
        }
        let both = "fieldSelector=metadata.name%3Dmine,metadata.name%3Dother";
        let path = format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={before}&{both}");
        assert_eq!(ann.watch(&path).await.next().await, None);
        let whole = ann.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dmine")).await.expect(200);
        assert_eq!(whole["items"].as_array().unwrap().len(), 1);
        assert_eq!(ann.get(MAPS).await.code.as_u16(), 403);
    }
}
