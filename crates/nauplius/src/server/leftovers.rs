//! What a server leaves: its lock, pods that run on, and everything that `down` and `delete` remove.

use super::network;
use crate::cluster::{self, Cluster};
use crate::failure::{Doing, Failure};
use crate::lock::{self, Lock};
use crate::memory;
use nauplius_base::time;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock that somebody else holds is tried.
const LOCK_RETRY: Duration = Duration::from_millis(20);

pub(super) fn lock_path(cluster: &Cluster) -> PathBuf {
    cluster.run_dir().join("server.lock")
}

/// The lock that a running server holds; `None` while another process has it.
///
/// # Errors
/// When the file cannot be opened.
pub fn try_lock(cluster: &Cluster) -> Result<Option<Lock>, Failure> {
    Lock::try_take(&lock_path(cluster))
}

/// Who runs as the cluster's server, in words.
pub fn server_of(cluster: &Cluster) -> String {
    lock::holder(&lock_path(cluster))
}

/// Waits until no server of the cluster runs; looks in with `meanwhile` each time that one still does, which says how long it may in all.
///
/// # Errors
/// When it still runs after that time, or `meanwhile` fails.
pub fn wait_until_stopped(
    cluster: &Cluster,
    mut meanwhile: impl FnMut() -> Result<Duration, Failure>,
) -> Result<(), Failure> {
    let since = time::monotonic();
    // A lock of another process cannot be waited for with a limit: so this looks again.
    while try_lock(cluster)?.is_none() {
        if since.elapsed() > meanwhile()? {
            return Err(Failure::new(format!(
                "the server of cluster {} does not stop: {}; see its log, {}",
                cluster.name,
                server_of(cluster),
                cluster.log_file().display()
            )));
        }
        std::thread::sleep(LOCK_RETRY);
    }
    Ok(())
}

/// The pods that run, `namespace/name`, whether or not a server does.
pub fn pods(cluster: &Cluster) -> Vec<String> {
    let shims = memory::shims(&super::node::runtime_dir(cluster));
    let name = |directory: &Path| match nauplius_runtime::sandbox_metadata(directory) {
        Ok(pod) => format!("{}/{}", pod.namespace, pod.name),
        // One that is being made, or damaged: it runs all the same.
        Err(_) => format!("sandbox {}", directory.display()),
    };
    let mut pods: Vec<String> = shims.values().map(|directory| name(directory)).collect();
    pods.sort_unstable();
    pods
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start a thread")?;
    runtime.block_on(work)
}

/// Stops containers that a server left running.
///
/// # Errors
/// When the runtime cannot be opened.
pub fn stop_leftovers(cluster: &Cluster) -> Result<(), Failure> {
    if !super::node::runtime_dir(cluster).exists() {
        return Ok(());
    }
    block_on(async {
        let node = super::node::open_alone(cluster).await?;
        node.stop_containers().await;
        node.close();
        Ok(())
    })
}

/// Takes away what only running pods need: mounts of volumes, cgroups, links, rules, settings of the machine. As after a reboot, the next
/// start makes them again. No server may run.
///
/// # Errors
/// What could not be removed.
pub fn clear(cluster: &Cluster) -> Result<(), Failure> {
    nauplius_kubelet::unmount_all(&cluster.data_dir.join("kubelet")).doing("unmount volumes")?;
    nauplius_runtime::release_cgroups(&super::node::cgroup_root(cluster)).doing("remove cgroups")?;
    nauplius_runtime::release_programs(&super::node::runtime_dir(cluster)).doing("unmount our own binary")?;
    network::remove(cluster)
}

/// Removes everything that the cluster has made on this machine. No server may run.
///
/// # Errors
/// What could not be removed.
pub fn remove_everything(cluster: &Cluster) -> Result<(), Failure> {
    if super::node::runtime_dir(cluster).exists() {
        block_on(async { super::node::open_alone(cluster).await?.destroy().await })?;
    }
    clear(cluster)?;
    remove_data(cluster)?;
    remove_tree(&cluster.run_dir())
}

/// Removes the cluster's state, and the directories that were made for it unless something else is in them by now. What was there before stays.
pub(super) fn remove_data(cluster: &Cluster) -> Result<(), Failure> {
    if cluster.made_dirs.contains(&cluster.data_dir) {
        remove_tree(&cluster.data_dir)?;
    } else {
        empty(&cluster.data_dir)?;
    }
    cluster.made_dirs.iter().try_for_each(|directory| match std::fs::remove_dir(directory) {
        Err(error) if is_harmless(&error) || error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed.map_err(|error| Failure::io("cannot remove", directory, &error)),
    })
}

/// It is gone, or somebody's disk is mounted there.
fn is_harmless(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ResourceBusy)
}

fn empty(directory: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io("cannot empty", directory, &error);
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            remove_tree(&entry.path())?;
        } else {
            cluster::remove_file(&entry.path())?;
        }
    }
    Ok(())
}

/// A directory that a disk is mounted on can be emptied, not removed: the mount is somebody else's.
pub(super) fn remove_tree(directory: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if is_harmless(&error) => Ok(()),
        removed => removed.map_err(|error| Failure::io("cannot remove", directory, &error)),
    }
}
