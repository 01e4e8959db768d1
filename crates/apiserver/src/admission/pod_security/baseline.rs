//! The checks of the level `baseline`: what leads out of a pod, or gives it power over its node.

use super::policy::Standard;
use super::setters::{Setters, containers, listed, named, plural, quoted};
use super::{Finding, found};
use serde_json::Value;
use std::collections::BTreeSet;

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SELINUX_TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t"];
/// Kernel parameters that concern nobody else, with the minor version since which they are known not to.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn app_armor(pod: &Value, _standard: Standard) -> Option<Finding> {
    let bad = |context: &Value| {
        let type_ = &context["appArmorProfile"]["type"];
        let is_bad = !type_.is_null() && !["RuntimeDefault", "Localhost", ""].contains(&text(type_));
        is_bad.then(|| text(type_).to_owned()).into_iter().collect()
    };
    let mut setters = Setters::find(&pod["spec"], bad);
    let is_allowed =
        |profile: &str| ["", "runtime/default"].contains(&profile) || profile.starts_with("localhost/");
    let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let mut annotated: Vec<String> = annotations
        .filter(|(key, profile)| key.starts_with(APP_ARMOR) && !is_allowed(text(profile)))
        .map(|(key, profile)| format!("{key}={:?}", text(profile)))
        .collect();
    annotated.sort();
    if !annotated.is_empty() {
        setters.who.push(plural("annotation", "annotations", annotated.len()).to_owned());
    }
    let values: Vec<&String> = setters.values.iter().chain(&annotated).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let detail = |who| format!("{who} must not set AppArmor profile type to {}", quoted(&values));
    found(reason, setters.subject().map(detail))
}

/// The names of capabilities that containers add and that are not among those.
pub(super) fn added(spec: &Value, allowed: &[&str]) -> Option<String> {
    let bad = |container: &Value| -> BTreeSet<String> {
        let added = container["securityContext"]["capabilities"]["add"].as_array().into_iter().flatten();
        added.map(text).filter(|name| !allowed.contains(name)).map(str::to_owned).collect()
    };
    let names = named(spec, |container| !bad(container).is_empty());
    let values: BTreeSet<String> = containers(spec).flat_map(bad).collect();
    let detail = || {
        format!("{} must not include {} in securityContext.capabilities.add", listed(&names), quoted(&values))
    };
    (!names.is_empty()).then(detail)
}

pub(super) fn capabilities(pod: &Value, _standard: Standard) -> Option<Finding> {
    found("non-default capabilities", added(&pod["spec"], CAPABILITIES))
}

pub(super) fn host_namespaces(pod: &Value, _standard: Standard) -> Option<Finding> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let set: Vec<String> =
        fields.filter(|field| pod["spec"][*field] == true).map(|field| format!("{field}=true")).collect();
    found("host namespaces", (!set.is_empty()).then(|| set.join(", ")))
}

pub(super) fn host_path(pod: &Value, _standard: Standard) -> Option<Finding> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let names: Vec<&str> =
        volumes.filter(|volume| !volume["hostPath"].is_null()).map(|volume| text(&volume["name"])).collect();
    let detail = || format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names));
    found("hostPath volumes", (!names.is_empty()).then(detail))
}

pub(super) fn host_ports(pod: &Value, _standard: Standard) -> Option<Finding> {
    let ports = |container: &Value| -> BTreeSet<String> {
        let ports = container["ports"].as_array().into_iter().flatten();
        ports
            .filter_map(|port| port["hostPort"].as_i64())
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect()
    };
    let names = named(&pod["spec"], |container| !ports(container).is_empty());
    let all: BTreeSet<String> = containers(&pod["spec"]).flat_map(ports).collect();
    let word = plural("hostPort", "hostPorts", all.len());
    let uses = plural("uses", "use", names.len());
    let joined = all.iter().cloned().collect::<Vec<_>>().join(", ");
    found(word, (!names.is_empty()).then(|| format!("{} {uses} {word} {joined}", listed(&names))))
}

/// Hosts that a probe or a handler names: a request from the node, to wherever it says.
fn hosts(container: &Value) -> BTreeSet<String> {
    let lifecycle = &container["lifecycle"];
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
    let handlers = [&lifecycle["postStart"], &lifecycle["preStop"]];
    let actions = probes.into_iter().chain(handlers).flat_map(|own| [&own["httpGet"], &own["tcpSocket"]]);
    actions.map(|action| text(&action["host"])).filter(|host| !host.is_empty()).map(str::to_owned).collect()
}

