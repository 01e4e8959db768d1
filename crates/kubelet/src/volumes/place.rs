//! Where the things of a pod are below the kubelet's root directory, in upstream's layout. Pure.

use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Pod, Volume};
use std::path::{Path, PathBuf};

/// `<root>/pods/<uid>`
pub fn pod_directory(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

/// The directory that holds all volumes of a pod.
pub fn volumes_directory(root: &Path, uid: &str) -> PathBuf {
    pod_directory(root, uid).join("volumes")
}

/// The pod's `/etc/hosts`.
pub fn hosts_file(root: &Path, pod: &Pod) -> PathBuf {
    pod_directory(root, pod.uid()).join("etc-hosts")
}

/// Where a container's last words and the like are.
pub fn container_directory(root: &Path, pod: &Pod, container: &str) -> PathBuf {
    pod_directory(root, pod.uid()).join("containers").join(container)
}

/// What upstream calls the plugin; none for volumes that we do not make.
pub fn plugin(volume: &Volume) -> Option<&'static str> {
    let sources = [
        (volume.empty_dir.is_some(), "kubernetes.io~empty-dir"),
        (volume.config_map.is_some(), "kubernetes.io~configmap"),
        (volume.secret.is_some(), "kubernetes.io~secret"),
        (volume.projected.is_some(), "kubernetes.io~projected"),
        (volume.downward_api.is_some(), "kubernetes.io~downward-api"),
    ];
    sources.iter().find(|(is, _)| *is).map(|(_, plugin)| *plugin)
}

/// Where a volume is on the node.
pub fn volume(root: &Path, pod: &Pod, volume: &Volume) -> Option<PathBuf> {
    if let Some(host) = &volume.host_path {
        return Some(PathBuf::from(&host.path));
    }
    Some(volumes_directory(root, pod.uid()).join(plugin(volume)?).join(&volume.name))
}
