//! The server process: starts every component in order, says how far it is, serves until it is asked to stop, and leaves
//! containers running unless it is asked to stop them, too.

mod addons;
mod control;
mod health;
mod leftovers;
mod network;
mod node;
mod plane;
mod query;
mod renewal;
mod wreck;

pub use leftovers::{
    clear, pods, remove_everything, server_of, stop_leftovers, try_lock, wait_until_stopped,
};
pub use wreck::{end as end_wreck, end_unreachable, is_wreck};

use crate::cli::{ClusterArgs, LogFormat, NewClusterArgs};
use crate::cluster::{Cluster, Found, MachineList};
use crate::credentials::Credentials;
use crate::failure::{Doing, Failure};
use crate::lock::Lock;
use crate::progress::{Report, Reporter};
use crate::storage::Opened;
use crate::{keepsake, machine, up};
use nauplius_base::task::Group;
use nauplius_base::time;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// More threads would only cost memory: nothing here computes for long.
const WORKERS_MAX: usize = 4;

/// How often a server that ends says what it waits for.
const TELL_INTERVAL: Duration = Duration::from_secs(2);
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// What every part of the wiring knows.
pub struct Site {
    /// The cluster's fixed facts.
    pub cluster: Cluster,
    /// The address that the node is known by.
    pub node_ip: Ipv4Addr,
    /// Certificates and keys.
    pub credentials: Credentials,
    /// Where progress is told.
    pub reporter: Reporter,
}

/// How the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Containers run on.
    LeaveContainers,
    /// Containers stop, too.
    WithContainers,
}

/// The `server` command.
///
/// # Errors
/// Why it could not start, or which component ended although nobody asked it to.
pub fn main(
    args: &ClusterArgs,
    new: &NewClusterArgs,
    format: LogFormat,
    progress: bool,
) -> Result<(), Failure> {
    let reporter = Reporter::new(progress);
    let outcome = start(args, new, format, reporter);
    if let Err(failure) = &outcome {
        reporter.report(&Report::Failed { message: failure.to_string() });
    }
    outcome
}

fn start(
    args: &ClusterArgs,
    new: &NewClusterArgs,
    format: LogFormat,
    reporter: Reporter,
) -> Result<(), Failure> {
    machine::check()?;
    log_to_stderr(format);
    let Found { cluster, is_new } = MachineList::open()?.get_or_make(args, new, up::check)?;
    let worked = AtomicBool::new(false);
    let outcome = lock(&cluster).and_then(|_lock| {
        keepsake::keep(&cluster, up::noted_kubeconfigs(&cluster)?)?;
        run(cluster.clone(), reporter, &worked)
    });
    if is_new && !worked.into_inner() {
        up::abandon(&cluster)?;
    }
    outcome
}

fn run(cluster: Cluster, reporter: Reporter, worked: &AtomicBool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX))
        .thread_name("nauplius")
        .enable_all()
        .build()
        .doing("start threads")?;
    runtime.block_on(serve(cluster, reporter, worked))
}

