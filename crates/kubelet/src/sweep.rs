//! Removes what a kubelet that was killed in the middle of its work has left of pods that nobody knows any more: directories, logs and
//! cgroups. What belongs to a known pod is not touched.

use crate::cgroup;
use crate::config::Config;
use crate::spec::resources;
use crate::volumes::teardown;
use std::path::Path;

/// The names in a directory; one that is not there is empty.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Removes what `known` does not know.
pub fn sweep(config: &Config, known: &dyn Fn(&str) -> bool) {
    for uid in names(&config.root_dir.join("pods")).iter().filter(|uid| !known(uid)) {
        if let Err(error) = teardown::pod(&config.root_dir, uid) {
            tracing::warn!(uid, %error, "the directory of an unknown pod could not be removed");
        }
    }
    for name in names(&config.log_dir) {
        // Neither namespaces nor pods have underscores in their names.
        let Some(uid) = name.splitn(3, '_').nth(2).filter(|uid| !known(uid)) else { continue };
        if let Err(error) = std::fs::remove_dir_all(config.log_dir.join(&name)) {
            tracing::warn!(uid, %error, "the logs of an unknown pod could not be removed");
        }
    }
    for uid in cgroup::pods(&config.cgroup_root).iter().filter(|uid| !known(uid)) {
        for group in resources::cgroup_parents(&config.cgroup_root, uid) {
            if let Err(error) = cgroup::remove(&group) {
                tracing::warn!(uid, %error, "the cgroup of an unknown pod could not be removed");
            }
        }
    }
}
