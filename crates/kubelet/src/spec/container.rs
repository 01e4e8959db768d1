//! The config of one container, from its spec and what was resolved for it. Pure.

use super::{ending, env, resources, security};
use crate::names;
use crate::pod::facts;
use nauplius_cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount,
};
use nauplius_kinds::api::core::{Container, Pod};
use std::path::Path;

/// What was resolved for the container.
pub struct Resolved<'a> {
    /// How often it was started before.
    pub attempt: u32,
    /// The image's id on this node.
    pub image_id: &'a str,
    /// The image's user.
    pub image_user: &'a security::ImageUser,
    /// Its variables.
    pub environment: Vec<(String, String)>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Bytes of the machine.
    pub machine_memory: i64,
    /// Where the node's seccomp profiles are.
    pub seccomp_profiles: &'a Path,
    /// The id of the container whose processes it is to see.
    pub target: Option<&'a str>,
}

/// `<container>/<attempt>.log` below the pod's log directory.
pub fn log_path(name: &str, attempt: u32) -> String {
    format!("{name}/{attempt}.log")
}

/// The config.
///
/// # Errors
/// Upstream's text for a container that must not run as root.
pub fn config(pod: &Pod, container: &Container, resolved: Resolved<'_>) -> Result<ContainerConfig, String> {
    security::check_non_root(pod, container, resolved.image_user)?;
    let lookup = |name: &str| {
        resolved.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let words = |list: &Option<Vec<String>>| {
        list.iter().flatten().map(|word| env::expand(word, &lookup)).collect::<Vec<_>>()
    };
    let mut labels = names::pod_labels(pod);
    labels.insert(names::CONTAINER_NAME.to_owned(), container.name.clone());
    let image = container.image.clone().unwrap_or_default();
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: resolved.attempt }),
        image: Some(ImageSpec {
            image: resolved.image_id.to_owned(),
            user_specified_image: image,
            ..ImageSpec::default()
        }),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels,
        annotations: annotations(pod, container, resolved.attempt),
        log_path: log_path(&container.name, resolved.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources::container(pod, container, resolved.machine_memory)),
            security_context: Some(security::container(
                pod,
                container,
                resolved.image_user,
                resolved.seccomp_profiles,
                resolved.target,
            )),
        }),
        mounts: resolved.mounts,
        envs: resolved.environment.into_iter().map(|(key, value)| KeyValue { key, value }).collect(),
        ..ContainerConfig::default()
    })
}

fn annotations(pod: &Pod, container: &Container, attempt: u32) -> std::collections::BTreeMap<String, String> {
    let path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let own: std::collections::BTreeMap<String, String> = [
        (names::CONTAINER_HASH, names::container_hash(container)),
        (names::RESTART_COUNT, attempt.to_string()),
        (names::TERMINATION_PATH, path.to_owned()),
        (names::TERMINATION_POLICY, policy.to_owned()),
        (names::GRACE_PERIOD, facts::grace_s(pod).to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    own.into_iter().chain(ending::annotations(container)).collect()
}
