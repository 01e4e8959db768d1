//! Server-side apply and managed fields through the API: who owns what after which request, and what is refused.

use crate::support::{Answer, Fixture, config_map, model, version};
use http::Method;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

async fn apply(fixture: &Fixture, path: &str, query: &str, config: &Value) -> Answer {
    fixture.patch(&format!("{path}?{query}"), APPLY, config).await
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

/// `manager operation version subresource fields`, in the order of the entries.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or("-").to_owned();
    entries
        .iter()
        .map(|entry| {
            assert_eq!(entry["fieldsType"], "FieldsV1");
            let words = ["manager", "operation", "apiVersion", "subresource"].map(|name| text(entry, name));
            format!("{} {}", words.join(" "), entry["fieldsV1"])
        })
        .collect()
}

#[tokio::test]
async fn every_write_tells_who_set_what() {
    let fixture = model().await;
    let headers = [("content-type", "application/json"), ("user-agent", "tool/v1.2 (linux)")];
    let body = config_map("m", &json!({"a": "b"}), &json!({"k": "1"})).to_string();
    let created = fixture.with_headers(Method::POST, MAPS, &headers, body).await.expect(201);
    assert_eq!(
        owners(&created),
        [r#"tool Update v1 - {"f:data":{".":{},"f:k":{}},"f:metadata":{"f:labels":{".":{},"f:a":{}}}}"#]
    );
    assert!(created["metadata"]["managedFields"][0]["time"].is_string());
    let path = format!("{MAPS}/m");
    let patched = fixture
        .patch(&format!("{path}?fieldManager=p"), MERGE, &json!({"data": {"k": "2", "l": "3"}}))
        .await
        .expect(200);
    assert_eq!(owners(&patched)[0], r#"p Update v1 - {"f:data":{"f:k":{},"f:l":{}}}"#);
    let mut object = patched;
    object["data"] = json!({"l": "3"});
    let put = fixture.put(&format!("{path}?fieldManager=q"), &object).await.expect(200);
    assert_eq!(owners(&put).len(), 2, "{:?}", owners(&put));
    let nobody = fixture.post(MAPS, &config_map("n", &json!({}), &json!({"k": "1"}))).await.expect(201);
    assert_eq!(owners(&nobody), [r#"unknown Update v1 - {"f:data":{".":{},"f:k":{}}}"#]);
    let listed = fixture.get(MAPS).await.expect(200);
    assert_eq!(listed["items"][0]["metadata"]["managedFields"], put["metadata"]["managedFields"]);
}

#[tokio::test]
async fn an_apply_creates_changes_and_then_writes_nothing() {
    let fixture = model().await;
    let path = format!("{MAPS}/m");
    let config = map(json!({"k": "1"}));
    let tried = apply(&fixture, &path, "fieldManager=me&dryRun=All", &config).await.expect(201);
    assert_eq!(tried["data"], json!({"k": "1"}));
    assert_eq!(fixture.get(&path).await.code.as_u16(), 404);
    let created = apply(&fixture, &path, "fieldManager=me", &config).await.expect(201);
    assert_eq!(owners(&created), [r#"me Apply v1 - {"f:data":{"f:k":{}}}"#]);
    assert_eq!(created["metadata"]["namespace"], "default");
    let same = apply(&fixture, &path, "fieldManager=me", &config).await.expect(200);
    assert_eq!(same, created, "an apply that changes nothing writes nothing");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  k: '2'\n  yes: 'no'\n";
    let headers = [("content-type", APPLY)];
    let changed = fixture
        .with_headers(Method::PATCH, &format!("{path}?fieldManager=me"), &headers, yaml)
        .await
        .expect(200);
    assert_eq!(changed["data"], json!({"k": "2", "true": "no"}));
    let removed = apply(&fixture, &path, "fieldManager=me", &map(json!({"k": "2"}))).await.expect(200);
    assert_eq!(removed["data"], json!({"k": "2"}));
    let shared = apply(&fixture, &path, "fieldManager=you", &map(json!({"k": "2"}))).await.expect(200);
    assert_ne!(version(&shared), version(&removed), "a new owner is a change");
    assert_eq!(owners(&shared).len(), 2);
}

#[tokio::test]
async fn an_update_that_changes_nothing_moves_no_times() {
    let fixture = model().await;
    let path = format!("{MAPS}/m");
    let created = apply(&fixture, &path, "fieldManager=me", &map(json!({"k": "1"}))).await.expect(201);
    let put = fixture.put(&path, &created).await.expect(200);
    assert_eq!(put, created);
    let mut without = created.clone();
    without["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(
        fixture.put(&path, &without).await.expect(200),
        created,
        "clients need not know managed fields"
    );
    let patched = fixture.patch(&path, MERGE, &json!({"data": {"k": "1"}})).await.expect(200);
    assert_eq!(patched, created);
}

#[tokio::test]
async fn conflicts_name_the_owners() {
    let fixture = model().await;
    let path = format!("{MAPS}/m");
    fixture
        .post(&format!("{MAPS}?fieldManager=cli"), &config_map("m", &json!({}), &json!({"k": "1", "l": "1"})))
        .await
        .expect(201);
    let refused = apply(&fixture, &path, "fieldManager=me", &map(json!({"k": "2"}))).await;
    assert_eq!(
        refused.refusal(),
        "409 Apply failed with 1 conflict: conflict with \"cli\" using v1: .data.k"
    );
    let refused =
        apply(&fixture, &path, "fieldManager=me&force=false", &map(json!({"k": "2", "l": "2"}))).await;
    let status = refused.json();
    assert_eq!(
        status["message"],
        "Apply failed with 2 conflicts: conflicts with \"cli\" using v1:\n- .data.k\n- .data.l"
    );
    assert_eq!(status["reason"], "Conflict");
    assert_eq!(
        status["details"]["causes"][1],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"cli\" using v1", "field": ".data.l"})
    );
    let forced =
        apply(&fixture, &path, "fieldManager=me&force=true", &map(json!({"k": "2"}))).await.expect(200);
    assert_eq!(forced["data"], json!({"k": "2", "l": "1"}));
    assert_eq!(
        owners(&forced),
        [r#"me Apply v1 - {"f:data":{"f:k":{}}}"#, r#"cli Update v1 - {"f:data":{".":{},"f:l":{}}}"#]
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let fixture = model().await;
    let path = format!("{MAPS}/m");
    let config = map(json!({"k": "1"}));
    let with = |change: Value| {
        let mut config = config.clone();
        nauplius_meta::patch::merge::apply(&mut config, change);
        config
    };
    for (query, body, expected) in [
        (
            "",
            config.clone(),
            "422 PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            "fieldManager=me",
            json!([]),
            "400 error decoding YAML: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        ("fieldManager=me", json!({}), "400 invalid object type: /, Kind="),
        ("fieldManager=me", with(json!({"kind": "Secret"})), "400 invalid object type: /v1, Kind=Secret"),
        (
            "fieldManager=me",
            with(json!({"metadata": {"name": "x"}})),
            "400 the name of the object (x) does not match the name on the URL (m)",
        ),
        (
            "fieldManager=me",
            with(json!({"metadata": {"namespace": "other"}})),
            "400 the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "fieldManager=me",
            with(json!({"metadata": {"managedFields": [{}]}})),
            "400 metadata.managedFields must be nil",
        ),
        (
            "fieldManager=me",
            with(json!({"metadata": {"uid": "u"}})),
            "409 Operation cannot be fulfilled on configmaps \"m\": uid mismatch: the provided object specified uid u, and no existing object was found",
        ),
        (
            "fieldManager=me",
            with(json!({"nope": 1})),
            "500 failed to create typed patch object (/m; /v1, Kind=ConfigMap): .nope: field not declared in schema",
        ),
        (
            "fieldManager=me",
            with(json!({"data": {"k": 1}})),
            "500 failed to create typed patch object (/m; /v1, Kind=ConfigMap): .data.k: expected string, got &value.valueUnstructured{Value:1}",
        ),
    ] {
        assert_eq!(apply(&fixture, &path, query, &body).await.refusal(), expected, "{body}");
    }
    let status = format!("{DEPLOYMENTS}/none/status");
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "none"}});
    let missing = apply(&fixture, &status, "fieldManager=me", &config).await;
    assert_eq!(missing.refusal(), "404 deployments.apps \"none\" not found");
    let forced = fixture.patch(&format!("{path}?force=true"), MERGE, &json!({})).await;
    assert!(forced.refusal().contains("force: Forbidden: may not be specified for non-apply patch"));
}

#[tokio::test]
async fn versions_and_duplicates_are_checked() {
    let fixture = model().await;
    let path = format!("{MAPS}/m");
    let created = apply(&fixture, &path, "fieldManager=me", &map(json!({"k": "1"}))).await.expect(201);
    let mut stale = map(json!({"k": "2"}));
    stale["metadata"]["resourceVersion"] = "1".into();
    let refused = apply(&fixture, &path, "fieldManager=me", &stale).await;
    assert_eq!(refused.code.as_u16(), 409);
    assert!(refused.refusal().contains("the object has been modified"), "{}", refused.refusal());
    stale["metadata"]["resourceVersion"] = version(&created).into();
    apply(&fixture, &path, "fieldManager=me", &stale).await.expect(200);

    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata:\n  k: '2'\n  k: '3'\n";
    let headers = [("content-type", APPLY)];
    let query = |validation: &str| format!("{path}?fieldManager=me&fieldValidation={validation}");
    let strict = fixture.with_headers(Method::PATCH, &query("Strict"), &headers, twice).await;
    assert_eq!(
        strict.refusal(),
        "400 error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \"k\" already set in map"
    );
    let warned = fixture.with_headers(Method::PATCH, &query("Warn"), &headers, twice).await;
    assert_eq!(warned.headers["warning"], "299 - \"line 6: key \\\"k\\\" already set in map\"");
    assert_eq!(warned.expect(200)["data"]["k"], "3");

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
        "ports": [{"port": 80, "name": "a"}, {"port": 80, "protocol": "TCP", "name": "b"}]}});
    let refused = apply(&fixture, "/api/v1/namespaces/default/services/s", "fieldManager=me", &service).await;
    assert_eq!(
        refused.refusal(),
        "500 failed to create typed patch object (/s; /v1, Kind=Service): .spec.ports: duplicate entries for key \
         [port=80,protocol=\"TCP\"]"
    );
}

fn deployment(spec: Value) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c", "image": "c:1", "ports": [{"containerPort": 80}]}]}}}});
    nauplius_meta::patch::merge::apply(&mut object["spec"], spec);
    object
}