pub(super) fn probe_hosts(pod: &Value, standard: Standard) -> Option<Finding> {
    let mut names = named(&pod["spec"], |container| !hosts(container).is_empty());
    names.sort_unstable();
    let all: BTreeSet<String> = containers(&pod["spec"]).flat_map(hosts).collect();
    let detail = || {
        let uses = plural("uses", "use", names.len());
        let word = plural("probe or lifecycle host", "probe or lifecycle hosts", all.len());
        format!("{} {uses} {word} {}", listed(&names), quoted(&all))
    };
    found("probe or lifecycle host", (standard.since(34) && !names.is_empty()).then(detail))
}

pub(super) fn privileged(pod: &Value, _standard: Standard) -> Option<Finding> {
    let names = named(&pod["spec"], |container| container["securityContext"]["privileged"] == true);
    let detail = || format!("{} must not set securityContext.privileged=true", listed(&names));
    found("privileged", (!names.is_empty()).then(detail))
}

pub(super) fn proc_mount(pod: &Value, standard: Standard) -> Option<Finding> {
    // In a user namespace of its own a pod can do less with it.
    if standard.since(34) && pod["spec"]["hostUsers"] == false {
        return None;
    }
    let bad = |container: &Value| {
        let mount = &container["securityContext"]["procMount"];
        (!mount.is_null() && mount != "Default").then(|| text(mount).to_owned())
    };
    let names = named(&pod["spec"], |container| bad(container).is_some());
    let values: BTreeSet<String> = containers(&pod["spec"]).filter_map(bad).collect();
    let detail =
        || format!("{} must not set securityContext.procMount to {}", listed(&names), quoted(&values));
    found("procMount", (!names.is_empty()).then(detail))
}

pub(super) fn se_linux(pod: &Value, standard: Standard) -> Option<Finding> {
    let is_type =
        |type_: &str| SELINUX_TYPES.contains(&type_) || (standard.since(31) && type_ == "container_engine_t");
    // What is bad, each under a letter, as types, users and roles are told of apart.
    let bad = |context: &Value| {
        let options = &context["seLinuxOptions"];
        let [type_, user, role] = ["type", "user", "role"].map(|field| text(&options[field]));
        let found = [
            (!is_type(type_)).then(|| format!("t{type_}")),
            (!user.is_empty()).then(|| "user".to_owned()),
            (!role.is_empty()).then(|| "role".to_owned()),
        ];
        found.into_iter().flatten().collect()
    };
    let setters = Setters::find(&pod["spec"], bad);
    let types: Vec<&str> = setters.values.iter().filter_map(|value| value.strip_prefix('t')).collect();
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    for field in ["user", "role"] {
        data.extend(setters.values.contains(field).then(|| format!("{field} may not be set")));
    }
    let detail = |who| format!("{who} set forbidden securityContext.seLinuxOptions: {}", data.join("; "));
    found("seLinuxOptions", setters.subject().map(detail))
}

/// Who sets a profile that switches the filter of system calls off.
pub(super) fn bad_seccomp(spec: &Value) -> Option<String> {
    let bad = |context: &Value| {
        let profile = &context["seccompProfile"];
        let is_bad =
            profile.is_object() && !["RuntimeDefault", "Localhost"].contains(&text(&profile["type"]));
        is_bad.then(|| text(&profile["type"]).to_owned()).into_iter().collect()
    };
    let setters = Setters::find(spec, bad);
    let values = quoted(&setters.values);
    setters.subject().map(|who| format!("{who} must not set securityContext.seccompProfile.type to {values}"))
}

pub(super) fn seccomp(pod: &Value, _standard: Standard) -> Option<Finding> {
    found("seccompProfile", bad_seccomp(&pod["spec"]))
}

pub(super) fn sysctls(pod: &Value, standard: Standard) -> Option<Finding> {
    let is_allowed =
        |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && standard.since(*since));
    let set = pod["spec"]["securityContext"]["sysctls"].as_array().into_iter().flatten();
    let bad: Vec<&str> = set.map(|own| text(&own["name"])).filter(|name| !is_allowed(name)).collect();
    found("forbidden sysctls", (!bad.is_empty()).then(|| bad.join(", ")))
}

pub(super) fn host_process(pod: &Value, _standard: Standard) -> Option<Finding> {
    let bad = |context: &Value| {
        let is_set = context["windowsOptions"]["hostProcess"] == true;
        is_set.then(|| "true".to_owned()).into_iter().collect()
    };
    let setters = Setters::find(&pod["spec"], bad);
    let detail = |who| format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    found("hostProcess", setters.subject().map(detail))
}
