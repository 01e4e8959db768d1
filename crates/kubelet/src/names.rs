//! The labels and annotations by which sandboxes and containers are known to belong to pods, as upstream's kubelet writes
//! them: a restarted kubelet adopts what it finds by these. It knows no more of pods than their names.

/// The pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The pod's uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// The container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Of the container's definition.
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
/// How often the container was started before.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Where in the container its last words are.
pub const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Whether the log serves as last words.
pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// How long an orphan gets to end.
pub const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// A container's hook before its end, as JSON.
pub const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
/// A container's ports, as JSON, for hooks that name one.
pub const PORTS: &str = "io.kubernetes.container.ports";
/// That a container ends after the main ones. Upstream has no name for it.
pub const SIDECAR: &str = "nauplius.local/container.sidecar";
/// `api`: the pod came from the API server.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// What container ids begin with in the API.
pub const ID_SCHEME: &str = "nauplius://";

use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Container, Pod};
use std::collections::BTreeMap;

/// The three labels of a pod's sandbox and containers.
pub fn pod_labels(pod: &Pod) -> BTreeMap<String, String> {
    [(POD_NAME, pod.name()), (POD_NAMESPACE, pod.namespace()), (POD_UID, pod.uid())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// `name_namespace(uid)`, how upstream's messages call a pod.
pub fn describe(pod: &Pod) -> String {
    format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid())
}

/// A hash of what makes a running container outdated when it changes: name and image, as upstream picks them.
pub fn container_hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let bytes = container.name.bytes().chain([0]).chain(image.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

/// `spec.containers{web}`, where an event about a container points.
pub fn field_path(pod: &Pod, name: &str) -> String {
    use crate::pod::facts::{self, Role};
    let list = match facts::any_container(pod, name) {
        Some((_, Role::Init | Role::Sidecar)) => "initContainers",
        Some((_, Role::Ephemeral)) => "ephemeralContainers",
        _ => "containers",
    };
    format!("spec.{list}{{{name}}}")
}