#[tokio::test]
async fn what_is_filled_in_belongs_to_nobody() {
    let fixture = model().await;
    let path = format!("{DEPLOYMENTS}/d");
    let created = apply(&fixture, &path, "fieldManager=me", &deployment(json!({}))).await.expect(201);
    assert_eq!(created["spec"]["replicas"], 1);
    assert_eq!(
        owners(&created),
        [concat!(
            r#"me Apply apps/v1 - {"f:spec":{"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"#,
            r#""f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"#,
            r#""f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}"#
        )]
    );
    // Nobody owns the default, so another may set it.
    let scaled = apply(
        &fixture,
        &path,
        "fieldManager=you",
        &json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d"}, "spec": {"replicas": 3}}),
    )
    .await
    .expect(200);
    assert_eq!(scaled["spec"]["replicas"], 3);
    assert_eq!(scaled["metadata"]["generation"], 2);
    let again = apply(&fixture, &path, "fieldManager=me", &deployment(json!({}))).await.expect(200);
    assert_eq!(again, scaled);
}

#[tokio::test]
async fn status_has_managers_of_its_own() {
    let fixture = model().await;
    let path = format!("{DEPLOYMENTS}/d");
    let mut config = deployment(json!({}));
    config["status"] = json!({"replicas": 9});
    let created = apply(&fixture, &path, "fieldManager=me", &config).await.expect(201);
    assert_eq!(created["status"], json!({}), "the object itself does not take a status");
    assert!(!owners(&created)[0].contains("f:status"));
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"x": "y"}},
        "spec": {"replicas": 7}, "status": {"replicas": 2, "conditions": [{"type": "Available", "status": "True"}]}});
    let applied = apply(&fixture, &format!("{path}/status"), "fieldManager=me", &status).await.expect(200);
    assert_eq!(applied["spec"]["replicas"], 1);
    assert_eq!(applied["status"]["replicas"], 2);
    assert_eq!(
        owners(&applied)[1],
        concat!(
            r#"me Apply apps/v1 status {"f:status":{"f:conditions":{"k:{\"type\":\"Available\"}":{".":{},"#,
            r#""f:status":{},"f:type":{}}},"f:replicas":{}}}"#
        )
    );
    let mut changed = applied.clone();
    changed["status"]["replicas"] = 3.into();
    changed["metadata"]["managedFields"] = json!([]);
    let put = fixture.put(&format!("{path}/status?fieldManager=controller"), &changed).await.expect(200);
    let owners = owners(&put);
    assert_eq!(owners.len(), 3, "a subresource takes no managed fields from the request: {owners:?}");
    assert_eq!(owners[2], r#"controller Update apps/v1 status {"f:status":{"f:replicas":{}}}"#);
}

