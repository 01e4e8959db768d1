//! Create, get, update and delete: what they answer and what they refuse.

use crate::support::{Fixture, config_map, embedded, model, version};
use nauplius_store::RangeRequest;
use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_config_map_lives_its_life() {
    for fixture in [embedded().await, model().await] {
        life(&fixture).await;
    }
}

async fn life(fixture: &Fixture) {
    let path = format!("{MAPS}/a");
    let created = fixture.post(MAPS, &config_map("a", &json!({}), &json!({"k": "1"}))).await.expect(201);
    assert_eq!(created["metadata"]["namespace"], "default");
    assert!(!created["metadata"]["uid"].as_str().unwrap().is_empty());
    assert!(created["metadata"]["creationTimestamp"].is_string());
    assert_eq!(created["kind"], "ConfigMap");

    let read = fixture.get(&path).await.expect(200);
    assert_eq!(read, created);
    assert_eq!(fixture.get(&format!("{path}?resourceVersion=0")).await.expect(200), created);

    let same = fixture.put(&path, &read).await.expect(200);
    assert_eq!(version(&same), version(&read), "an update that changes nothing writes nothing");

    let mut changed = read.clone();
    changed["data"]["k"] = json!("2");
    let changed = fixture.put(&path, &changed).await.expect(200);
    assert_ne!(version(&changed), version(&read));
    assert_eq!(changed["metadata"]["uid"], read["metadata"]["uid"]);

    let deleted = fixture.delete(&path).await.expect(200);
    assert_eq!(deleted["status"], "Success");
    assert_eq!(deleted["details"]["name"], "a");
    assert_eq!(deleted["details"]["uid"], read["metadata"]["uid"]);
    fixture.get(&path).await.expect(404);
}

/// An hour, in which those that were made close together end together.
#[tokio::test]
async fn events_end_by_themselves() {
    let fixture = model().await;
    let about = json!({"kind": "ConfigMap", "namespace": "default", "name": "a"});
    for name in ["one", "two"] {
        let event = json!({"metadata": {"name": name, "namespace": "default"}, "involvedObject": about, "reason": "R"});
        fixture.post("/api/v1/namespaces/default/events", &event).await.expect(201);
    }
    fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let store = fixture.server.caches().store();
    let lease = async |key: &str| {
        let found =
            store.range(RangeRequest { start: key.to_owned().into(), ..RangeRequest::default() }).await;
        found.unwrap().kvs[0].lease
    };
    let [one, two] =
        [lease("/registry/events/default/one").await, lease("/registry/events/default/two").await];
    assert!(one.is_some() && one == two);
    assert_eq!(lease("/registry/configmaps/default/a").await, None);
    let kinds = nauplius_kinds::builtin();
    let of_events = kinds.iter().filter(|kind| kind.descriptor().plural == "events");
    assert!(of_events.clone().count() > 0);
    assert!(of_events.into_iter().all(|kind| kind.descriptor().ttl_s == 3600));
}

