//! What every verb takes besides its object: dry runs, options of deletions, resource versions and their match, pages, and the
//! shapes of tables.

use crate::secured::secured;
use crate::support::{Fixture, config_map, configured, model, version};
use http::Method;
use nauplius_apiserver::{Config, admission};
use nauplius_kinds::{RuntimeConfig, serving};
use serde_json::{Value, json};
use std::sync::Arc;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

async fn maps(fixture: &Fixture, names: &[&str]) {
    for name in names {
        let labels = json!({"even": (name.len() % 2 == 0).to_string()});
        fixture.post(MAPS, &config_map(name, &labels, &json!({"k": "v"}))).await.expect(201);
    }
}

async fn names(fixture: &Fixture) -> Vec<String> {
    let list = fixture.get(MAPS).await.expect(200);
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn dry_runs_of_every_verb_store_nothing() {
    let fixture = model().await;
    maps(&fixture, &["a"]).await;
    let before = fixture.get(MAPS).await.expect(200);
    let dry = |path: &str| format!("{path}?dryRun=All");
    let map = config_map("a", &json!({}), &json!({"k": "new"}));
    let put = fixture.put(&dry(&format!("{MAPS}/a")), &map).await.expect(200);
    assert_eq!(put["data"], json!({"k": "new"}));
    let patched =
        fixture.patch(&dry(&format!("{MAPS}/a")), MERGE, &json!({"data": {"x": "y"}})).await.expect(200);
    assert_eq!(patched["data"], json!({"k": "v", "x": "y"}));
    let applied =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"k": "v"}});
    let path = format!("{MAPS}/b?dryRun=All&fieldManager=m");
    assert_eq!(fixture.patch(&path, APPLY, &applied).await.expect(201)["data"], json!({"k": "v"}));
    fixture.delete(&dry(&format!("{MAPS}/a"))).await.expect(200);
    let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]});
    fixture.delete_with(&format!("{MAPS}/a"), &body).await.expect(200);
    let emptied = fixture.delete(&dry(MAPS)).await.expect(200);
    assert_eq!(emptied["items"][0]["metadata"]["name"], "a");
    let after = fixture.get(MAPS).await.expect(200);
    assert_eq!(after["items"], before["items"]);
    let refused = fixture.post(&format!("{MAPS}?dryRun=Some"), &map).await;
    assert_eq!(
        refused.refusal(),
        "422 CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""
    );
}