#[tokio::test]
async fn a_scale_moves_the_replicas_to_who_scaled() {
    let fixture = model().await;
    let path = format!("{DEPLOYMENTS}/d");
    apply(&fixture, &path, "fieldManager=me", &deployment(json!({"replicas": 2}))).await.expect(201);
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 5}});
    let refused = apply(&fixture, &format!("{path}/scale"), "fieldManager=hpa", &scale).await;
    assert_eq!(refused.refusal(), "409 Apply failed with 1 conflict: conflict with \"me\": .spec.replicas");
    let scaled =
        apply(&fixture, &format!("{path}/scale"), "fieldManager=hpa&force=true", &scale).await.expect(200);
    assert_eq!(scaled["kind"], "Scale");
    assert_eq!(scaled["metadata"].get("managedFields"), None);
    let object = fixture.get(&path).await.expect(200);
    assert_eq!(object["spec"]["replicas"], 5);
    let entries = owners(&object);
    assert_eq!(entries[0], r#"hpa Apply apps/v1 scale {"f:spec":{"f:replicas":{}}}"#);
    assert!(!entries[1].contains("f:replicas"), "{entries:?}");
    fixture
        .patch(&format!("{path}/scale?fieldManager=cli"), MERGE, &json!({"spec": {"replicas": 6}}))
        .await
        .expect(200);
    let entries = owners(&fixture.get(&path).await.expect(200));
    assert_eq!(entries.last().unwrap(), r#"cli Update apps/v1 scale {"f:spec":{"f:replicas":{}}}"#);
    assert_eq!(entries.len(), 2, "{entries:?}");
    let refused = apply(&fixture, &path, "fieldManager=me", &deployment(json!({"replicas": 2}))).await;
    assert_eq!(
        refused.refusal(),
        "409 Apply failed with 1 conflict: conflict with \"cli\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
}

#[tokio::test]
async fn clients_may_forget_the_owners() {
    let fixture = model().await;
    let path = format!("{MAPS}/m");
    for reset in [json!([]), json!([{}])] {
        apply(&fixture, &path, "fieldManager=me&force=true", &map(json!({"k": "1"}))).await;
        let patched =
            fixture.patch(&path, MERGE, &json!({"metadata": {"managedFields": reset}})).await.expect(200);
        assert_eq!(patched["metadata"].get("managedFields"), None);
        let mut object = fixture.get(&path).await.expect(200);
        object["data"]["l"] = "2".into();
        let put = fixture.put(&path, &object).await.expect(200);
        assert_eq!(owners(&put), [] as [String; 0]);
        let applied = apply(&fixture, &path, "fieldManager=me", &map(json!({"n": "1"}))).await.expect(200);
        assert_eq!(owners(&applied)[0], r#"me Apply v1 - {"f:data":{"f:n":{}}}"#);
        assert!(owners(&applied)[1].starts_with("before-first-apply Update v1 - "), "{:?}", owners(&applied));
        let mut object = applied;
        object["metadata"]["managedFields"] = reset;
        assert_eq!(owners(&fixture.put(&path, &object).await.expect(200)), [] as [String; 0]);
        fixture.delete(&path).await.expect(200);
    }
    let mut tracked = map(json!({"k": "1"}));
    tracked["metadata"]["managedFields"] = json!([]);
    assert_eq!(owners(&fixture.post(MAPS, &tracked).await.expect(201)).len(), 1);
}

#[tokio::test]
async fn broken_entries_do_not_stick() {
    let fixture = model().await;
    let path = format!("{MAPS}/m");
    let created = apply(&fixture, &path, "fieldManager=me", &map(json!({"k": "1"}))).await.expect(201);
    for broken in [
        json!([{"manager": "x", "operation": "Delete", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]),
        json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"k": {}}}]),
    ] {
        let mut object = created.clone();
        object["metadata"]["managedFields"] = broken;
        assert_eq!(fixture.put(&path, &object).await.expect(200), created);
    }
    let mut object = created.clone();
    object["metadata"]["managedFields"][0]["manager"] = "other".into();
    assert_eq!(
        owners(&fixture.put(&path, &object).await.expect(200)),
        [r#"other Apply v1 - {"f:data":{"f:k":{}}}"#]
    );
}

#[tokio::test]
async fn client_side_apply_hands_over() {
    let fixture = model().await;
    let path = format!("{MAPS}/m");
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let mut object = map(json!({"k": "1", "l": "1"}));
    object["metadata"]["annotations"] = json!({annotation: object.to_string()});
    fixture.post(&format!("{MAPS}?fieldManager=kubectl-client-side-apply"), &object).await.expect(201);
    let next = map(json!({"k": "2", "l": "1"}));
    let refused = apply(&fixture, &path, "fieldManager=other", &next).await;
    assert_eq!(refused.code.as_u16(), 409);
    let applied = apply(&fixture, &path, "fieldManager=kubectl", &next).await.expect(200);
    assert_eq!(applied["data"]["k"], "2");
    let expected = format!("{next}\n");
    assert_eq!(applied["metadata"]["annotations"][annotation], expected.as_str());
}

#[tokio::test]
async fn an_event_has_owners_in_both_of_its_versions() {
    let fixture = model().await;
    let events = "/api/v1/namespaces/default/events";
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"namespace": "default",
        "kind": "Pod", "name": "p"}, "reason": "Why", "message": "text", "type": "Normal", "source": {"component": "c"}});
    let created = fixture.post(&format!("{events}?fieldManager=c"), &event).await.expect(201);
    assert!(owners(&created)[0].contains("\"f:reason\":{}"), "{:?}", owners(&created));
    let shown = fixture.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.expect(200);
    assert_eq!(shown["metadata"]["managedFields"], created["metadata"]["managedFields"]);
}

