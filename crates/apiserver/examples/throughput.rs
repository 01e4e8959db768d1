//! How fast the byte path is in one process: creates, gets, updates, lists and watch deliveries of ConfigMaps of 1 KB over the
//! embedded store. `cargo run --release -p nauplius-apiserver --example throughput [CLIENTS] [OBJECTS]`

use http::{Method, Request};
use http_body_util::BodyExt;
use nauplius_apiserver::authz::Union;
use nauplius_apiserver::{ApiServer, Config, UserInfo};
use nauplius_base::task::{Group, spawn};
use nauplius_base::time::monotonic;
use nauplius_client::transport::{Transport, empty, full};
use nauplius_store::embedded::{EmbeddedStore, Options};
use std::sync::Arc;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(client: &dyn Transport, method: Method, path: String, body: Option<String>) -> bytes::Bytes {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.body(body.map_or_else(empty, full)).unwrap();
    let response = client.call(request).await.unwrap();
    let ok = response.status().is_success();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert!(ok, "{}", String::from_utf8_lossy(&bytes));
    bytes
}

fn map(index: usize, version: &str) -> String {
    let data = "x".repeat(900);
    format!(
        r#"{{"metadata":{{"name":"m-{index:06}","labels":{{"part":"{}"}}}},"data":{{"f":"{data}","v":"{version}"}}}}"#,
        index % 10
    )
}

async fn load(client: &Arc<dyn Transport>, clients: usize, objects: usize, what: &'static str) {
    let started = monotonic();
    let tasks: Vec<_> = (0..clients)
        .map(|worker| {
            let client = Arc::clone(client);
            spawn("worker", async move {
                for index in (worker..objects).step_by(clients) {
                    let one = format!("{MAPS}/m-{index:06}");
                    match what {
                        "create" => {
                            send(&*client, Method::POST, MAPS.to_owned(), Some(map(index, "1"))).await
                        }
                        "update" => send(&*client, Method::PUT, one, Some(map(index, "2"))).await,
                        _ => send(&*client, Method::GET, one, None).await,
                    };
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{what}: {:.0}/s ({clients} clients, {objects} objects)", objects as f64 / seconds);
}

async fn lists(client: &dyn Transport, query: &str) {
    const ROUNDS: u32 = 20;
    let started = monotonic();
    let mut size = 0;
    for _ in 0..ROUNDS {
        size = send(client, Method::GET, format!("{MAPS}?{query}"), None).await.len();
    }
    println!(
        "list {query:?}: {:.2} ms each, {size} bytes",
        started.elapsed().as_secs_f64() * 1e3 / f64::from(ROUNDS)
    );
}

async fn watchers(client: &Arc<dyn Transport>, count: usize, objects: usize) {
    let mut tasks = Vec::new();
    for _ in 0..count {
        let request = Request::get(format!("{MAPS}?watch=1&resourceVersion=0")).body(empty()).unwrap();
        let mut body = client.call(request).await.unwrap().into_body();
        tasks.push(spawn("watcher", async move {
            let mut seen = 0;
            while seen < 2 * objects {
                let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
                seen += frame.iter().filter(|byte| **byte == b'\n').count();
            }
        }));
    }
    let started = monotonic();
    load(client, 8, objects, "update").await;
    for task in tasks {
        task.await.unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{count} watchers x {objects} objects: {:.0} deliveries/s",
        (count * objects * 2) as f64 / seconds
    );
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().split(' ').next().unwrap().parse::<u64>().unwrap() / 1024
}

/// Watchers that never read must cost nothing but themselves, and lists held half-read only their snapshot.
async fn stalled(client: &Arc<dyn Transport>, count: usize, objects: usize) {
    let before = resident_mb();
    let mut held = Vec::new();
    for index in 0..count {
        let target = if index % 10 == 0 { MAPS.to_owned() } else { format!("{MAPS}?watch=1") };
        held.push(client.call(Request::get(target).body(empty()).unwrap()).await.unwrap());
    }
    let opened = resident_mb();
    load(client, 16, objects, "update").await;
    println!(
        "{count} stalled readers: {before} MB before, {opened} MB open, {} MB after the updates",
        resident_mb()
    );
    drop(held);
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let clients = arguments.next().unwrap_or(16);
    let objects = arguments.next().unwrap_or(5_000);
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), Options::default()).await.unwrap();
    let config = Config::new(Arc::new(store), nauplius_kinds::builtin(), Arc::new(Union::default()));
    let group = Group::new();
    let server = ApiServer::start(config, &group).await.unwrap();
    let client = server.transport(UserInfo::authenticated("bench", &["system:masters"]));
    load(&client, clients, objects, "create").await;
    load(&client, clients, objects, "get").await;
    load(&client, 1, objects.min(1_000), "get").await;
    for query in ["", "resourceVersion=0", "limit=500", "labelSelector=part%3D3", "pretty=1"] {
        lists(&*client, query).await;
    }
    watchers(&client, 100, objects.min(1_000)).await;
    load(&client, clients, objects, "update").await;
    stalled(&client, 2_000, objects).await;
    group.shut_down();
}
