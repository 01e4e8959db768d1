//! What custom resources cost: how soon each is served, what their definitions take of memory, and whether they slow anyone.
//! `cargo run --release -p nauplius-apiserver --example definitions [DEFINITIONS]`

use http::{Method, Request};
use http_body_util::BodyExt;
use nauplius_apiserver::authz::Union;
use nauplius_apiserver::{ApiServer, Config, UserInfo};
use nauplius_base::task::{Group, spawn};
use nauplius_base::time::monotonic;
use nauplius_client::transport::{Transport, empty, full};
use nauplius_store::embedded::{EmbeddedStore, Options};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GETS: u32 = 2_000;

async fn send(
    client: &dyn Transport,
    method: Method,
    path: &str,
    body: Option<String>,
) -> (u16, bytes::Bytes) {
    let accept = "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io,application/json";
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.header("accept", accept).body(body.map_or_else(empty, full)).unwrap();
    let response = client.call(request).await.unwrap();
    let code = response.status().as_u16();
    (code, response.into_body().collect().await.unwrap().to_bytes())
}

/// A schema of some ten kilobytes, as definitions of real operators have.
fn schema() -> Value {
    let field = |index: usize| {
        let description =
            format!("Field {index} says something about what the object is meant to become, at some length.");
        (format!("field{index}"), json!({"type": "string", "description": description, "maxLength": 63}))
    };
    let part = |_| {
        let fields: Map<String, Value> = (0..10).map(field).collect();
        json!({"type": "object", "description": "A part of the object.", "properties": fields})
    };
    let parts: Map<String, Value> = (0..8).map(|index| (format!("part{index}"), part(index))).collect();
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": parts},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
}

fn definition(index: usize) -> String {
    let plural = format!("things{index}");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.group{}.example.com", index % 50)},
        "spec": {"group": format!("group{}.example.com", index % 50), "scope": "Namespaced",
            "names": {"plural": plural, "kind": format!("Thing{index}")},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema()}}]},
    })
    .to_string()
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}

/// Microseconds of one answer.
async fn each(client: &dyn Transport, path: &str, rounds: u32) -> f64 {
    let started = monotonic();
    for _ in 0..rounds {
        assert_eq!(send(client, Method::GET, path, None).await.0, 200, "{path}");
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
}

async fn others(client: &dyn Transport, when: &str) {
    let get = each(client, "/api/v1/namespaces/default/configmaps/one", GETS).await;
    let discovery = each(client, "/apis", 100).await;
    println!("{when}: get of a config map {get:.0} us, discovery {discovery:.0} us");
}

/// The longest get of a config map, in milliseconds, until it is told to stop.
async fn longest_get(client: Arc<dyn Transport>, stop: Arc<AtomicBool>) -> f64 {
    let mut longest = 0.0_f64;
    while !stop.load(Ordering::Relaxed) {
        longest = longest.max(each(&*client, "/api/v1/namespaces/default/configmaps/one", 1).await / 1e3);
    }
    longest
}

/// What a definition costs when the documents of all others are there already, and how long others wait meanwhile.
async fn one_more(client: &Arc<dyn Transport>, index: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let waits = spawn("longest get", longest_get(Arc::clone(client), Arc::clone(&stop)));
    let started = monotonic();
    let (code, answer) = send(&**client, Method::POST, DEFINITIONS, Some(definition(index))).await;
    assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
    let kind = format!("\"Thing{index}\"");
    let bytes = loop {
        let (_, document) = send(&**client, Method::GET, "/openapi/v2", None).await;
        if String::from_utf8_lossy(&document).contains(&kind) {
            break document.len();
        }
    };
    let took_ms = started.elapsed().as_secs_f64() * 1e3;
    stop.store(true, Ordering::Relaxed);
    println!(
        "one more: in OpenAPI v2 ({bytes} bytes) after {took_ms:.0} ms; the longest get of a config map meanwhile {:.1} ms",
        waits.await.unwrap()
    );
}

#[tokio::main]
async fn main() {
    let count = std::env::args().nth(1).map_or(500, |text| text.parse().expect("a number"));
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), Options::default()).await.unwrap();
    let config = Config::new(Arc::new(store), nauplius_kinds::builtin(), Arc::new(Union::default()));
    let group = Group::new();
    let server = ApiServer::start(config, &group).await.unwrap();
    let owned = server.transport(UserInfo::authenticated("bench", &["system:masters"]));
    let client = &*owned;
    let map = json!({"metadata": {"name": "one"}, "data": {"a": "b"}}).to_string();
    send(client, Method::POST, "/api/v1/namespaces/default/configmaps", Some(map)).await;
    others(client, "before").await;
    let before = resident_kb();
    let mut took: Vec<f64> = Vec::with_capacity(count);
    for index in 0..count {
        let body = definition(index);
        let started = monotonic();
        let (code, answer) = send(client, Method::POST, DEFINITIONS, Some(body)).await;
        assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
        let path = format!("/apis/group{}.example.com/v1/things{index}", index % 50);
        while send(client, Method::GET, &path, None).await.0 != 200 {}
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let (first, last) = (took[0], took[count - 1]);
    took.sort_by(f64::total_cmp);
    println!(
        "{count} definitions of {} bytes: from create to served {:.1} ms median, {:.1} ms at most ({first:.1} ms the first, {last:.1} ms the last)",
        definition(0).len(),
        took[count / 2],
        took[count - 1],
    );
    println!("memory: {:.0} KiB a definition", (resident_kb() - before) as f64 / count as f64);
    others(client, "after").await;
    let started = monotonic();
    send(client, Method::GET, "/openapi/v3", None).await;
    println!("OpenAPI v3: the index {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = monotonic();
    send(client, Method::GET, "/openapi/v2", None).await;
    println!("OpenAPI v2: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    println!("memory with documents: {:.0} KiB a definition", (resident_kb() - before) as f64 / count as f64);
    one_more(&owned, count).await;
    group.shut_down();
}
