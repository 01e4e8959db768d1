//! Three tiers of Debian's software on one cluster: nginx, a Python application and PostgreSQL, configured by config maps and secrets,
//! found by service names, from one directory of manifests. It serves through a node port, a rolling update loses no request, and
//! the end of its database loses no row.

use crate::cluster::Cluster;
use crate::debian::{Debian, Recipe};
use crate::kube_rs::connect;
use crate::{kubectl, traces};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::await_condition;
use kube::runtime::wait::conditions::is_deleted;
use kube::{Client, Discovery, ResourceExt};
use nauplius_base::task::{self, CancellationToken};
use nauplius_base::time;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(240);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const WRITERS: u64 = 3;
const USERS: &[(&str, u32, &str)] = &[
    ("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999:PostgreSQL:/data:/bin/sh\n"),
    ("etc/group", 0o644, "root:x:0:\npostgres:x:999:\n"),
];

fn recipes() -> [Recipe<'static>; 3] {
    let program = &[("app.py", 0o644, include_str!("shop/app.py"))];
    let recipe = |name, packages, files| Recipe { name, packages, files };
    [
        recipe("shop-web", &["nginx-light", "dash", "coreutils"], USERS),
        recipe("shop-app", &["python3", "python3-psycopg2"], program),
        recipe("shop-database", &["postgresql", "dash", "coreutils", "util-linux"], USERS),
    ]
}

/// Builds the images from Debian's packages and loads their archives.
fn load_images(cluster: &Cluster) -> Result<(), String> {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let debian = Debian::fetch(scratch.path(), &recipes())?;
    for recipe in recipes() {
        let archive = debian.build(&recipe);
        let loaded = cluster.run_ok(&["image", "load", archive.to_str().unwrap()]);
        assert_eq!(loaded.trim(), format!("nauplius.local/{}:1", recipe.name));
    }
    Ok(())
}

/// The manifests, with a place on this host for the database's data.
fn manifests(cluster: &Cluster) -> PathBuf {
    let directory = cluster.scratch.path().join("shop");
    std::fs::create_dir(&directory).unwrap();
    let host_path = cluster.scratch.path().join("database");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/shop");
    for entry in std::fs::read_dir(source).unwrap().flatten() {
        let name = entry.file_name();
        if Path::new(&name).extension().is_some_and(|kind| kind == "yaml") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            std::fs::write(directory.join(&name), text.replace("HOST_PATH", host_path.to_str().unwrap()))
                .unwrap();
        }
    }
    directory
}

/// `kubectl apply -f DIR`, or where there is no kubectl what it comes to: each document, in the order of the files.
async fn apply(cluster: &Cluster, client: &Client, directory: &Path) {
    if let Some(kubectl) = kubectl::installed("1.33", cluster) {
        let applied = kubectl.ok(&["apply", "-f", directory.to_str().unwrap()]);
        assert!(applied.lines().all(|line| line.ends_with(" created")), "{applied}");
        return;
    }
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for document in text.split("\n---\n") {
            let object: DynamicObject = serde_saphyr::from_str(document).unwrap();
            let types = object.types.clone().unwrap();
            let kind = GroupVersionKind::try_from(&types).unwrap();
            let (resource, _) = discovery.resolve_gvk(&kind).unwrap();
            let api: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
            api.create(&PostParams::default(), &object).await.unwrap();
        }
    }
}

fn is_rolled_out(deployment: Option<&Deployment>) -> bool {
    let Some(deployment) = deployment else { return false };
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let Some(status) = &deployment.status else { return false };
    let all = |count: Option<i32>| count == Some(wanted);
    status.observed_generation == deployment.metadata.generation
        && all(status.updated_replicas)
        && all(status.available_replicas)
        && all(status.replicas)
}

async fn rolled_out(cluster: &Cluster, client: &Client, name: &str) {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let waited = time::timeout(PATIENCE, await_condition(deployments, name, is_rolled_out)).await;
    if !matches!(waited, Ok(Ok(_))) {
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let pods = pods.list(&ListParams::default()).await.unwrap();
        let statuses: Vec<_> = pods.iter().map(|pod| (pod.name_any(), pod.status.clone())).collect();
        panic!("{name} is not rolled out: {statuses:#?}\n{}", cluster.log_tail());
    }
}

