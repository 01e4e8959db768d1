//! Caches of resources that come and go while the store is written to.

use nauplius_apiserver::cache::Caches;
use nauplius_base::task::{CancellationToken, Group};
use nauplius_kinds::Kind;
use nauplius_meta::gvk::GroupResource;
use nauplius_store::model::ModelStore;
use nauplius_store::{Clock, Op, Store, Txn};
use std::sync::Arc;

fn kind(plural: &str) -> Arc<dyn Kind> {
    nauplius_kinds::builtin().into_iter().find(|kind| kind.descriptor().plural == plural).unwrap()
}

async fn put(store: &Arc<dyn Store>, name: &str) {
    let value = format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}"}}}}"#);
    let key = format!("/registry/configmaps/n/{name}").into_bytes().into();
    let op = Op::Put { key, value: value.into_bytes().into(), lease: None };
    store.txn(Txn { compare: Vec::new(), ops: vec![op] }).await.unwrap();
}

#[tokio::test]
async fn a_resource_is_followed_from_its_load_on_and_forgotten_with_its_watches() {
    let store: Arc<dyn Store> = Arc::new(ModelStore::new(Clock::system()));
    let caches = Caches::new(Arc::clone(&store), &[kind("secrets")]);
    let group = Group::new();
    group.spawn("feed", Arc::clone(&caches).run(CancellationToken::new()));
    caches.loaded().await;
    assert!(caches.resource("", "configmaps").is_none());

    put(&store, "before").await;
    // Writers go on while the cache is loaded: each object must be there, once.
    let writer = {
        let store = Arc::clone(&store);
        nauplius_base::task::spawn("writer", async move {
            for index in 0..200 {
                put(&store, &format!("during-{index}")).await;
            }
        })
    };
    let cache = caches.follow_resource(kind("configmaps")).await.unwrap();
    assert!(cache.get("n", "before").is_some());
    writer.await.unwrap();
    caches.catch_up().await.unwrap();
    assert_eq!(cache.snapshot().0.len(), 201);

    // A second cache takes over; who holds the first one still sees changes, but its watches end.
    let second = caches.follow_resource(kind("configmaps")).await.unwrap();
    assert!(cache.is_closed() && !second.is_closed());
    put(&store, "after").await;
    caches.catch_up().await.unwrap();
    assert!(cache.get("n", "after").is_some() && second.get("n", "after").is_some());

    caches.forget_resource(&GroupResource::new("", "configmaps"));
    assert!(second.is_closed() && caches.resource("", "configmaps").is_none());
    group.shut_down();
}