#[tokio::test]
async fn refusals_have_upstreams_words() {
    let fixture = model().await;
    let first = fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let lock = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
                to the latest version and try again";

    let again = fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await;
    assert_eq!(again.refusal(), "409 configmaps \"a\" already exists");
    let missing = fixture.get(&format!("{MAPS}/none")).await;
    assert_eq!(missing.refusal(), "404 configmaps \"none\" not found");
    let missing = fixture.delete(&format!("{MAPS}/none")).await;
    assert_eq!(missing.refusal(), "404 configmaps \"none\" not found");

    let mut changed = first.clone();
    changed["data"] = json!({"x": "y"});
    fixture.put(&format!("{MAPS}/a"), &changed).await.expect(200);
    let stale = fixture.put(&format!("{MAPS}/a"), &changed).await;
    assert_eq!(stale.refusal(), format!("409 {lock}"));
    let stale = fixture
        .delete_with(&format!("{MAPS}/a"), &json!({"preconditions": {"resourceVersion": version(&first)}}))
        .await;
    assert_eq!(stale.code.as_u16(), 409);
    let other = fixture.delete_with(&format!("{MAPS}/a"), &json!({"preconditions": {"uid": "x"}})).await;
    assert!(other.refusal().contains("the UID in the precondition (x) does not match the UID in record"));

    let invalid = fixture.post(MAPS, &config_map("A_b", &json!({}), &json!({}))).await;
    assert!(
        invalid
            .refusal()
            .starts_with("422 ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\"")
    );
    let elsewhere = json!({"metadata": {"name": "b", "namespace": "other"}});
    assert_eq!(
        fixture.post(MAPS, &elsewhere).await.refusal(),
        "400 the namespace of the provided object does not match the namespace sent on the request"
    );
    let unnamed = fixture.post(MAPS, &json!({"metadata": {}})).await;
    assert_eq!(
        unnamed.refusal(),
        "422 ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    let wrong = json!({"apiVersion": "apps/v1", "kind": "ConfigMap", "metadata": {"name": "b"}});
    assert_eq!(
        fixture.post(MAPS, &wrong).await.refusal(),
        "400 ConfigMap in version \"v1\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \
         \"apps/v1\" in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\""
    );
    let set = json!({"metadata": {"name": "b", "resourceVersion": "5"}});
    assert_eq!(
        fixture.post(MAPS, &set).await.refusal(),
        "500 resourceVersion should not be set on objects to be created"
    );
    let renamed = config_map("b", &json!({}), &json!({}));
    assert_eq!(
        fixture.put(&format!("{MAPS}/a"), &renamed).await.refusal(),
        "400 the name of the object (b) does not match the name on the URL (a)"
    );
}

#[tokio::test]
async fn names_are_generated_and_dry_runs_store_nothing() {
    let fixture = model().await;
    let generated = json!({"metadata": {"generateName": "x-"}});
    let made = fixture.post(MAPS, &generated).await.expect(201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("x-") && name.len() == 7, "{name}");

    let tried = fixture.post(&format!("{MAPS}?dryRun=All"), &config_map("d", &json!({}), &json!({}))).await;
    let tried = tried.expect(201);
    assert!(tried["metadata"].get("resourceVersion").is_none());
    fixture.get(&format!("{MAPS}/d")).await.expect(404);
    fixture.delete(&format!("{MAPS}/{name}?dryRun=All")).await.expect(200);
    fixture.get(&format!("{MAPS}/{name}")).await.expect(200);
}

#[tokio::test]
async fn finalizers_keep_an_object_until_the_last_is_gone() {
    let fixture = model().await;
    let path = format!("{MAPS}/f");
    let object = json!({"metadata": {"name": "f", "finalizers": ["example.com/hold"]}});
    fixture.post(MAPS, &object).await.expect(201);
    let marked = fixture.delete(&path).await.expect(200);
    assert_eq!(marked["kind"], "ConfigMap");
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    let again = fixture.post(MAPS, &config_map("f", &json!({}), &json!({}))).await;
    assert_eq!(again.refusal(), "409 object is being deleted: configmaps \"f\" already exists");

    let mut more = marked.clone();
    more["metadata"]["finalizers"] = json!(["example.com/hold", "example.com/more"]);
    let refused = fixture.put(&path, &more).await;
    assert!(refused.refusal().contains("no new finalizers can be added if the object is being deleted"));

    let mut released = marked.clone();
    released["metadata"].as_object_mut().unwrap().remove("finalizers");
    fixture.put(&path, &released).await.expect(200);
    fixture.get(&path).await.expect(404);
}

#[tokio::test]
async fn propagation_becomes_finalizers() {
    let fixture = model().await;
    for (policy, finalizer) in [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")] {
        let path = format!("{MAPS}/{finalizer}").to_lowercase();
        let name = finalizer.to_lowercase();
        fixture.post(MAPS, &config_map(&name, &json!({}), &json!({}))).await.expect(201);
        let marked = fixture.delete_with(&path, &json!({"propagationPolicy": policy})).await.expect(200);
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
    }
    let refused = fixture.delete_with(&format!("{MAPS}/x"), &json!({"propagationPolicy": "Sideways"})).await;
    assert!(
        refused.refusal().contains("propagationPolicy: Unsupported value: \"Sideways\""),
        "{}",
        refused.refusal()
    );
}
