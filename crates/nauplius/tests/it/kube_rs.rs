//! The `kube` crate on a real cluster, over TLS, with the kubeconfig that `up` has written.

use crate::cluster::Cluster;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event as CoreEvent, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, AttachParams, DeleteParams, EvictParams, ListParams, LogParams, Patch, PatchParams, PostParams,
    Preconditions,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Config, CustomResource, CustomResourceExt, Resource, ResourceExt};
use nauplius_base::{task, time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(60);

/// A client that reads the kubeconfig as any program would.
pub async fn connect(cluster: &Cluster) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// A pod of the demo image, ready once it serves.
pub fn demo_pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "demo"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "demo",
                "image": "nauplius.local/demo:1",
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
            }],
        },
    }))
    .unwrap()
}

fn config_map(name: &str, data: &serde_json::Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap()
}

fn status_of(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason),
        other => panic!("no answer of the API: {other}"),
    }
}

async fn patches(pods: &Api<Pod>) {
    let by_merge = Patch::Merge(json!({"metadata": {"labels": {"tier": "one"}}}));
    let patched = pods.patch("demo", &PatchParams::default(), &by_merge).await.unwrap();
    assert_eq!(patched.labels()["tier"], "one");

    // The list is merged by container name: a merge patch would have taken the other fields away.
    let containers = json!([{"name": "demo", "image": "nauplius.local/demo:1"}]);
    let by_strategy = Patch::Strategic(
        json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"containers": containers, "activeDeadlineSeconds": 3600}}),
    );
    let patched = pods.patch("demo", &PatchParams::default(), &by_strategy).await.unwrap();
    let spec = patched.spec.as_ref().unwrap();
    assert_eq!(spec.active_deadline_seconds, Some(3600));
    assert_eq!(spec.containers[0].volume_mounts.as_ref().map(Vec::len), Some(1), "{spec:?}");

    let operations = json!([
        {"op": "test", "path": "/metadata/labels/tier", "value": "one"},
        {"op": "remove", "path": "/metadata/labels/tier"},
    ]);
    let by_json = Patch::Json::<()>(serde_json::from_value(operations).unwrap());
    let patched = pods.patch("demo", &PatchParams::default(), &by_json).await.unwrap();
    assert!(!patched.labels().contains_key("tier"));
    let refused = pods.patch("demo", &PatchParams::default(), &by_json).await.unwrap_err();
    assert_eq!(status_of(refused), (422, "Invalid".to_owned()));
}

