//! Security contexts as CRI takes them, container over pod, with upstream's defaults and refusals. Pure.

use crate::pod::facts;
use nauplius_cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy, security_profile::ProfileType,
};
use nauplius_kinds::api::core::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};
use std::path::Path;

const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const MASKED_MORE: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn pod_context(pod: &Pod) -> PodSecurityContext {
    facts::spec(pod).security_context.clone().unwrap_or_default()
}

fn namespaces(pod: &Pod) -> NamespaceOption {
    let spec = facts::spec(pod);
    let node_or = |host: Option<bool>, other: NamespaceMode| {
        if host == Some(true) { NamespaceMode::Node } else { other }
    };
    let pid = if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: node_or(spec.host_network, NamespaceMode::Pod).into(),
        pid: node_or(spec.host_pid, pid).into(),
        ipc: node_or(spec.host_ipc, NamespaceMode::Pod).into(),
        ..NamespaceOption::default()
    }
}

fn id(value: Option<i64>) -> Option<Int64Value> {
    value.map(|value| Int64Value { value })
}

fn selinux(options: Option<&SELinuxOptions>) -> Option<SeLinuxOption> {
    let options = options?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Some(SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    })
}

/// Unset is unconfined, as upstream without `seccompDefault`.
fn seccomp(profile: Option<&SeccompProfile>, profiles: &Path) -> SecurityProfile {
    let (profile_type, localhost_ref) = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let name = profile.and_then(|profile| profile.localhost_profile.clone()).unwrap_or_default();
            (ProfileType::Localhost, profiles.join(name).display().to_string())
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    SecurityProfile { profile_type: profile_type.into(), localhost_ref }
}

fn apparmor(profile: Option<&AppArmorProfile>) -> Option<SecurityProfile> {
    let profile = profile?;
    let (profile_type, localhost_ref) = match profile.type_.as_str() {
        "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new()),
        "Localhost" => (ProfileType::Localhost, profile.localhost_profile.clone().unwrap_or_default()),
        _ => (ProfileType::Unconfined, String::new()),
    };
    Some(SecurityProfile { profile_type: profile_type.into(), localhost_ref })
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    context.fs_group.into_iter().chain(context.supplemental_groups.clone().unwrap_or_default()).collect()
}

fn groups_policy(context: &PodSecurityContext) -> i32 {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict.into(),
        _ => SupplementalGroupsPolicy::Merge.into(),
    }
}

/// Whether any container is privileged: its sandbox must be too.
pub fn any_privileged(pod: &Pod) -> bool {
    let all = facts::init_containers(pod).iter().chain(&facts::spec(pod).containers);
    all.filter_map(|container| container.security_context.as_ref())
        .any(|context| context.privileged == Some(true))
}

/// The sandbox's context.
pub fn sandbox(pod: &Pod, profiles: &Path) -> LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        selinux_options: selinux(context.se_linux_options.as_ref()),
        run_as_user: id(context.run_as_user),
        run_as_group: id(context.run_as_group).filter(|_| context.run_as_user.is_some()),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: groups_policy(&context),
        privileged: any_privileged(pod),
        seccomp: Some(seccomp(context.seccomp_profile.as_ref(), profiles)),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// The user an image runs as when the pod names none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUser {
    /// When it is a number.
    pub uid: Option<i64>,
    /// When it is a name.
    pub name: String,
}

/// Refuses a container that must not run as root and would, or might.
///
/// # Errors
/// Upstream's text.
pub fn check_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let (context, own) = (pod_context(pod), container.security_context.clone().unwrap_or_default());
    if own.run_as_non_root.or(context.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let which = format!("(pod: {:?}, container: {})", crate::names::describe(pod), container.name);
    match own.run_as_user.or(context.run_as_user) {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {which}")),
        Some(_) => return Ok(()),
        None => {}
    }
    match (image.uid, image.name.as_str()) {
        (Some(0), _) | (None, "") => {
            Err(format!("container has runAsNonRoot and image will run as root {which}"))
        }
        (None, name) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {which}"
        )),
        (Some(_), _) => Ok(()),
    }
}