fn log_to_stderr(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("NAUPLIUS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// One server a cluster: the lock is held as long as the process lives.
fn lock(cluster: &Cluster) -> Result<Lock, Failure> {
    let since = time::monotonic();
    loop {
        if let Some(lock) = try_lock(cluster)? {
            cluster.make_data_dir()?;
            return Ok(lock);
        }
        // Commands that only want to know whether a server runs hold it for a moment.
        if since.elapsed() > LOCK_PATIENCE {
            let (name, who) = (&cluster.name, server_of(cluster));
            return Err(Failure::new(format!(
                "a server of cluster {name} is running already: {who}; `nauplius down --name {name}` stops it"
            )));
        }
        std::thread::sleep(LOCK_RETRY);
    }
}

async fn serve(cluster: Cluster, reporter: Reporter, worked: &AtomicBool) -> Result<(), Failure> {
    reporter.stage("Certificates");
    let node_ip = network::node_address(&cluster)?;
    let credentials = Credentials::load_or_make(&cluster, node_ip)?;
    credentials.write_admin_kubeconfig(&cluster, node_ip)?;
    let site = Arc::new(Site { cluster, node_ip, credentials, reporter });
    let group = Group::new();
    let (stop, asked) = mpsc::channel(4);
    let mut stops = Stops::new(asked)?;
    let started = bring_up(&site, &group, &stop);
    let mut running = tokio::select! {
        running = started => running?,
        ended = group.join() => return Err(Failure::new(ended.map_or_else(|ended| ended.to_string(), |()| "stopped while starting".to_owned()))),
        _ = stops.next() => return Err(Failure::new("stopped while starting")),
    };
    worked.store(true, Ordering::Relaxed);
    reporter.report(&Report::Ready);
    tracing::info!(cluster = site.cluster.name, address = %node_ip, port = site.cluster.port, "the cluster works");
    let how = tokio::select! {
        how = stops.next() => how,
        ended = group.join() => {
            let reason = ended.map_or_else(|ended| ended.to_string(), |()| "every task ended".to_owned());
            return Err(Failure::new(reason));
        }
    };
    finish(&group, &mut running, how).await
}

/// What must be told when the server stops.
struct Running {
    node: node::Node,
    /// Whoever asked for the stop waits for this to be dropped.
    store: Opened,
    control_socket: PathBuf,
}

async fn bring_up(site: &Arc<Site>, group: &Group, stop: &mpsc::Sender<Stop>) -> Result<Running, Failure> {
    site.reporter.stage("Store");
    let store = Opened::open(&site.cluster, |what| site.reporter.waiting(what)).await?;
    site.reporter.stage("API server");
    let plane = plane::start(site, &store, group).await?;
    site.reporter.stage("Container runtime");
    let node = node::start(site, &plane, group).await?;
    site.reporter.stage("Scheduler and controllers");
    let components = plane::start_components(site, &plane, group);
    let networks = network::start(site, &plane, &node, group)?;
    let addons = addons::start(site, &plane, &node, group);
    let health = Arc::new(health::Health::new(Arc::clone(site), plane, components, node.clone(), networks));
    renewal::start(site, group);
    let door = control::Door {
        health: Arc::clone(&health),
        addons,
        node: node.clone(),
        store: store.clone(),
        stop: stop.clone(),
    };
    control::start(site, door, group)?;
    health.wait_until_it_works(site.reporter).await?;
    health.shortages().await.into_iter().for_each(|shortage| site.reporter.warn(shortage));
    Ok(Running { node, store, control_socket: site.cluster.control_socket() })
}

/// Whoever may stop the server: signals, and the control socket.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
    asked: mpsc::Receiver<Stop>,
}

impl Stops {
    fn new(asked: mpsc::Receiver<Stop>) -> Result<Self, Failure> {
        let listen = |kind| signal(kind).doing("listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            asked,
        })
    }

    async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::LeaveContainers,
            _ = self.interrupt.recv() => Stop::LeaveContainers,
            Some(how) = self.asked.recv() => how,
        }
    }
}

/// Says now and then which components have not ended yet. Never ends.
async fn tell_of_the_slow(group: &Group) {
    loop {
        time::sleep(TELL_INTERVAL).await;
        tracing::info!(components = group.unfinished().join(", "), "waiting for components to end");
    }
}

async fn finish(group: &Group, running: &mut Running, how: Stop) -> Result<(), Failure> {
    tracing::info!(?how, "stopping");
    group.shut_down();
    let ended = tokio::select! {
        ended = group.join() => ended,
        () = tell_of_the_slow(group) => Ok(()),
    };
    if let Err(ended) = ended {
        tracing::warn!(%ended, "a component ended badly");
    }
    if how == Stop::WithContainers {
        running.node.stop_containers().await;
    }
    running.node.close();
    running.store.close().await?;
    // Nobody answers there any more.
    crate::cluster::remove_file(&running.control_socket)
}
