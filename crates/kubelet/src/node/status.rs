//! The node's status: a pure function of the machine, what is left of it, the runtime's word and the status before. Reasons and words
//! are upstream's.

use super::machine::Machine;
use crate::config::Config;
use crate::eviction::Pressure;
use crate::pod::status::time;
use nauplius_base::time::Timestamp;
use nauplius_cri::v1;
use nauplius_kinds::api::Quantity;
use nauplius_kinds::api::core::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo,
};
use std::collections::BTreeMap;

/// Upstream's default hard limits for eviction.
const MEMORY_MIN: i64 = 100 << 20;
const STORAGE_MIN_PERCENT: i64 = 10;
/// As many images are told, largest first.
const IMAGES_MAX: usize = 50;
const IMAGE_NAMES_MAX: usize = 5;

/// What the runtime can do, as nodes tell it.
#[derive(Debug, Clone, Default)]
pub struct Abilities {
    features: Option<NodeFeatures>,
    handlers: Option<Vec<NodeRuntimeHandler>>,
}

impl Abilities {
    /// Those that the runtime tells beside its status.
    pub fn of(answer: &v1::StatusResponse) -> Self {
        let features = answer.features.as_ref().map(|features| NodeFeatures {
            supplemental_groups_policy: Some(features.supplemental_groups_policy),
        });
        let handler = |handler: &v1::RuntimeHandler| NodeRuntimeHandler {
            name: Some(handler.name.clone()),
            features: handler.features.as_ref().map(|features| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
        };
        let handlers: Vec<NodeRuntimeHandler> = answer.runtime_handlers.iter().map(handler).collect();
        Self { features, handlers: Some(handlers).filter(|handlers| !handlers.is_empty()) }
    }
}

/// What the status is made from.
pub struct Sources<'a> {
    /// Names and addresses.
    pub config: &'a Config,
    /// The port that is served.
    pub port: u16,
    /// The machine.
    pub machine: &'a Machine,
    /// What it is short of.
    pub pressure: Pressure,
    /// Name and version of the runtime.
    pub runtime: &'a v1::VersionResponse,
    /// The runtime's conditions, or why it gave none.
    pub runtime_status: &'a Result<v1::RuntimeStatus, String>,
    /// What the runtime can do; nothing, if it does not answer.
    pub abilities: &'a Abilities,
    /// The images on this node.
    pub images: &'a [v1::Image],
    /// The status before.
    pub before: &'a NodeStatus,
    /// The time.
    pub now: Timestamp,
}

fn amounts(pairs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, Quantity> {
    pairs.into_iter().map(|(name, text)| (name, Quantity(text))).collect()
}

fn mebibytes(bytes: i64) -> String {
    if bytes == 0 { "0".to_owned() } else { format!("{}Mi", bytes >> 20) }
}

/// What the machine has, and what of it pods may use.
pub fn resources(config: &Config, machine: &Machine) -> [BTreeMap<String, Quantity>; 2] {
    let kibibytes = |bytes: i64| format!("{}Ki", bytes / 1024);
    let common = |memory: String, storage: String| {
        let fixed = [
            ("cpu", machine.cpus.to_string()),
            ("memory", memory),
            ("ephemeral-storage", storage),
            ("pods", config.max_pods.to_string()),
        ];
        let fixed = fixed.map(|(name, amount)| (name.to_owned(), amount));
        let pages = machine.hugepages.iter().map(|(name, bytes)| (name.clone(), mebibytes(*bytes)));
        amounts(fixed.into_iter().chain(pages))
    };
    [
        common(kibibytes(machine.memory), kibibytes(machine.storage)),
        common(kibibytes(allocatable_memory(machine)), allocatable_storage(machine).to_string()),
    ]
}

/// Bytes of memory that pods may use.
pub fn allocatable_memory(machine: &Machine) -> i64 {
    let pages: i64 = machine.hugepages.values().sum();
    (machine.memory - MEMORY_MIN - pages).max(0)
}

/// Bytes of the disk that pods may use.
pub fn allocatable_storage(machine: &Machine) -> i64 {
    machine.storage - machine.storage / 100 * STORAGE_MIN_PERCENT
}

/// The status as it should be.
pub fn status(sources: &Sources<'_>) -> NodeStatus {
    let [capacity, allocatable] = resources(sources.config, sources.machine);
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", sources.config.node_ip.to_string()),
            address("Hostname", sources.config.node_name.clone()),
        ]),
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        conditions: Some(conditions(sources)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(sources.port) }),
        }),
        node_info: Some(info(sources)),
        images: Some(images(sources.images)),
        features: sources.abilities.features.clone(),
        runtime_handlers: sources.abilities.handlers.clone(),
        ..sources.before.clone()
    }
}

