//! What a pod's spec says, with its defaults: policies, graces, which containers there are and in which role. Pure.

use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Container, EphemeralContainer, Pod, PodSpec};
use std::borrow::Cow;

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next.
    Init,
    /// An init container that keeps running.
    Sidecar,
    /// One of `spec.containers`.
    Main,
    /// Added to a running pod to look at it; never started twice.
    Ephemeral,
}

/// The least time between asking a container to end and killing it, whatever grace there is.
pub const MIN_GRACE_S: i64 = 2;
const DEFAULT_GRACE_S: i64 = 30;

/// The spec; pods of the API always have one.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// The init containers, in order.
pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// Whether an init container keeps running.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The ephemeral containers, in the order they were added.
pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod).ephemeral_containers.as_deref().unwrap_or_default()
}

/// An ephemeral container as any other: the fields that both have.
pub fn plain(ephemeral: &EphemeralContainer) -> Container {
    Container {
        name: ephemeral.name.clone(),
        image: ephemeral.image.clone(),
        command: ephemeral.command.clone(),
        args: ephemeral.args.clone(),
        working_dir: ephemeral.working_dir.clone(),
        env: ephemeral.env.clone(),
        env_from: ephemeral.env_from.clone(),
        volume_mounts: ephemeral.volume_mounts.clone(),
        volume_devices: ephemeral.volume_devices.clone(),
        termination_message_path: ephemeral.termination_message_path.clone(),
        termination_message_policy: ephemeral.termination_message_policy.clone(),
        image_pull_policy: ephemeral.image_pull_policy.clone(),
        security_context: ephemeral.security_context.clone(),
        stdin: ephemeral.stdin,
        stdin_once: ephemeral.stdin_once,
        tty: ephemeral.tty,
        ..Container::default()
    }
}

/// The container in whose process namespace an ephemeral one runs.
pub fn target_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let ephemeral = ephemeral_containers(pod).iter().find(|container| container.name == name)?;
    ephemeral.target_container_name.as_deref().filter(|target| !target.is_empty())
}

/// The container of that name among those that the pod began with, with its role.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<(&'a Container, Role)> {
    let init = init_containers(pod)
        .iter()
        .map(|container| (container, if is_sidecar(container) { Role::Sidecar } else { Role::Init }));
    let main = spec(pod).containers.iter().map(|container| (container, Role::Main));
    init.chain(main).find(|(container, _)| container.name == name)
}

/// As [`container`], and among those that were added since.
pub fn any_container<'a>(pod: &'a Pod, name: &str) -> Option<(Cow<'a, Container>, Role)> {
    if let Some((container, role)) = container(pod, name) {
        return Some((Cow::Borrowed(container), role));
    }
    let ephemeral = ephemeral_containers(pod).iter().find(|container| container.name == name)?;
    Some((Cow::Owned(plain(ephemeral)), Role::Ephemeral))
}

/// `Always`, `OnFailure` or `Never`.
pub fn restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

/// Whether a container that ended so is started again.
pub fn restarts(pod: &Pod, container: &Container, role: Role, exit_code: i32) -> bool {
    match role {
        Role::Sidecar => return true,
        Role::Ephemeral => return false,
        Role::Init | Role::Main => {}
    }
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.as_deref().unwrap_or_default().contains(&exit_code);
        if listed == (codes.operator == "In") {
            return rule.action == "Restart";
        }
    }
    let policy = container.restart_policy.as_deref().unwrap_or_else(|| restart_policy(pod));
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        // An init container that succeeded is done whatever the policy.
        _ => role == Role::Main || exit_code != 0,
    }
}

/// Whether a container that is killed because it failed comes up again.
pub fn restarts_on_failure(pod: &Pod, container: &Container) -> bool {
    container.restart_policy.as_deref().unwrap_or_else(|| restart_policy(pod)) != "Never"
}

/// The seconds a pod gets to end: what its deletion says, else its spec.
pub fn grace_s(pod: &Pod) -> i64 {
    let deletion = pod.meta().deletion_grace_period_seconds;
    deletion.or(spec(pod).termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE_S).max(0)
}

/// Whether it is on the host's network.
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

/// Whether the API has it as ended.
pub fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether it is being deleted.
pub fn deleting(pod: &Pod) -> bool {
    pod.meta().deletion_timestamp.is_some()
}

/// The sysctls that a pod may set without the node's consent, as upstream lists them for this kernel.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// The first sysctl that the pod may not set.
pub fn forbidden_sysctl(pod: &Pod) -> Option<String> {
    let context = spec(pod).security_context.as_ref()?;
    let names = context.sysctls.iter().flatten().map(|sysctl| sysctl.name.replace('/', "."));
    names.into_iter().find(|name| !SAFE_SYSCTLS.contains(&name.as_str()))
}