#[tokio::test]
async fn dry_runs_of_every_subresource_store_nothing() {
    let cluster = secured().await;
    let admin = cluster.admin();
    admin
        .post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}}))
        .await
        .expect(201);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i",
        "resources": {"requests": {"cpu": "1"}}}]}});
    admin.post(PODS, &pod).await.expect(201);
    let template = json!({"metadata": {"labels": {"app": "d"}}, "spec": pod["spec"]});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"app": "d"}}, "template": template}});
    admin.post(deployments, &deployment).await.expect(201);
    let before =
        (admin.get(&format!("{PODS}/p")).await.json(), admin.get(&format!("{deployments}/d")).await.json());
    let mut changed = before.0.clone();
    changed["status"]["phase"] = "Running".into();
    let written = admin.put(&format!("{PODS}/p/status?dryRun=All"), &changed).await.expect(200);
    assert_eq!(written["status"]["phase"], "Running");
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}});
    let path = format!("{PODS}/p/ephemeralcontainers?dryRun=All");
    let written = admin.patch(&path, MERGE, &debug).await.expect(200);
    assert_eq!(written["spec"]["ephemeralContainers"][0]["name"], "e");
    let sized = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}});
    let path = format!("{PODS}/p/resize?dryRun=All");
    let written = admin.patch(&path, "application/strategic-merge-patch+json", &sized).await.expect(200);
    assert_eq!(written["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    admin.post(&format!("{PODS}/p/binding?dryRun=All"), &binding).await.expect(201);
    let eviction = json!({"metadata": {"name": "p"}, "deleteOptions": {"dryRun": ["All"]}});
    admin.post(&format!("{PODS}/p/eviction"), &eviction).await.expect(201);
    let scaled = json!({"spec": {"replicas": 7}});
    let written = admin.patch(&format!("{deployments}/d/scale?dryRun=All"), MERGE, &scaled).await.expect(200);
    assert_eq!(written["spec"]["replicas"], 7);
    let after =
        (admin.get(&format!("{PODS}/p")).await.json(), admin.get(&format!("{deployments}/d")).await.json());
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_collection_is_deleted_by_its_options() {
    let fixture = model().await;
    maps(&fixture, &["a", "bb", "c", "dd"]).await;
    let deleted = fixture.delete(&format!("{MAPS}?labelSelector=even%3Dtrue")).await.expect(200);
    assert_eq!(deleted["kind"], "ConfigMapList");
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    assert_eq!(names(&fixture).await, ["a", "c"]);
    let preconditions = json!({"preconditions": {"uid": "none"}});
    let refused = fixture.delete_with(MAPS, &preconditions).await;
    assert_eq!(refused.code.as_u16(), 409, "{}", refused.refusal());
    assert_eq!(names(&fixture).await, ["a", "c"]);
    fixture
        .delete(&format!("{MAPS}?fieldSelector=metadata.name%3Da&propagationPolicy=Orphan"))
        .await
        .expect(200);
    let kept = fixture.get(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(kept["metadata"]["finalizers"], json!(["orphan"]));
    fixture.delete_with(MAPS, &json!({"kind": "DeleteOptions", "orphanDependents": false})).await.expect(200);
    let kept = fixture.get(&format!("{MAPS}/a")).await;
    // What was being orphaned is now deleted in the background, for the later options win.
    assert_eq!(kept.code.as_u16(), 404, "{}", kept.refusal());
    assert_eq!(names(&fixture).await, Vec::<String>::new());
}

#[tokio::test]
async fn deletions_keep_to_grace_and_preconditions() {
    let fixture = model().await;
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    fixture.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{PODS}/p");
    let going = fixture.delete(&path).await.expect(200);
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    let generation = going["metadata"]["generation"].as_i64().unwrap();
    let longer = fixture.delete(&format!("{path}?gracePeriodSeconds=60")).await.expect(200);
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30, "grace is never given back");
    let shorter = fixture.delete(&format!("{path}?gracePeriodSeconds=5")).await.expect(200);
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    assert_eq!(shorter["metadata"]["generation"].as_i64().unwrap(), generation);
    fixture.delete(&format!("{path}?gracePeriodSeconds=0")).await.expect(200);
    fixture.get(&path).await.expect(404);

    maps(&fixture, &["a"]).await;
    let a = fixture.get(&format!("{MAPS}/a")).await.expect(200);
    let both = json!({"preconditions": {"uid": a["metadata"]["uid"], "resourceVersion": version(&a)}});
    let gone = fixture.delete_with(&format!("{MAPS}/a"), &both).await.expect(200);
    assert_eq!(
        (&gone["kind"], &gone["status"], &gone["details"]["uid"]),
        (&json!("Status"), &json!("Success"), &a["metadata"]["uid"])
    );
}

#[tokio::test]
async fn every_version_and_match_lists_what_it_says() {
    let fixture = model().await;
    maps(&fixture, &["a", "b", "c"]).await;
    let old = fixture.get(MAPS).await.expect(200);
    let old = version(&old).to_owned();
    maps(&fixture, &["d"]).await;
    fixture.get(&format!("{MAPS}/d")).await.expect(200);
    let check = async |query: String, expected: usize, exact: bool| {
        let list = fixture.get(&format!("{MAPS}?{query}")).await.expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), expected, "{query}");
        assert_eq!(version(&list) == old, exact, "{query}");
    };
    check(String::new(), 4, false).await;
    check("resourceVersion=0".to_owned(), 4, false).await;
    check("resourceVersion=0&resourceVersionMatch=NotOlderThan".to_owned(), 4, false).await;
    check(format!("resourceVersion={old}"), 4, false).await;
    check(format!("resourceVersion={old}&resourceVersionMatch=NotOlderThan"), 4, false).await;
    check(format!("resourceVersion={old}&resourceVersionMatch=Exact"), 3, true).await;
    check(format!("resourceVersion={old}&limit=2"), 2, true).await;
    check(format!("resourceVersion={old}&limit=2&resourceVersionMatch=Exact"), 2, true).await;
    check(format!("resourceVersion={old}&limit=2&resourceVersionMatch=NotOlderThan"), 2, false).await;
    check("resourceVersion=0&limit=2&resourceVersionMatch=NotOlderThan".to_owned(), 4, false).await;
    check("resourceVersion=0&limit=2".to_owned(), 4, false).await;
    let first = fixture.get(&format!("{MAPS}?limit=2&resourceVersion={old}")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    check(format!("limit=2&continue={token}"), 1, true).await;
    // Zero is no version of its own beside a token.
    check(format!("limit=2&continue={token}&resourceVersion=0"), 1, true).await;
    let store = fixture.server.caches().store();
    store.compact(store.revision().await.unwrap()).await.unwrap();
    let gone = fixture.get(&format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact")).await;
    assert_eq!(gone.refusal(), "410 The resourceVersion for the provided list is too old.");
}

#[tokio::test]
async fn a_watch_may_be_over_before_it_began() {
    let fixture = model().await;
    maps(&fixture, &["a"]).await;
    let mut events = fixture.watch(&format!("{MAPS}?watch=1&timeoutSeconds=-1&resourceVersion=0")).await;
    let mut last = events.line().await;
    if last.starts_with("ADDED a@") {
        last = events.line().await;
    }
    assert_eq!(last, "END");
}

#[tokio::test]
async fn tables_carry_what_is_asked_for() {
    let fixture = model().await;
    maps(&fixture, &["a", "b"]).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let get =
        async |query: &str| fixture.with_headers(Method::GET, &format!("{MAPS}{query}"), &accept, "").await;
    let kind = |table: &Value| table["rows"][0]["object"]["kind"].clone();
    assert_eq!(kind(&get("").await.expect(200)), "PartialObjectMetadata");
    assert_eq!(kind(&get("?includeObject=Metadata").await.expect(200)), "PartialObjectMetadata");
    assert_eq!(kind(&get("?includeObject=Object").await.expect(200)), "ConfigMap");
    assert_eq!(kind(&get("?includeObject=None").await.expect(200)), Value::Null);
    assert_eq!(get("?includeObject=All").await.code.as_u16(), 400);
    let page = get("?limit=1").await.expect(200);
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    let watched = get("?watch=1&timeoutSeconds=1&resourceVersion=0").await;
    let text = String::from_utf8_lossy(&watched.bytes).into_owned();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2);
    // The columns come once.
    assert_eq!(events[0]["object"]["columnDefinitions"][0]["name"], "Name");
    assert!(events[1]["object"]["columnDefinitions"].as_array().is_none_or(Vec::is_empty), "{}", events[1]);
    assert_eq!(events[1]["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test]
async fn a_status_and_a_scale_come_as_tables() {
    let fixture = model().await;
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"metadata": {"name": "d"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    fixture.post(path, &deployment).await.expect(201);
    let get = async |subresource: &str, shape: &str| {
        let accept = format!("application/json;as={shape};v=v1;g=meta.k8s.io");
        let path = format!("{path}/d/{subresource}");
        fixture.with_headers(Method::GET, &path, &[("accept", accept.as_str())], "").await
    };
    let status = get("status", "Table").await.expect(200);
    assert_eq!(status["rows"][0]["cells"][1], "0/3");
    let scale = get("scale", "Table").await.expect(200);
    let columns = scale["columnDefinitions"].as_array().unwrap();
    let names: Vec<&str> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(scale["rows"][0]["cells"].as_array().unwrap()[..3], [json!("d"), json!(3), json!(0)]);
    assert_eq!(scale["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let metadata = get("scale", "PartialObjectMetadata").await.expect(200);
    assert_eq!(
        (&metadata["kind"], &metadata["metadata"]["name"]),
        (&json!("PartialObjectMetadata"), &json!("d"))
    );
    assert_eq!(get("scale", "PartialObjectMetadataList").await.code.as_u16(), 406);
}

#[tokio::test]
async fn limits_hold_for_what_is_resized() {
    let cluster = secured().await;
    let admin = cluster.admin();
    let account = json!({"metadata": {"name": "default"}});
    admin.post("/api/v1/namespaces/default/serviceaccounts", &account).await.expect(201);
    let range =
        json!({"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}});
    admin.post("/api/v1/namespaces/default/limitranges", &range).await.expect(201);
    let sized = |cpu: &str| json!({"limits": {"cpu": cpu}, "requests": {"cpu": cpu}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": sized("1")}]}});
    admin.post(PODS, &pod).await.expect(201);
    let resize = async |cpu: &str| {
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": sized(cpu)}]}});
        let path = format!("{PODS}/p/resize");
        admin.patch(&path, "application/strategic-merge-patch+json", &patch).await
    };
    assert_eq!(
        resize("3").await.refusal(),
        "403 pods \"p\" is forbidden: maximum cpu usage per Container is 2, but limit is 3"
    );
    resize("2").await.expect(200);
}

#[tokio::test]
async fn a_new_node_is_tainted_until_it_is_seen() {
    let cluster = secured().await;
    let admin = cluster.admin();
    let node = admin.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.expect(201);
    assert_eq!(
        node["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
}

#[tokio::test]
async fn pod_groups_come_from_workloads_that_are_there() {
    let fixture = configured(|config| {
        let kinds = serving(&RuntimeConfig::parse("scheduling.k8s.io/v1beta1=true").unwrap());
        *config = Config::new(Arc::clone(&config.store), kinds, Arc::clone(&config.authorizer));
        config.admission = admission::Chain::standard(&config.caches, &config.authorizer);
    })
    .await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await.expect(201);
    let class = json!({"metadata": {"name": "high"}, "value": 9});
    fixture.post("/apis/scheduling.k8s.io/v1/priorityclasses", &class).await.expect(201);
    let path = |plural: &str| format!("/apis/scheduling.k8s.io/v1beta1/namespaces/default/{plural}");
    let group = |template: &str| {
        json!({"metadata": {"name": "g"}, "spec": {
            "schedulingPolicy": {"gang": {"minCount": 2}}, "priorityClassName": "high",
            "workloadRef": {"workloadName": "w", "templateName": template},
        }})
    };
    let refused = "403 podgroups.scheduling.k8s.io \"g\" is forbidden: PodGroup rejected: ";
    let missing = fixture.post(&path("podgroups"), &group("t")).await;
    assert_eq!(missing.refusal(), format!("{refused}Workload \"w\" not found"));
    let workload = json!({"metadata": {"name": "w"}, "spec": {
        "podGroupTemplates": [{"name": "t", "schedulingPolicy": {"gang": {"minCount": 2}}}]}});
    fixture.post(&path("workloads"), &workload).await.expect(201);
    let missing = fixture.post(&path("podgroups"), &group("u")).await;
    assert_eq!(missing.refusal(), format!("{refused}PodGroupTemplate \"u\" not found in Workload \"w\""));
    let mut dear = group("t");
    dear["spec"]["priority"] = 8.into();
    let dear = fixture.post(&path("podgroups"), &dear).await;
    assert!(
        dear.refusal().contains("the integer value of priority (8) must not be provided"),
        "{}",
        dear.refusal()
    );
    let made = fixture.post(&path("podgroups"), &group("t")).await.expect(201);
    assert_eq!(
        (&made["spec"]["priority"], &made["spec"]["disruptionMode"]),
        (&json!(9), &json!({"single": {}}))
    );
    let more = json!({"spec": {"schedulingPolicy": {"gang": {"minCount": 3}}}});
    fixture.patch(&format!("{}/g", path("podgroups")), MERGE, &more).await.expect(200);
    let status = json!({"status": {"conditions": [{"type": "PodGroupInitiallyScheduled", "status": "True",
        "reason": "Scheduled", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let written = fixture.patch(&format!("{}/g/status", path("podgroups")), MERGE, &status).await.expect(200);
    assert_eq!(written["status"]["conditions"][0]["reason"], "Scheduled");
}
