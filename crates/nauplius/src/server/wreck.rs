//! A cluster whose files somebody has removed while it ran. Its server cannot stop pods in their order any more, nor reach shims by sockets
//! that are gone: so what runs is found by the kernel's tables and ended at once.

use super::{leftovers, node};
use crate::cluster::Cluster;
use crate::failure::{Doing, Failure};
use crate::memory;
use nauplius_base::time;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::Duration;

/// How long a server may take to end by itself.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the kernel may take to end a process.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(10);
const DELETED: &str = " (deleted)";

/// A server of the cluster.
struct Server {
    pid: u32,
    /// The file of its lock is gone: others would take it for ended.
    has_lost_lock: bool,
}

/// The processes that hold the cluster's lock as its server.
fn servers(cluster: &Cluster) -> Vec<Server> {
    let lock = leftovers::lock_path(cluster);
    let found = memory::pids().into_iter().filter(|pid| *pid != std::process::id());
    found.filter_map(|pid| server(pid, &lock)).collect()
}

fn server(pid: u32, lock: &Path) -> Option<Server> {
    // A process that ends meanwhile is none.
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    if line.split(|byte| *byte == 0).nth(1) != Some(b"server") {
        return None;
    }
    let lock = lock.display().to_string();
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut links = links.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.find_map(|link| {
        let link = link.to_str()?;
        let plain = link.strip_suffix(DELETED);
        (plain.unwrap_or(link) == lock).then_some(Server { pid, has_lost_lock: plain.is_some() })
    })
}

/// Whether files are gone that a cluster which runs must have.
pub fn is_wreck(cluster: &Cluster) -> bool {
    let lacks = |name: &str| !cluster.data_dir.join(name).exists();
    let lacks_state =
        lacks("pki") || lacks("runtime/sandboxes") || (cluster.etcd.is_none() && lacks("store"));
    // A server that has no socket yet is just making them.
    let is_up = cluster.control_socket().exists() && !servers(cluster).is_empty();
    let shims = memory::shims(&node::runtime_dir(cluster));
    (is_up && lacks_state)
        || shims.values().any(|sandbox| nauplius_runtime::sandbox_metadata(sandbox).is_err())
}

/// Ends servers whose lock and socket are gone; pods run on.
///
/// # Errors
/// When one does not end.
pub fn end_unreachable(cluster: &Cluster) -> Result<(), Failure> {
    if servers(cluster).iter().any(|server| server.has_lost_lock) { end_servers(cluster) } else { Ok(()) }
}

fn end_servers(cluster: &Cluster) -> Result<(), Failure> {
    let pids = || servers(cluster).into_iter().map(|server| server.pid).collect::<Vec<u32>>();
    send(&pids(), Signal::TERM)?;
    if !wait_for_none(END_TIMEOUT, pids) {
        send(&pids(), Signal::KILL)?;
        if !wait_for_none(KILL_TIMEOUT, pids) {
            return Err(Failure::new(format!(
                "the server of cluster {} does not end: process {:?}",
                cluster.name,
                pids()
            )));
        }
    }
    Ok(())
}

/// Ends the server, all pods and whatever they need, at once.
///
/// # Errors
/// What does not end or cannot be removed.
pub fn end(cluster: &Cluster) -> Result<(), Failure> {
    end_servers(cluster)?;
    let runtime_dir = node::runtime_dir(cluster);
    let running = || {
        let found = memory::processes(&runtime_dir);
        [found.shims, found.containers].concat()
    };
    send(&running(), Signal::KILL)?;
    let cgroup_root = node::cgroup_root(cluster);
    nauplius_runtime::end_by_force(&runtime_dir, &cgroup_root).doing("end what still runs")?;
    if !wait_for_none(KILL_TIMEOUT, running) {
        return Err(Failure::new(format!("pods of cluster {} do not end", cluster.name)));
    }
    leftovers::remove_tree(&runtime_dir)
}

/// One that has ended since is fine.
fn send(pids: &[u32], signal: Signal) -> Result<(), Failure> {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).doing("end a process of the cluster"),
        }
    }
    Ok(())
}

/// Whether there are none within the time.
fn wait_for_none(timeout: Duration, look: impl Fn() -> Vec<u32>) -> bool {
    let since = time::monotonic();
    while !look().is_empty() {
        if since.elapsed() > timeout {
            return false;
        }
        std::thread::sleep(RETRY);
    }
    true
}
