//! Starts a kubelet: its directories, its server, its registration and the tasks that live as long as it does.

use crate::config::Config;
use crate::context::Context;
use crate::error::KubeletError;
use crate::eviction::{self, Pressure, Shortage};
use crate::node::lease::Heart;
use crate::node::report::{Health, Reporter};
use crate::node::{machine, network, pod_range, register, status};
use crate::pod::halt;
use crate::pods::Pods;
use crate::pull_records::PullRecords;
use crate::server::{self, Server};
use crate::spec::field::NodeFacts;
use crate::{cgroup, logs, sources};
use nauplius_base::backoff::Backoff;
use nauplius_base::task::Group;
use nauplius_base::time;
use nauplius_client::{Client, ClientError, ListOptions};
use nauplius_cri::{ImageService, RuntimeService, v1};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Node, NodeStatus, Pod};
use nauplius_reconcile::Informer;
use nauplius_reconcile::events::{Source, recorder};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Registration is tried so often before a kubelet gives up: 100 ms doubling to 7 s, a minute in all.
const REGISTER_TRIES: usize = 15;
/// Pods that are to be evicted, on their way to the owner of the pods.
const SENTENCES: usize = 16;

/// A kubelet that runs.
#[derive(Clone)]
pub struct Kubelet {
    context: Arc<Context>,
    port: u16,
    health: watch::Receiver<Health>,
    shortages: watch::Receiver<Option<Vec<Shortage>>>,
}

impl Kubelet {
    /// The port that it serves.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How it is.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// What the node is short of. It waits for the first look, which comes with the start.
    pub async fn shortages(&self) -> Vec<Shortage> {
        let mut looks = self.shortages.clone();
        // The sender ends with the kubelet; of one that has ended nothing is told.
        let seen = looks.wait_for(Option::is_some).await.map(|seen| seen.clone());
        seen.ok().flatten().unwrap_or_default()
    }

    /// Stops all pods' containers when the node goes down, each with its hooks and in its own time. The kubelet's tasks must have ended;
    /// the API keeps the pods, and the next kubelet starts them again.
    pub async fn stop_pods(&self) {
        halt::all(&self.context).await;
    }

    /// Waits until the API has the node as ready.
    pub async fn ready(&self) {
        // The sender lives as long as the kubelet; whoever waits longer waits for its group.
        if self.health.clone().wait_for(|health| health.ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// As upstream's, it is closed to everybody but its owner and group: tokens and secrets are in it.
fn make_directory(path: &Path) -> Result<(), KubeletError> {
    std::fs::create_dir_all(path)
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o750)))
        .map_err(|source| KubeletError::Directory { path: path.to_owned(), source })
}

/// Starts a kubelet whose tasks live in `group`. It returns when the node is registered and the server listens.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(
    config: Config,
    client: Client,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    group: &Group,
) -> Result<Kubelet, KubeletError> {
    make_directory(&config.root_dir.join("pods"))?;
    make_directory(&config.log_dir)?;
    cgroup::prepare(&config.cgroup_root)
        .map_err(|source| KubeletError::Directory { path: config.cgroup_root.clone().into(), source })?;
    let machine = machine::machine(&config.root_dir)?;
    let version = runtime.version(v1::VersionRequest::default()).await?;
    let (recorder, writer) =
        recorder(client.clone(), Source { component: "kubelet", host: config.node_name.clone() });
    let (sources, owner) = sources::sources(client.clone());
    let services = Informer::new(client.all(), ListOptions::default());
    let facts = NodeFacts {
        ip: config.node_ip,
        cpus: machine.cpus,
        memory: machine.memory,
        allocatable_memory: status::allocatable_memory(&machine),
        allocatable_storage: status::allocatable_storage(&machine),
    };
    let own_pods = ListOptions {
        field_selector: format!("spec.nodeName={}", config.node_name),
        ..ListOptions::default()
    };
    let (pressing, pressure) = watch::channel(Pressure::default());
    let pull_records = PullRecords::open(&config.root_dir).map_err(KubeletError::PullRecords)?;
    let pods = Informer::<Pod>::new(client.all(), own_pods);
    let context = Arc::new(Context {
        config,
        client,
        runtime,
        images,
        recorder,
        sources,
        pods: pods.clone(),
        services: services.clone(),
        facts,
        network: network::Readiness::default(),
        pressure,
        hook_fallbacks: AtomicU64::new(0),
        probe_counts: server::probes::ProbeCounts::default(),
        pulls: tokio::sync::Semaphore::new(1),
        pull_records: Arc::new(pull_records),
    });
    let listener = server::listen(&context.config).await?;
    let port = listener.port;
    let (health_sender, health) = watch::channel(Health::default());
    let mut reporter = Reporter::new(Arc::clone(&context), machine.clone(), version, port, health_sender);
    let status = reporter.look().await?;
    let (node, is_new) = registered(&context, &machine, status).await.map_err(KubeletError::Register)?;
    pod_range::hand_known(&context, &node).await;
    reporter.registered(node.status.clone().unwrap_or_default(), is_new);
    let token = group.token();
    let heart = Heart::new(&context.client, &context.config.node_name, node.uid());
    group.spawn("kubelet-events", writer.run(token.clone()));
    group.spawn("kubelet-sources", owner.run(token.clone()));
    group.spawn("kubelet-services", services.run(token.clone()));
    group.spawn("kubelet-pods-informer", pods.clone().run(token.clone()));
    group.spawn("kubelet-lease", heart.run(token.clone()));
    group.spawn("kubelet-node-status", reporter.run(token.clone()));
    group.spawn("kubelet-pod-range", pod_range::run(Arc::clone(&context), token.clone()));
    group.spawn("kubelet-log-rotation", logs::rotate::run(Arc::clone(&context), token.clone()));
    let served = Arc::new(Server::new(Arc::clone(&context), pods.clone(), port));
    group.spawn("kubelet-server", listener.serve(served, token.clone()));
    let (sentences, sentenced) = mpsc::channel(SENTENCES);
    let (seeing, shortages) = watch::channel(None);
    group.spawn(
        "kubelet-housekeeping",
        eviction::run(Arc::clone(&context), pressing, seeing, sentences, token.clone()),
    );
    let (pods, endings) = Pods::new(Arc::clone(&context), pods, sentenced, token);
    group.spawn("kubelet-pods", pods.run(endings));
    Ok(Kubelet { context, port, health, shortages })
}

/// Registers, while the API server may still be coming up.
async fn registered(
    context: &Context,
    machine: &machine::Machine,
    status: NodeStatus,
) -> Result<(Node, bool), ClientError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));
    let mut tries = 0;
    loop {
        match register::register(&context.client, &context.config, machine, status.clone()).await {
            Ok(registered) => return Ok(registered),
            Err(error) => {
                tries += 1;
                if tries >= REGISTER_TRIES {
                    return Err(error);
                }
                tracing::debug!(%error, "the node could not be registered, trying again");
                time::sleep(backoff.next_delay()).await;
            }
        }
    }
}