fn info(sources: &Sources<'_>) -> NodeSystemInfo {
    let (machine, version) = (sources.machine, &sources.config.version);
    NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!(
            "{}://{}",
            sources.runtime.runtime_name, sources.runtime.runtime_version
        ),
        kernel_version: machine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: version.clone(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: machine.os_image.clone(),
        system_uuid: machine.system_uuid.clone(),
        ..NodeSystemInfo::default()
    }
}

fn images(all: &[v1::Image]) -> Vec<ContainerImage> {
    let mut images: Vec<ContainerImage> = all
        .iter()
        .map(|image| ContainerImage {
            names: Some(
                image.repo_digests.iter().chain(&image.repo_tags).take(IMAGE_NAMES_MAX).cloned().collect(),
            ),
            size_bytes: i64::try_from(image.size).ok(), // No image is that large.
        })
        .collect();
    images.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    images.truncate(IMAGES_MAX);
    images
}

/// Status, reason and message.
type Finding = (bool, &'static str, String);

fn conditions(sources: &Sources<'_>) -> Vec<NodeCondition> {
    let either = |bad: bool, worse: (&'static str, &str), well: (&'static str, &str)| {
        let (reason, message) = if bad { worse } else { well };
        (bad, reason, message.to_owned())
    };
    let pressure = sources.pressure;
    let memory = either(
        pressure.memory,
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    );
    let disk = either(
        pressure.disk,
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    );
    let pid = either(
        pressure.pid,
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    );
    let findings =
        [("MemoryPressure", memory), ("DiskPressure", disk), ("PIDPressure", pid), ("Ready", ready(sources))];
    let before = sources.before.conditions.as_deref().unwrap_or_default();
    let mut conditions: Vec<NodeCondition> =
        findings.into_iter().map(|(type_, finding)| condition(before, type_, finding, sources.now)).collect();
    let ours = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];
    conditions.extend(before.iter().filter(|condition| !ours.contains(&condition.type_.as_str())).cloned());
    conditions
}

fn condition(before: &[NodeCondition], type_: &str, finding: Finding, now: Timestamp) -> NodeCondition {
    let (holds, reason, message) = finding;
    let status = if holds { "True" } else { "False" };
    let known = before.iter().find(|condition| condition.type_ == type_ && condition.status == status);
    NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: Some(time(now)),
        last_transition_time: known.and_then(|known| known.last_transition_time.clone()).or(Some(time(now))),
    }
}

fn ready(sources: &Sources<'_>) -> Finding {
    let problems: Vec<String> = match sources.runtime_status {
        Err(error) => vec![format!("container runtime is down: {error}")],
        Ok(status) => {
            ["RuntimeReady", "NetworkReady"].iter().filter_map(|type_| not_ready(status, type_)).collect()
        }
    };
    if problems.is_empty() {
        (true, "KubeletReady", "kubelet is posting ready status".to_owned())
    } else {
        let all = problems.join(", ");
        (false, "KubeletNotReady", if problems.len() > 1 { format!("[{all}]") } else { all })
    }
}

/// Why pods cannot have a network, if they cannot.
pub fn network_problem(status: &v1::RuntimeStatus) -> Option<String> {
    not_ready(status, "NetworkReady")
}

fn not_ready(status: &v1::RuntimeStatus, type_: &str) -> Option<String> {
    let what = if type_ == "NetworkReady" {
        "container runtime network not ready"
    } else {
        "container runtime not ready"
    };
    match status.conditions.iter().find(|condition| condition.r#type == type_) {
        Some(condition) if condition.status => None,
        Some(condition) => {
            Some(format!("{what}: {type_}=false reason:{} message:{}", condition.reason, condition.message))
        }
        None => Some(format!("{what}: condition {type_} is missing")),
    }
}

/// Whether anything but heartbeats differs.
pub fn changed(old: &NodeStatus, new: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    still(old) != still(new)
}
