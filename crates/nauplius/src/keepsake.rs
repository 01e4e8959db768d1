//! What it takes to clean up after a cluster whose directory, or whose entry in the machine's list, somebody has removed: its facts, and the
//! kubeconfigs that it is in. Kept beside its sockets: it goes with the cluster, or with a reboot, as does what it helps to remove.

use crate::cluster::{self, Cluster};
use crate::failure::{Doing, Failure};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const FILE: &str = "keepsake.json";

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Keepsake {
    /// The cluster's facts.
    pub cluster: Cluster,
    /// Every kubeconfig that its context was merged into.
    pub kubeconfigs: Vec<PathBuf>,
}

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join(FILE)
}

/// Keeps it, in place of what was kept.
///
/// # Errors
/// When it cannot be written.
pub fn keep(cluster: &Cluster, kubeconfigs: Vec<PathBuf>) -> Result<(), Failure> {
    let run_dir = cluster.run_dir();
    let keepsake = Keepsake { cluster: cluster.clone(), kubeconfigs };
    let text = serde_json::to_vec(&keepsake).doing("note what the cluster is")?;
    let (path, fresh) = (path(&run_dir), run_dir.join(".keepsake.new"));
    let write = || {
        std::fs::create_dir_all(&run_dir)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        std::io::Write::write_all(&mut file, &text)?;
        std::fs::rename(&fresh, &path)
    };
    write().map_err(|error| Failure::io("cannot write", &path, &error))
}

/// What is kept of the cluster of this name. What cannot be read is as good as nothing: it only ever helps.
pub fn find(name: &str) -> Option<Keepsake> {
    let bytes = std::fs::read(path(&cluster::run_dir(name))).ok()?;
    serde_json::from_slice::<Keepsake>(&bytes).ok().filter(|found| found.cluster.name == name)
}

/// Nothing runs any more that would have to be cleaned up.
///
/// # Errors
/// When it cannot be removed.
pub fn forget(cluster: &Cluster) -> Result<(), Failure> {
    cluster::remove_file(&path(&cluster.run_dir()))?;
    // A directory that others use stays.
    let _ = std::fs::remove_dir(cluster.run_dir());
    Ok(())
}
