//! The config of a pod's sandbox. Pure.

use super::{dns, resources, security};
use crate::names;
use crate::pod::facts;
use nauplius_cri::v1::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{ContainerPort, Pod};
use std::path::Path;

/// The node's side of it.
pub struct Node<'a> {
    /// The resolver's cluster side.
    pub dns: dns::Cluster<'a>,
    /// Where pods' cgroups are.
    pub cgroup_root: &'a str,
    /// Where pods' logs are.
    pub log_root: &'a Path,
    /// Where the node's seccomp profiles are.
    pub seccomp_profiles: &'a Path,
}

/// `<root>/<namespace>_<name>_<uid>`
pub fn log_directory(root: &Path, pod: &Pod) -> std::path::PathBuf {
    root.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
}

/// The config of sandbox number `attempt`.
///
/// # Errors
/// When the hostname cannot be made.
pub fn config(pod: &Pod, attempt: u32, node: &Node<'_>) -> Result<PodSandboxConfig, String> {
    let spec = facts::spec(pod);
    let mut labels = pod.meta().labels.clone().unwrap_or_default();
    labels.extend(names::pod_labels(pod));
    let mut annotations = pod.meta().annotations.clone().unwrap_or_default();
    annotations.insert(names::CONFIG_SOURCE.to_owned(), "api".to_owned());
    annotations.insert(names::GRACE_PERIOD.to_owned(), facts::grace_s(pod).to_string());
    let hostname =
        if facts::host_network(pod) { String::new() } else { dns::kernel_hostname(pod, node.dns.domain)? };
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt,
        }),
        hostname,
        log_directory: log_directory(node.log_root, pod).display().to_string(),
        dns_config: Some(dns::resolver(pod, &node.dns)),
        port_mappings: port_mappings(pod),
        labels,
        annotations,
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: resources::cgroup_parent(node.cgroup_root, pod),
            security_context: Some(security::sandbox(pod, node.seccomp_profiles)),
            sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
            ..LinuxPodSandboxConfig::default()
        }),
    })
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    if facts::host_network(pod) {
        return Vec::new();
    }
    let sidecars = facts::init_containers(pod).iter().filter(|container| facts::is_sidecar(container));
    let containers = sidecars.chain(&facts::spec(pod).containers);
    containers.flat_map(|container| container.ports.iter().flatten()).filter_map(port_mapping).collect()
}

fn port_mapping(port: &ContainerPort) -> Option<PortMapping> {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    Some(PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port,
        host_port: port.host_port.filter(|port| *port > 0)?,
        host_ip: port.host_ip.clone().unwrap_or_default(),
    })
}
