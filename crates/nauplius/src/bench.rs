//! Measurements that anyone can run: how fast a cluster comes up, how fast a pod starts, how little memory an idle cluster takes.
//! They print JSON, go through the same doors as everyone, and remove what they made.

use crate::cli::{BenchWhat, ClusterArgs, NewClusterArgs};
use crate::cluster::{Cluster, MachineList};
use crate::control::{Answer, Ask, Memory};
use crate::failure::{Doing, Failure};
use crate::interrupts::Interrupts;
use crate::{commands, machine, up};
use nauplius_base::{id, time};
use nauplius_client::https::{Endpoint, Https};
use nauplius_client::{
    Api, Client, DeleteOptions, ListOptions, WatchEvent, WatchOptions, WatchStream, kubeconfig,
};
use nauplius_kinds::{Object, Pod};
use nauplius_pki::TlsParts;
use rustls::RootCertStore;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const NAMESPACE: &str = "default";
const POD_TIMEOUT: Duration = Duration::from_secs(60);
const STATUS_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs one benchmark and prints its result as JSON.
///
/// # Errors
/// When the cluster is not there or refuses.
pub fn run(args: &ClusterArgs, what: &BenchWhat) -> Result<(), Failure> {
    // Any user may measure a server that a kubeconfig leads to.
    if !matches!(what, BenchWhat::Api { .. }) {
        machine::check_root()?;
    }
    let result = match what {
        BenchWhat::Up { rounds } => bench_up(*rounds)?,
        BenchWhat::Pod { rounds, image } => {
            block_on(bench_pod(commands::known(args)?, *rounds, image.clone()))?
        }
        BenchWhat::Idle { wait_s, pods } => block_on(bench_idle(commands::known(args)?, *wait_s, *pods))?,
        BenchWhat::Api { api } => return bench_api(args, api),
    };
    println!("{}", serde_json::to_string_pretty(&result).doing("print the result")?);
    Ok(())
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start a thread")?;
    runtime.block_on(work)
}

/// Its rows are shown as they come, so JSON is printed only when it is asked for.
fn bench_api(args: &ClusterArgs, api: &nauplius_bench::ApiArgs) -> Result<(), Failure> {
    let kubeconfig = match &api.kubeconfig {
        Some(path) => path.clone(),
        None => commands::known(args)?.admin_kubeconfig(),
    };
    let report =
        block_on(async { nauplius_bench::run(&kubeconfig, api).await.doing("measure the API server") })?;
    if api.json {
        println!("{}", serde_json::to_string_pretty(&report).doing("print the result")?);
    }
    Ok(())
}

/// Minimum, median and maximum.
fn summary(mut figures: Vec<f64>) -> serde_json::Value {
    figures.sort_by(f64::total_cmp);
    let at = |index: usize| figures.get(index).copied().map(|figure| (figure * 10_000.0).round() / 10_000.0);
    json!({
        "rounds": figures.len(),
        "min": at(0),
        "median": at(figures.len() / 2),
        "max": figures.len().checked_sub(1).and_then(at),
    })
}

/// A fresh cluster of its own each round, from the command's start until it works.
fn bench_up(rounds: u32) -> Result<serde_json::Value, Failure> {
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let args = ClusterArgs { name: format!("bench-{}", id::suffix(3)), data_dir: None };
        let since = time::monotonic();
        // The list is locked while it is held, and the server that starts wants it, too.
        let found = MachineList::open()?.get_or_make(&args, &NewClusterArgs::default(), up::check)?;
        for warning in up::bring_up(&found, &Interrupts::catch()?)? {
            eprintln!("nauplius: {warning}");
        }
        seconds.push(since.elapsed().as_secs_f64());
        commands::remove(&found.cluster)?;
    }
    Ok(json!({"what": "seconds from the start of `up` until the cluster works", "seconds": summary(seconds)}))
}

/// A client across TLS, as the administrator.
fn client(cluster: &Cluster) -> Result<Client, Failure> {
    let entry =
        kubeconfig::load(&cluster.admin_kubeconfig(), None).doing("read the administrator's kubeconfig")?;
    let mut roots = RootCertStore::empty();
    for certificate in TlsParts::certificates(&entry.certificate_authority).doing("read the CA")? {
        roots.add(certificate).doing("trust the CA")?;
    }
    let own =
        TlsParts::from_pem(&entry.client_certificate, &entry.client_key).doing("read our certificate")?;
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots);
    let tls = tls.with_client_auth_cert(own.chain, own.key).doing("use our certificate")?;
    let address = entry.server.trim_start_matches("https://");
    let address: std::net::SocketAddr = address.parse().doing("read the server's address")?;
    let endpoint = Endpoint { address, server_name: address.ip().into(), tls, bearer_token: None };
    let transport = Https::new(endpoint).doing("prepare the connection")?;
    Ok(Client::new(Arc::new(transport), "nauplius-bench"))
}