/// Status and whole answer of one request.
async fn ask(address: SocketAddr, method: &str, body: &str) -> Result<(u16, String), String> {
    let request = format!(
        "{method} /rows HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    let answer = time::timeout(ANSWER_TIMEOUT, exchange).await.map_err(|_| "no answer".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or_else(|| format!("no status in {answer:?}"))?, answer))
}

/// Rows that were acknowledged, and requests that were not.
#[derive(Default)]
struct Written {
    rows: Vec<String>,
    failures: Vec<String>,
}

async fn write_rows(
    address: SocketAddr,
    writer: u64,
    counter: Arc<AtomicU64>,
    stop: CancellationToken,
) -> Written {
    let mut written = Written::default();
    while !stop.is_cancelled() {
        let row = format!("row-{writer}-{:06}", counter.fetch_add(1, Ordering::Relaxed));
        match ask(address, "POST", &row).await {
            Ok((201, _)) => written.rows.push(row),
            Ok((_, answer)) => written.failures.push(answer),
            Err(error) => written.failures.push(error),
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    written
}

/// Customers that write rows until they are stopped.
struct Customers {
    stop: CancellationToken,
    counter: Arc<AtomicU64>,
    writers: Vec<tokio::task::JoinHandle<Written>>,
}

impl Customers {
    fn start(address: SocketAddr, counter: &Arc<AtomicU64>) -> Self {
        let stop = CancellationToken::new();
        let start =
            |writer| task::spawn("customer", write_rows(address, writer, Arc::clone(counter), stop.clone()));
        Self { writers: (0..WRITERS).map(start).collect(), counter: Arc::clone(counter), stop }
    }

    /// Waits until as many requests again were made.
    async fn go_on(&self, requests: u64) {
        let until = self.counter.load(Ordering::Relaxed) + requests;
        let wait = async {
            while self.counter.load(Ordering::Relaxed) < until {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        time::timeout(PATIENCE, wait).await.expect("customers are stuck");
    }

    async fn end(self) -> Written {
        self.stop.cancel();
        let mut all = Written::default();
        for writer in self.writers {
            let written = writer.await.unwrap();
            all.rows.extend(written.rows);
            all.failures.extend(written.failures);
        }
        all
    }
}

async fn rows(address: SocketAddr) -> (BTreeSet<String>, String) {
    let (code, answer) = ask(address, "GET", "").await.unwrap();
    assert_eq!(code, 200, "{answer}");
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    (serde_json::from_str(body).unwrap(), answer)
}

/// Changes the environment of one deployment and the template of the other: both roll.
async fn roll(cluster: &Cluster, client: &Client) {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let container = json!({"name": "app", "env": [{"name": "VERSION", "value": "2", "valueFrom": null}]});
    let version = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    deployments.patch("app", &PatchParams::default(), &Patch::Strategic(version)).await.unwrap();
    deployments.restart("web").await.unwrap();
    rolled_out(cluster, client, "app").await;
    rolled_out(cluster, client, "web").await;
}

async fn database_pod(client: &Client) -> Pod {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let listed = pods.list(&ListParams::default().labels("app=database")).await.unwrap();
    let alive = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
    listed.into_iter().find(alive).expect("a database")
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.map_or(0, |statuses| statuses[0].restart_count)
}

/// Every process of the database at once, as when the memory ran out.
async fn kill_database(cluster: &Cluster, client: &Client) {
    let pod = database_pod(client).await;
    let processes = traces::container_processes(cluster).remove(&pod.uid().unwrap()).unwrap_or_default();
    assert!(!processes.is_empty());
    for (pid, _) in processes {
        // SAFETY: a signal to a process of our own cluster. One that has ended with the first is fine.
        unsafe { libc::kill(i32::try_from(pid).unwrap(), libc::SIGKILL) };
    }
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let before = restarts(&pod);
    let again = |pod: Option<&Pod>| {
        pod.is_some_and(|pod| restarts(pod) > before && crate::kube_rs::is_ready(Some(pod)))
    };
    let waited = time::timeout(PATIENCE, await_condition(pods, &pod.name_any(), again)).await;
    assert!(matches!(waited, Ok(Ok(_))), "the database does not come back\n{}", cluster.log_tail());
}

async fn delete_database_pod(cluster: &Cluster, client: &Client) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = database_pod(client).await;
    pods.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    let (name, uid) = (pod.name_any(), pod.uid().unwrap());
    let gone = await_condition(pods, &name, is_deleted(&uid));
    time::timeout(PATIENCE, gone).await.expect("the database's pod stays").unwrap();
    rolled_out(cluster, client, "database").await;
}

async fn node_port(client: &Client) -> SocketAddr {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let service = services.get("web").await.unwrap();
    let port = service.spec.unwrap().ports.unwrap()[0].node_port.unwrap();
    let node = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.unwrap().items.remove(0);
    let address = node.status.unwrap().addresses.unwrap().remove(0).address;
    format!("{address}:{port}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_in_three_tiers_serves_and_loses_nothing() {
    let cluster = Cluster::up();
    if let Err(reason) = load_images(&cluster) {
        println!("SKIP three_tier: Debian packages cannot be fetched: {reason}");
        return;
    }
    let client = connect(&cluster).await;
    apply(&cluster, &client, &manifests(&cluster)).await;
    for tier in ["database", "web", "app"] {
        rolled_out(&cluster, &client, tier).await;
    }
    let address = node_port(&client).await;
    let (none, first) = rows(address).await;
    assert!(none.is_empty() && first.contains("X-Version: 1"), "{first}");

    let counter = Arc::default();
    let customers = Customers::start(address, &counter);
    customers.go_on(20).await;
    roll(&cluster, &client).await;
    customers.go_on(20).await;
    let calm = customers.end().await;
    assert_eq!(calm.failures, Vec::<String>::new(), "a rolling update failed requests");

    let customers = Customers::start(address, &counter);
    customers.go_on(20).await;
    kill_database(&cluster, &client).await;
    customers.go_on(20).await;
    delete_database_pod(&cluster, &client).await;
    customers.go_on(20).await;
    let rough = customers.end().await;
    let (held, last) = rows(address).await;
    assert!(last.contains("X-Version: 2"), "{last}");
    let acknowledged = calm.rows.iter().chain(&rough.rows);
    let lost: Vec<_> = acknowledged.filter(|row| !held.contains(*row)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    println!("{} rows, {} requests failed while the database was away", held.len(), rough.failures.len());
}