async fn streams(pods: &Api<Pod>) {
    let log = pods.logs("demo", &LogParams { tail_lines: Some(1), ..LogParams::default() }).await.unwrap();
    assert!(log.starts_with("demo: pod demo on node"), "{log}");

    let both = AttachParams::default().stdin(true).stderr(true);
    let command = ["sh", "-c", "read word; echo got $word; echo oops >&2; exit 3"];
    let mut running = pods.exec("demo", command, &both).await.unwrap();
    running.stdin().unwrap().write_all(b"it\n").await.unwrap();
    let status = running.take_status().unwrap();
    let (mut out, mut error) = (String::new(), String::new());
    let mut stdout = running.stdout().unwrap();
    let mut stderr = running.stderr().unwrap();
    in_time("output", async {
        stdout.read_to_string(&mut out).await.and(stderr.read_to_string(&mut error).await)
    })
    .await
    .unwrap();
    assert_eq!((out.as_str(), error.as_str()), ("got it\n", "oops\n"));
    let status = in_time("the exit code", status).await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"), "{status:?}");
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    assert_eq!(causes[0].message.as_deref(), Some("3"));

    let mut forwarded = pods.portforward("demo", &[8080]).await.unwrap();
    let mut connection = forwarded.take_stream(8080).unwrap();
    connection.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    in_time("an answer", connection.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The recorder writes `events.k8s.io` events; they are read as core ones, as `kubectl describe` does.
async fn events(client: &Client, pod: &Pod) {
    let reporter = Reporter { controller: "test".to_owned(), instance: Some("one".to_owned()) };
    let recorder = Recorder::new(client.clone(), reporter);
    let event = Event {
        type_: EventType::Normal,
        reason: "Seen".to_owned(),
        note: Some("a test saw it".to_owned()),
        action: "Looking".to_owned(),
        secondary: None,
    };
    for _ in 0..2 {
        recorder.publish(&event, &pod.object_ref(&())).await.unwrap();
    }
    let events: Api<CoreEvent> = Api::default_namespaced(client.clone());
    let selector = "involvedObject.name=demo,reason=Seen";
    let found = events.list(&ListParams::default().fields(selector)).await.unwrap();
    assert_eq!(found.items.len(), 1, "{found:?}");
    let found = &found.items[0];
    assert_eq!(found.message.as_deref(), Some("a test saw it"));
    assert_eq!(found.reporting_component.as_deref(), Some("test"));
    assert_eq!(found.series.as_ref().and_then(|series| series.count), Some(2));
}

async fn deletions(pods: &Api<Pod>) {
    let uid = pods.get("demo").await.unwrap().uid().unwrap();
    let only = |uid: &str| {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        DeleteParams::default().preconditions(preconditions)
    };
    let refused = pods.delete("demo", &only("another")).await.unwrap_err();
    assert_eq!(status_of(refused), (409, "Conflict".to_owned()));
    let answer = pods.delete("demo", &only(&uid)).await.unwrap();
    let terminating = answer.left().expect("a pod that runs is first marked");
    assert!(terminating.meta().deletion_timestamp.is_some());
    let gone = await_condition(pods.clone(), "demo", conditions::is_deleted(&uid));
    in_time("the pod to be gone", gone).await.unwrap();
    assert_eq!(status_of(pods.get("demo").await.unwrap_err()), (404, "NotFound".to_owned()));
}

#[tokio::test]
async fn a_pod_from_its_creation_to_its_deletion() {
    let cluster = Cluster::up();
    let client = connect(&cluster).await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let made = pods.create(&PostParams::default(), &demo_pod("demo")).await.unwrap();
    let again = pods.create(&PostParams::default(), &demo_pod("demo")).await.unwrap_err();
    assert_eq!(status_of(again), (409, "AlreadyExists".to_owned()));
    let running = await_condition(pods.clone(), "demo", is_ready);
    let running = in_time("the pod to be ready", running).await.unwrap().unwrap();
    assert_eq!(running.uid(), made.uid());
    patches(&pods).await;
    streams(&pods).await;
    events(&client, &running).await;
    deletions(&pods).await;

    pods.create(&PostParams::default(), &demo_pod("evicted")).await.unwrap();
    in_time("the second pod", await_condition(pods.clone(), "evicted", is_ready)).await.unwrap();
    let answer = pods.evict("evicted", &EvictParams::default()).await.unwrap();
    assert!(answer.is_success(), "{answer:?}");
}

/// Whether the pod is ready.
pub fn is_ready(pod: Option<&Pod>) -> bool {
    let status = pod.and_then(|pod| pod.status.as_ref());
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

async fn leases(client: &Client) {
    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    let lease =
        json!({"metadata": {"name": "leader"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}});
    let lease: Lease = serde_json::from_value(lease).unwrap();
    let mut mine = leases.create(&PostParams::default(), &lease).await.unwrap();
    let mut stale = mine.clone();
    mine.spec.as_mut().unwrap().lease_transitions = Some(1);
    let mine = leases.replace("leader", &PostParams::default(), &mine).await.unwrap();
    assert_ne!(mine.resource_version(), stale.resource_version());
    stale.spec.as_mut().unwrap().holder_identity = Some("b".to_owned());
    let refused = leases.replace("leader", &PostParams::default(), &stale).await.unwrap_err();
    assert_eq!(status_of(refused), (409, "Conflict".to_owned()));
    let same = leases.replace("leader", &PostParams::default(), &mine).await.unwrap();
    assert_eq!(same.resource_version(), mine.resource_version(), "nothing changed, nothing is written");
}

/// A reflector by LIST and WATCH, and one by a streamed list, hold the same as the server.
async fn reflectors(maps: &Api<ConfigMap>) {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let (store, writer) = reflector::store();
        let stream = reflector(writer, watcher(maps.clone(), config)).default_backoff().applied_objects();
        let following = task::spawn("reflector", stream.for_each(|_| std::future::ready(())));
        in_time("the first list", store.wait_until_ready()).await.unwrap();
        maps.create(&PostParams::default(), &config_map("later", &json!({"n": "0"}))).await.unwrap();
        let data = |n: &str| Some(std::collections::BTreeMap::from([("n".to_owned(), n.to_owned())]));
        let holds = |n: &str| {
            let wanted = data(n);
            store.find(|map| map.name_any() == "later").is_some_and(|map| map.data == wanted)
        };
        until("the reflector to see the creation", || holds("0")).await;
        let change = Patch::Merge(json!({"data": {"n": "1"}}));
        maps.patch("later", &PatchParams::default(), &change).await.unwrap();
        until("the reflector to see the change", || holds("1")).await;
        maps.delete("later", &DeleteParams::default()).await.unwrap();
        until("the reflector to see the deletion", || store.find(|map| map.name_any() == "later").is_none())
            .await;
        let mut listed: Vec<String> =
            maps.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect();
        let mut held: Vec<String> = store.state().iter().map(|map| map.name_any()).collect();
        listed.sort();
        held.sort();
        assert_eq!(held, listed);
        following.abort();
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    in_time(what, async {
        while !condition() {
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// What a shelf is to be; its definition is derived of it.
#[derive(CustomResource, Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube.example.com",
    version = "v1",
    kind = "Shelf",
    plural = "shelves",
    namespaced,
    status = "ShelfStatus"
)]
struct ShelfSpec {
    books: Vec<String>,
    #[serde(default)]
    width: Option<i64>,
}

/// What it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
struct ShelfStatus {
    full: bool,
}

/// A definition, its objects, their status and a lease, all written by server-side apply alone.
async fn applies(client: &Client) {
    let (ours, other) = (PatchParams::apply("ours"), PatchParams::apply("other"));
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = Shelf::crd().name_any();
    definitions.patch(&name, &ours, &Patch::Apply(Shelf::crd())).await.unwrap();
    let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
    in_time("the definition to be established", established).await.unwrap();

    let shelves: Api<Shelf> = Api::default_namespaced(client.clone());
    let (store, writer) = reflector::store();
    let stream = reflector(writer, watcher(shelves.clone(), watcher::Config::default()));
    let stream = stream.default_backoff().applied_objects();
    let following = task::spawn("reflector", stream.for_each(|_| std::future::ready(())));
    let shelf = Shelf::new("s", ShelfSpec { books: vec!["a".to_owned()], width: Some(1) });
    let made = shelves.patch("s", &ours, &Patch::Apply(&shelf)).await.unwrap();
    let again = shelves.patch("s", &ours, &Patch::Apply(&shelf)).await.unwrap();
    assert_eq!(again.resource_version(), made.resource_version(), "nothing changed, nothing is written");

    let part = |rest: serde_json::Value| {
        let mut part = json!({"apiVersion": "kube.example.com/v1", "kind": "Shelf"});
        part.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        Patch::Apply(part)
    };
    let wide = part(json!({"spec": {"width": 2}}));
    let refused = shelves.patch("s", &other, &wide).await.unwrap_err();
    assert_eq!(status_of(refused), (409, "Conflict".to_owned()));
    let forced = shelves.patch("s", &other.clone().force(), &wide).await.unwrap();
    assert_eq!((forced.spec.width, forced.spec.books.len()), (Some(2), 1));
    let full = part(json!({"status": {"full": true}}));
    let filled = shelves.patch_status("s", &ours, &full).await.unwrap();
    let mut owners: Vec<_> = filled
        .managed_fields()
        .iter()
        .map(|entry| (entry.manager.as_deref().unwrap_or_default(), entry.subresource.as_deref()))
        .collect();
    owners.sort_unstable();
    assert_eq!(owners, [("other", None), ("ours", None), ("ours", Some("status"))]);
    until("the reflector to see the status", || {
        store.find(|shelf| shelf.status == Some(ShelfStatus { full: true })).is_some()
    })
    .await;
    following.abort();

    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    let hold = |who: &str| {
        let spec = json!({"holderIdentity": who, "leaseDurationSeconds": 15});
        Patch::Apply(
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "applied"}, "spec": spec}),
        )
    };
    leases.patch("applied", &ours, &hold("a")).await.unwrap();
    let refused = leases.patch("applied", &other, &hold("b")).await.unwrap_err();
    assert_eq!(status_of(refused), (409, "Conflict".to_owned()));
}

async fn pages(maps: &Api<ConfigMap>) {
    for number in 0..7 {
        let map = config_map(&format!("page-{number}"), &json!({"n": number.to_string()}));
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let mut names = Vec::new();
    let mut params = ListParams::default().limit(3);
    loop {
        let page = maps.list(&params).await.unwrap();
        assert!(page.items.len() <= 3);
        names.extend(page.items.iter().map(ResourceExt::name_any));
        let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else { break };
        params = params.continue_token(&token);
    }
    let all: Vec<String> =
        maps.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, all);
    let metadata = maps.list_metadata(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(metadata.items.len(), 2);
}

#[tokio::test]
async fn reflectors_leases_and_pages() {
    let cluster = Cluster::up();
    let client = connect(&cluster).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    leases(&client).await;
    applies(&client).await;
    reflectors(&maps).await;
    pages(&maps).await;
    let everything = DeleteParams::default();
    maps.delete_collection(&everything, &ListParams::default()).await.unwrap();
    let mut left = watcher(maps.clone(), watcher::Config::default()).applied_objects().boxed();
    // The controller that publishes the cluster's root certificates brings its own back.
    let back = in_time("the root certificates", left.try_next()).await.unwrap().unwrap();
    assert_eq!(back.name_any(), "kube-root-ca.crt");
    assert_eq!(client.apiserver_version().await.unwrap().minor, "37");
}