/// The container's context.
pub fn container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    profiles: &Path,
    target: Option<&str>,
) -> LinuxContainerSecurityContext {
    let mut namespaces = namespaces(pod);
    if let Some(id) = target
        && namespaces.pid() == NamespaceMode::Container
    {
        namespaces.set_pid(NamespaceMode::Target);
        namespaces.target_id = id.to_owned();
    }
    let (context, own) = (pod_context(pod), container.security_context.clone().unwrap_or_default());
    let user = own.run_as_user.or(context.run_as_user);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let mut masked = paths(&MASKED);
    masked.extend(paths(&MASKED_MORE));
    LinuxContainerSecurityContext {
        capabilities: Some(capabilities(&own)),
        privileged: own.privileged == Some(true),
        namespace_options: Some(namespaces),
        selinux_options: selinux(own.se_linux_options.as_ref().or(context.se_linux_options.as_ref())),
        run_as_user: id(user.or(image.uid)),
        run_as_group: id(own.run_as_group.or(context.run_as_group)),
        run_as_username: if user.is_none() && image.uid.is_none() {
            image.name.clone()
        } else {
            String::new()
        },
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: groups_policy(&context),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked { Vec::new() } else { masked },
        readonly_paths: if unmasked { Vec::new() } else { paths(&READ_ONLY) },
        seccomp: Some(seccomp(own.seccomp_profile.as_ref().or(context.seccomp_profile.as_ref()), profiles)),
        apparmor: apparmor(own.app_armor_profile.as_ref().or(context.app_armor_profile.as_ref())),
        ..LinuxContainerSecurityContext::default()
    }
}

fn capabilities(own: &SecurityContext) -> Capability {
    let asked = own.capabilities.clone().unwrap_or_default();
    Capability {
        add_capabilities: asked.add.unwrap_or_default(),
        drop_capabilities: asked.drop.unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::Object;

    fn pod_of(pod: &str, container: &str) -> Pod {
        let json = format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u"}},"spec":{{"securityContext":{pod},
            "containers":[{{"name":"c","securityContext":{container}}}]}}}}"#
        );
        Pod::decode(json.as_bytes()).unwrap()
    }

    #[test]
    fn the_containers_context_wins() {
        let pod = pod_of(
            r#"{"runAsUser":1,"runAsGroup":2,"fsGroup":3,"supplementalGroups":[4]}"#,
            r#"{"runAsUser":9,"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"seccompProfile":{"type":"RuntimeDefault"}}"#,
        );
        let got =
            container(&pod, &facts::spec(&pod).containers[0], &ImageUser::default(), Path::new("/p"), None);
        assert_eq!(got.run_as_user, Some(Int64Value { value: 9 }));
        assert_eq!(got.run_as_group, Some(Int64Value { value: 2 }));
        assert_eq!(got.supplemental_groups, [3, 4]);
        assert!(got.no_new_privs && !got.privileged && got.masked_paths.len() == 12);
        assert_eq!(got.capabilities.unwrap().drop_capabilities, ["ALL"]);
    }

    #[test]
    fn nothing_is_masked_where_that_was_asked_for() {
        let pod = pod_of("{}", r#"{"procMount":"Unmasked"}"#);
        let got =
            container(&pod, &facts::spec(&pod).containers[0], &ImageUser::default(), Path::new("/p"), None);
        assert!(got.masked_paths.is_empty() && got.readonly_paths.is_empty(), "{got:?}");
    }

    #[test]
    fn root_is_refused_where_it_must_be() {
        let which = r#"(pod: "p_n(u)", container: c)"#;
        let user = |uid, name: &str| ImageUser { uid, name: name.to_owned() };
        for (context, image, expected) in [
            (
                r#"{"runAsNonRoot":true}"#,
                user(Some(0), ""),
                "container has runAsNonRoot and image will run as root ",
            ),
            (
                r#"{"runAsNonRoot":true}"#,
                user(None, "web"),
                "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root ",
            ),
            (
                r#"{"runAsNonRoot":true,"runAsUser":0}"#,
                user(Some(5), ""),
                "container's runAsUser breaks non-root policy ",
            ),
        ] {
            let pod = pod_of("{}", context);
            let refused = check_non_root(&pod, &facts::spec(&pod).containers[0], &image);
            assert_eq!(refused.unwrap_err(), format!("{expected}{which}"));
        }
        let pod = pod_of(r#"{"runAsNonRoot":true}"#, "{}");
        assert_eq!(check_non_root(&pod, &facts::spec(&pod).containers[0], &user(Some(5), "")), Ok(()));
    }
}