fn pod(name: &str, image: &str) -> Result<Pod, Failure> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "nauplius-bench"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "IfNotPresent"}],
        },
    });
    Pod::decode(pod.to_string().as_bytes()).doing("make a pod")
}

async fn bench_pod(cluster: Cluster, rounds: u32, image: String) -> Result<serde_json::Value, Failure> {
    commands::ask_running(&cluster, &Ask::Status, STATUS_TIMEOUT)?;
    let client = client(&cluster)?;
    let api: Api<Pod> = client.namespaced(NAMESPACE);
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let name = format!("bench-{}", id::suffix(6));
        let took = start_pod(&api, &name, &image).await;
        remove_pod(&api, &name).await?;
        seconds.push(took?.as_secs_f64());
    }
    Ok(json!({
        "what": "seconds from the POST's answer to the watch event with phase Running, its process alive",
        "image": image,
        "seconds": summary(seconds),
    }))
}

async fn watch_pod(api: &Api<Pod>, name: &str) -> Result<WatchStream<Pod>, Failure> {
    let any = ListOptions { resource_version: "0".to_owned(), limit: 1, ..ListOptions::default() };
    let options = WatchOptions {
        field_selector: format!("metadata.name={name}"),
        resource_version: api.list(&any).await.doing("list pods")?.resource_version,
        ..WatchOptions::default()
    };
    api.watch(&options).await.doing("watch pods")
}

async fn start_pod(api: &Api<Pod>, name: &str, image: &str) -> Result<Duration, Failure> {
    let mut events = watch_pod(api, name).await?;
    api.create(&pod(name, image)?).await.doing("create a pod")?;
    let since = time::monotonic();
    let running = async {
        loop {
            match events.next().await.doing("watch pods")? {
                Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) if is_running(&pod) => {
                    return Ok(since.elapsed());
                }
                Some(_) => {}
                None => return Err(Failure::new("the watch ended")),
            }
        }
    };
    time::timeout(POD_TIMEOUT, running)
        .await
        .unwrap_or_else(|_| Err(Failure::new(format!("pod {name} does not run"))))
}

/// Phase Running with a container that has started.
fn is_running(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let mut containers = status.container_statuses.iter().flatten();
    let alive =
        containers.any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    status.phase.as_deref() == Some("Running") && alive
}

async fn remove_pod(api: &Api<Pod>, name: &str) -> Result<(), Failure> {
    let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    match api.delete(name, &options).await {
        Err(error) if !error.is_not_found() => {
            Err(Failure::new(format!("cannot delete pod {name}: {error}")))
        }
        _ => Ok(()),
    }
}

fn memory_of(cluster: &Cluster) -> Result<Memory, Failure> {
    match commands::ask_running(cluster, &Ask::Status, STATUS_TIMEOUT)? {
        Answer::Status(status) => Ok(status.memory_kib),
        _ => Err(Failure::new("the server answered something else")),
    }
}

fn total(memory: Memory) -> u64 {
    memory.server + memory.shims + memory.containers
}

async fn bench_idle(cluster: Cluster, wait_s: u64, pods: u32) -> Result<serde_json::Value, Failure> {
    time::sleep(Duration::from_secs(wait_s)).await;
    let idle = memory_of(&cluster)?;
    let mut result = json!({
        "what": "proportional set size of every process of the cluster, in KiB",
        "waitedSeconds": wait_s,
        "serverKiB": idle.server,
        "totalKiB": total(idle),
    });
    if pods == 0 {
        return Ok(result);
    }
    let api: Api<Pod> = client(&cluster)?.namespaced(NAMESPACE);
    let names: Vec<String> = (0..pods).map(|_| format!("bench-{}", id::suffix(6))).collect();
    let measured = measure_with(&cluster, &api, &names, wait_s).await;
    for name in &names {
        remove_pod(&api, name).await?;
    }
    let loaded = measured?;
    result["pods"] = json!(pods);
    result["totalWithPodsKiB"] = json!(total(loaded));
    result["perPodKiB"] = json!(total(loaded).saturating_sub(total(idle)) / u64::from(pods));
    Ok(result)
}

async fn measure_with(
    cluster: &Cluster,
    api: &Api<Pod>,
    names: &[String],
    wait_s: u64,
) -> Result<Memory, Failure> {
    for name in names {
        start_pod(api, name, crate::demo_image::REFERENCE).await?;
    }
    time::sleep(Duration::from_secs(wait_s)).await;
    memory_of(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summarises() {
        let summary = summary(vec![3.0, 1.0, 2.0]);
        assert_eq!(summary, json!({"rounds": 3, "min": 1.0, "median": 2.0, "max": 3.0}));
    }
}
