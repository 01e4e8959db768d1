//! The client that every component uses, with typed objects, against the server in process.

use crate::support::model;
use nauplius_client::{Client, DeleteOptions, ListOptions, Patch, WatchEvent, WatchOptions};
use nauplius_kinds::{ConfigMap, Lease, Object, Pod};
use serde_json::json;

#[tokio::test]
async fn typed_objects_make_the_round() {
    let fixture = model().await;
    let client = Client::new(fixture.client.clone(), "test");
    let pods = client.namespaced::<Pod>("default");
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]}});
    let made = pods.create(&Pod::decode(pod.to_string().as_bytes()).unwrap()).await.unwrap();
    assert!(!made.uid().is_empty());
    let spec = made.spec.clone().unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));

    let mut running = made.clone();
    running.status.as_mut().unwrap().phase = Some("Running".to_owned());
    let running = pods.update_status(&running).await.unwrap();
    assert_eq!(running.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
    let same = pods.update(&running).await.unwrap();
    assert_eq!(
        same.resource_version(),
        running.resource_version(),
        "what typed structs drop or add is no change"
    );

    let page = client.all::<Pod>().list(&ListOptions::default()).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].name(), "p");
    let refused = pods.update(&made).await.unwrap_err();
    assert!(refused.to_string().contains("the object has been modified"), "{refused}");
}

#[tokio::test]
async fn typed_watches_see_every_kind_of_event() {
    let fixture = model().await;
    let client = Client::new(fixture.client.clone(), "test");
    let maps = client.namespaced::<ConfigMap>("default");
    let page = maps.list(&ListOptions::default()).await.unwrap();
    let options = WatchOptions { resource_version: page.resource_version.clone(), ..WatchOptions::default() };
    let mut events = maps.watch(&options).await.unwrap();
    let mut map = ConfigMap::default();
    map.metadata.name = Some("a".to_owned());
    maps.create(&map).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"k": "v"}}));
    let patched = maps.patch("a", None, patch).await.unwrap();
    maps.delete("a", &DeleteOptions::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(match events.next().await.unwrap().unwrap() {
            WatchEvent::Added(_) => "added".to_owned(),
            WatchEvent::Modified(map) => {
                assert_eq!(map, patched);
                "modified".to_owned()
            }
            WatchEvent::Deleted(_) => "deleted".to_owned(),
            WatchEvent::Bookmark { .. } => continue,
        });
    }
    assert_eq!(seen, ["added", "modified", "deleted"]);
}

#[tokio::test]
async fn leases_are_renewed_with_a_put_that_may_create() {
    let fixture = model().await;
    let client = Client::new(fixture.client.clone(), "test");
    let leases = client.namespaced::<Lease>("kube-node-lease");
    let lease = json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "n"},
        "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40, "renewTime": "2026-01-02T03:04:05.000000Z"}});
    let made = leases.update(&Lease::decode(lease.to_string().as_bytes()).unwrap()).await.unwrap();
    let mut renewed = made.clone();
    renewed.spec.as_mut().unwrap().lease_duration_seconds = Some(41);
    let renewed = leases.update(&renewed).await.unwrap();
    assert_ne!(renewed.resource_version(), made.resource_version());
    assert_eq!(renewed.uid(), made.uid());
}