#[tokio::test]
async fn concurrent_appliers_all_count() {
    let fixture = crate::support::embedded().await;
    let path = format!("{MAPS}/m");
    let configs: Vec<Value> = (0..20).map(|n| map(json!({format!("k{n}"): "1"}))).collect();
    let queries: Vec<String> = (0..20).map(|n| format!("fieldManager=m{n}")).collect();
    let applies = configs.iter().zip(&queries).map(|(config, query)| apply(&fixture, &path, query, config));
    for answer in futures_util::future::join_all(applies).await {
        assert!(answer.code.is_success(), "{}", answer.refusal());
    }
    let object = fixture.get(&path).await.expect(200);
    assert_eq!(object["data"].as_object().unwrap().len(), 20);
    assert_eq!(owners(&object).len(), 20, "only updates are folded together");
}

const WIDGETS: &str = "/apis/x.example.com/v1/widgets";

async fn widgets() -> Fixture {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "replicas": {"type": "integer", "default": 1},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "plain": {"type": "array", "items": {"type": "string"}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "required": ["port", "protocol"], "properties": {"port": {"type": "integer"},
                    "protocol": {"type": "string", "default": "TCP"}, "name": {"type": "string"}}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}})
    };
    let fixture = model().await;
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.x.example.com"}, "spec": {"group": "x.example.com", "scope": "Cluster",
            "names": {"plural": "widgets", "kind": "Widget"}, "versions": [version("v1", true), version("v2", false)]}});
    crate::custom_resources::define(&fixture, &definition).await;
    fixture
}

