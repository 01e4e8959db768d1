//! What a server leaves: its lock, containers that run on, and everything that `delete` removes.

use super::network;
use crate::cluster::Cluster;
use crate::failure::{Doing, Failure};
use std::fs::File;
use std::time::Duration;

/// How often a lock that somebody else holds is tried.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The lock that a running server holds; `None` while another process has it.
///
/// # Errors
/// When the file cannot be opened.
pub fn try_lock(cluster: &Cluster) -> Result<Option<File>, Failure> {
    let path = cluster.run_dir().join("server.lock");
    std::fs::create_dir_all(cluster.run_dir()).map_err(|error| Failure::io("cannot make", &path, &error))?;
    let file = File::create(&path).map_err(|error| Failure::io("cannot open", &path, &error))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(Failure::io("cannot lock", &path, &error.into())),
    }
}

/// Waits until no server of the cluster runs.
///
/// # Errors
/// When it still runs after `timeout`.
pub fn wait_until_stopped(cluster: &Cluster, timeout: Duration) -> Result<(), Failure> {
    let mut left = timeout;
    // A lock of another process cannot be waited for with a limit: so this looks again.
    while try_lock(cluster)?.is_none() {
        if left.is_zero() {
            return Err(Failure::new(format!(
                "the server of cluster {} does not stop; see its log",
                cluster.name
            )));
        }
        std::thread::sleep(LOCK_RETRY);
        left = left.saturating_sub(LOCK_RETRY);
    }
    Ok(())
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

/// Removes everything that the cluster has made on this machine. No server may run.
///
/// # Errors
/// What could not be removed.
pub fn remove_everything(cluster: &Cluster) -> Result<(), Failure> {
    if super::node::runtime_dir(cluster).exists() {
        block_on(async { super::node::open_alone(cluster).await?.destroy().await })?;
    }
    nauplius_kubelet::unmount_all(&cluster.data_dir.join("kubelet")).doing("unmount volumes")?;
    network::remove(cluster)?;
    for directory in [&cluster.data_dir, &cluster.run_dir()] {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::io("cannot remove", directory, &error));
            }
            _ => {}
        }
    }
    // Other clusters may be running: then it is not empty.
    let _ = std::fs::remove_dir("/run/nauplius");
    Ok(())
}
