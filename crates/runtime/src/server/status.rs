//! CRI's views of what the registry holds. It changes nothing.

use super::Inner;
use super::command;
use super::registry::{Container, Sandbox, find};
use nauplius_cri::{CriError, v1};
use std::collections::BTreeMap;

/// A sandbox's status.
pub(crate) fn sandbox(sandbox: &Sandbox) -> v1::PodSandboxStatus {
    let mut addresses = sandbox.record.addresses.iter().map(ToString::to_string);
    let network = v1::PodSandboxNetworkStatus {
        ip: addresses.next().unwrap_or_default(),
        additional_ips: addresses.map(|ip| v1::PodIp { ip }).collect(),
    };
    let options = sandbox
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref())
        .and_then(|security| security.namespace_options.clone());
    v1::PodSandboxStatus {
        id: sandbox.record.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: sandbox.cri_state().into(),
        created_at: sandbox.record.created_at,
        network: Some(network),
        linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options }) }),
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: String::new(),
    }
}

/// A sandbox as lists show it.
pub(crate) fn sandbox_item(sandbox: &Sandbox) -> v1::PodSandbox {
    v1::PodSandbox {
        id: sandbox.record.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: sandbox.cri_state().into(),
        created_at: sandbox.record.created_at,
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: String::new(),
    }
}

/// A container as lists show it.
pub(crate) fn container_item(container: &Container) -> v1::Container {
    v1::Container {
        id: container.record.id.clone(),
        pod_sandbox_id: container.record.sandbox.clone(),
        metadata: container.config.metadata.clone(),
        image: container.config.image.clone(),
        image_ref: container.record.image_ref.clone(),
        state: container.cri_state().into(),
        created_at: container.record.created_at,
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        image_id: container.record.image_id.clone(),
    }
}

impl Inner {
    /// A container's status.
    pub(crate) fn container_status(&self, container: &Container) -> v1::ContainerStatus {
        let (config, record, state) = (&container.config, &container.record, &container.state);
        let limits = config.linux.as_ref().and_then(|linux| linux.resources.clone());
        v1::ContainerStatus {
            id: record.id.clone(),
            metadata: config.metadata.clone(),
            state: container.cri_state().into(),
            created_at: record.created_at,
            started_at: state.started_at,
            finished_at: state.finished_at,
            exit_code: state.exit_code,
            image: Some(self.image_name(container)),
            image_ref: record.image_ref.clone(),
            reason: state.reason.clone(),
            message: state.message.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: log_path(container),
            resources: limits.map(|linux| v1::ContainerResources { linux: Some(linux) }),
            image_id: record.image_id.clone(),
            user: Some(v1::ContainerUser {
                linux: Some(v1::LinuxContainerUser {
                    uid: record.uid.into(),
                    gid: record.gid.into(),
                    supplemental_groups: record.groups.iter().map(|gid| i64::from(*gid)).collect(),
                }),
            }),
            stop_signal: command::signal_constant(record.stop_signal),
        }
    }

    /// What the image is called: the kubelet asks for it by id, people know it by a tag.
    fn image_name(&self, container: &Container) -> v1::ImageSpec {
        let mut spec = container.config.image.clone().unwrap_or_default();
        if !spec.user_specified_image.is_empty() {
            spec.image.clone_from(&spec.user_specified_image);
        } else if let Some(image) = self.images.get(&container.record.image_id)
            && let Some(tag) = image.repo_tags.first()
        {
            spec.image.clone_from(tag);
        }
        spec
    }

    /// Verbose information about a container.
    pub(crate) fn container_info(&self, container: &Container) -> BTreeMap<String, String> {
        let info = serde_json::json!({
            "pid": container.state.pid,
            "sandboxID": container.record.sandbox,
            "cgroup": container.record.cgroup,
            "privileged": container.record.privileged,
        });
        BTreeMap::from([("info".to_owned(), info.to_string())])
    }

    /// The full status of one container.
    pub(crate) fn status_of(
        &self,
        request: &v1::ContainerStatusRequest,
    ) -> Result<v1::ContainerStatusResponse, CriError> {
        self.read(|registry| {
            let container = find(&registry.containers, &request.container_id).ok_or_else(|| {
                CriError::not_found(format!(
                    "an error occurred when try to find container {:?}: not found",
                    request.container_id
                ))
            })?;
            let info = if request.verbose { self.container_info(container) } else { BTreeMap::new() };
            Ok(v1::ContainerStatusResponse { status: Some(self.container_status(container)), info })
        })
    }

    /// The full status of one sandbox.
    pub(crate) fn sandbox_status_of(
        &self,
        request: &v1::PodSandboxStatusRequest,
    ) -> Result<v1::PodSandboxStatusResponse, CriError> {
        self.read(|registry| {
            let found = find(&registry.sandboxes, &request.pod_sandbox_id).ok_or_else(|| {
                CriError::not_found(format!(
                    "an error occurred when try to find sandbox {:?}: not found",
                    request.pod_sandbox_id
                ))
            })?;
            let mut info = BTreeMap::new();
            if request.verbose {
                let text = serde_json::json!({ "pid": found.shim_pid, "netns": self.netns(found) });
                info.insert("info".to_owned(), text.to_string());
            }
            let containers = registry.containers_of(&found.record.id);
            Ok(v1::PodSandboxStatusResponse {
                status: Some(sandbox(found)),
                info,
                containers_statuses: containers.map(|container| self.container_status(container)).collect(),
                timestamp: nauplius_base::time::unix_nanos(),
            })
        })
    }
}

fn log_path(container: &Container) -> String {
    if container.config.log_path.is_empty() {
        return String::new();
    }
    let directory = std::path::Path::new(&container.record.log_directory);
    directory.join(&container.config.log_path).display().to_string()
}

/// Whether `labels` has every pair of `selector`.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The sandboxes that pass a filter.
pub(crate) fn keeps_sandbox(filter: Option<&v1::PodSandboxFilter>, sandbox: &Sandbox) -> bool {
    filter.is_none_or(|filter| {
        sandbox.record.id.starts_with(&filter.id)
            && filter.state.as_ref().is_none_or(|state| state.state == i32::from(sandbox.cri_state()))
            && selects(&filter.label_selector, &sandbox.config.labels)
    })
}

/// The containers that pass a filter.
pub(crate) fn keeps_container(filter: Option<&v1::ContainerFilter>, container: &Container) -> bool {
    filter.is_none_or(|filter| {
        container.record.id.starts_with(&filter.id)
            && container.record.sandbox.starts_with(&filter.pod_sandbox_id)
            && filter.state.as_ref().is_none_or(|state| state.state == i32::from(container.cri_state()))
            && selects(&filter.label_selector, &container.config.labels)
    })
}