fn widget(version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("x.example.com/{version}"), "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})
}

#[tokio::test]
async fn custom_resources_are_applied_by_their_schema() {
    let fixture = widgets().await;
    let path = format!("{WIDGETS}/w");
    let one = widget(
        "v1",
        json!({"tags": ["a"], "plain": ["p"], "ports": [{"port": 80, "protocol": "TCP"}], "free": {"x": {"y": 1}}}),
    );
    let created = apply(&fixture, &path, "fieldManager=one", &one).await.expect(201);
    assert_eq!(created["spec"]["replicas"], 1);
    assert_eq!(
        owners(&created),
        [concat!(
            r#"one Apply x.example.com/v1 - {"f:spec":{"f:free":{"f:x":{".":{},"f:y":{}}},"f:plain":{},"#,
            r#""f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:protocol":{}}},"f:tags":{"v:\"a\"":{}}}}"#
        )]
    );
    let two = widget("v1", json!({"tags": ["b"], "ports": [{"port": 80, "protocol": "TCP", "name": "web"}]}));
    let merged = apply(&fixture, &path, "fieldManager=two", &two).await.expect(200);
    assert_eq!(merged["spec"]["tags"], json!(["a", "b"]));
    assert_eq!(merged["spec"]["ports"], json!([{"port": 80, "protocol": "TCP", "name": "web"}]));
    let plain = widget("v1", json!({"plain": ["q"]}));
    assert_eq!(
        apply(&fixture, &path, "fieldManager=two", &plain).await.refusal(),
        "409 Apply failed with 1 conflict: conflict with \"one\": .spec.plain"
    );
    let unknown = widget("v1", json!({"nope": 1}));
    assert_eq!(
        apply(&fixture, &path, "fieldManager=two", &unknown).await.refusal(),
        "500 failed to create typed patch object (/w; x.example.com/v1, Kind=Widget): .spec.nope: field not declared in schema"
    );
    let same = apply(&fixture, &path, "fieldManager=one", &one).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], merged["metadata"]["resourceVersion"]);
    let patched = fixture.patch(&path, MERGE, &json!({"metadata": {"managedFields": []}})).await.expect(200);
    assert_eq!(owners(&patched), [] as [String; 0]);
}

