//! Whether a pod can be confined by AppArmor as it asks: only where the kernel has it on. Pure; the machine is looked at by `Host`.

use crate::pod::facts;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{AppArmorProfile, Pod};

/// Where the kernel says that it confines.
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
/// The annotations of before there were fields.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Whether the kernel confines processes by AppArmor.
pub fn is_on() -> bool {
    // Without the file the kernel has no AppArmor.
    std::fs::read_to_string(ENABLED).unwrap_or_default().starts_with('Y')
}

fn confines(profile: Option<&AppArmorProfile>) -> bool {
    profile.is_some_and(|profile| profile.type_ != "Unconfined")
}

/// Whether anything of the pod is to be confined.
pub fn is_required(pod: &Pod) -> bool {
    let spec = facts::spec(pod);
    let of_pod = spec.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    let contexts = facts::init_containers(pod)
        .iter()
        .chain(&spec.containers)
        .filter_map(|container| container.security_context.as_ref())
        .chain(
            spec.ephemeral_containers
                .iter()
                .flatten()
                .filter_map(|container| container.security_context.as_ref()),
        );
    let annotated = pod.meta().annotations.iter().flatten();
    confines(of_pod)
        || contexts.into_iter().any(|context| confines(context.app_armor_profile.as_ref()))
        || annotated.into_iter().any(|(key, value)| key.starts_with(ANNOTATION) && value != "unconfined")
}

/// Why the pod may not run here.
pub fn refusal(pod: &Pod, is_on: bool) -> Option<&'static str> {
    (!is_on && is_required(pod)).then_some("Cannot enforce AppArmor: AppArmor is not enabled on the host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unconfined_pod_needs_no_apparmor() {
        let profile = |type_: &str| format!(r#"{{"appArmorProfile":{{"type":"{type_}"}}}}"#);
        let plain = r#""containers":[{"name":"c"}]"#;
        for (annotations, spec, required) in [
            ("{}", plain.to_owned(), false),
            ("{}", format!(r#"{plain},"securityContext":{}"#, profile("Unconfined")), false),
            ("{}", format!(r#"{plain},"securityContext":{}"#, profile("RuntimeDefault")), true),
            (
                "{}",
                format!(r#""containers":[{{"name":"c","securityContext":{}}}]"#, profile("Localhost")),
                true,
            ),
            (
                "{}",
                format!(
                    r#"{plain},"ephemeralContainers":[{{"name":"e","securityContext":{}}}]"#,
                    profile("RuntimeDefault")
                ),
                true,
            ),
            (
                r#"{"container.apparmor.security.beta.kubernetes.io/c":"runtime/default"}"#,
                plain.to_owned(),
                true,
            ),
            (r#"{"container.apparmor.security.beta.kubernetes.io/c":"unconfined"}"#, plain.to_owned(), false),
        ] {
            let json =
                format!(r#"{{"metadata":{{"name":"p","annotations":{annotations}}},"spec":{{{spec}}}}}"#);
            let pod = Pod::decode(json.as_bytes()).unwrap();
            assert_eq!(is_required(&pod), required, "{json}");
            assert_eq!(refusal(&pod, true), None);
            let words = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
            assert_eq!(refusal(&pod, false), required.then_some(words));
        }
    }
}