#[tokio::test]
async fn custom_resources_keep_owners_of_other_versions() {
    let fixture = widgets().await;
    let (first, second) = (format!("{WIDGETS}/w"), "/apis/x.example.com/v2/widgets/w");
    apply(&fixture, &first, "fieldManager=one", &widget("v1", json!({"tags": ["a"], "plain": ["p"]})))
        .await
        .expect(201);
    let applied =
        apply(&fixture, second, "fieldManager=two", &widget("v2", json!({"tags": ["b"]}))).await.expect(200);
    assert_eq!(applied["apiVersion"], "x.example.com/v2");
    assert_eq!(
        owners(&applied),
        [
            r#"one Apply x.example.com/v1 - {"f:spec":{"f:plain":{},"f:tags":{"v:\"a\"":{}}}}"#,
            r#"two Apply x.example.com/v2 - {"f:spec":{"f:tags":{"v:\"b\"":{}}}}"#
        ]
    );
    assert_eq!(
        apply(&fixture, second, "fieldManager=two", &widget("v2", json!({"plain": ["q"]}))).await.refusal(),
        "409 Apply failed with 1 conflict: conflict with \"one\": .spec.plain"
    );
    // What a manager had in one version and has not in the other goes.
    let moved =
        apply(&fixture, second, "fieldManager=one", &widget("v2", json!({"plain": ["p"]}))).await.expect(200);
    assert_eq!(moved["spec"]["tags"], json!(["b"]));
}

#[tokio::test]
async fn custom_resources_have_owners_of_status_and_scale() {
    let fixture = widgets().await;
    let path = format!("{WIDGETS}/w");
    apply(&fixture, &path, "fieldManager=one", &widget("v1", json!({"replicas": 2}))).await.expect(201);
    let mut status = widget("v1", json!({}));
    status["status"] = json!({"replicas": 1});
    let applied = apply(&fixture, &format!("{path}/status"), "fieldManager=one", &status).await.expect(200);
    assert_eq!(owners(&applied)[1], r#"one Apply x.example.com/v1 status {"f:status":{"f:replicas":{}}}"#);
    let scale = json!({"spec": {"replicas": 4}});
    fixture.patch(&format!("{path}/scale?fieldManager=cli"), MERGE, &scale).await.expect(200);
    let object = fixture.get(&path).await.expect(200);
    assert_eq!(object["spec"]["replicas"], 4);
    let entries = owners(&object);
    assert_eq!(entries.last().unwrap(), r#"cli Update x.example.com/v1 scale {"f:spec":{"f:replicas":{}}}"#);
    assert_eq!(entries.len(), 2, "{entries:?}");
}
