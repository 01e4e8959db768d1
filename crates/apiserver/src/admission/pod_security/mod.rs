//! PodSecurity: pods keep to the level that their namespace's labels ask for, and templates of pods that would not are warned of. The
//! levels and their checks are upstream's pod security standards.

mod baseline;
mod policy;
mod restricted;
mod setters;

use super::lookup::{object, objects};
use super::{Operation, Review, Validate};
use crate::cache::Caches;
use crate::error::ApiResult;
use futures_util::future::BoxFuture;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupKind;
use policy::{Level, Policy, Standard, mistakes};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is said of a pod by one check: in short, and at length.
struct Finding {
    reason: &'static str,
    detail: String,
}

type Check = fn(&Value, Standard) -> Option<Finding>;

/// Checks of both levels, in the order in which they speak.
const BASELINE: &[Check] = &[
    baseline::app_armor,
    baseline::host_namespaces,
    baseline::host_ports,
    baseline::probe_hosts,
    baseline::privileged,
    baseline::proc_mount,
    baseline::se_linux,
    baseline::sysctls,
    baseline::host_process,
];
/// Checks that a stricter one of the level above stands in for, and before which of the others they speak.
const ONLY_BASELINE: &[(usize, Check)] =
    &[(1, baseline::capabilities), (2, baseline::host_path), (7, baseline::seccomp)];
const RESTRICTED: &[Check] = &[
    restricted::privilege_escalation,
    restricted::capabilities,
    restricted::volumes,
    restricted::non_root,
    restricted::user,
    restricted::seccomp,
];
/// Objects that hold a template of pods: group, resource, and where the template is.
const TEMPLATES: &[(&str, &str, &str)] = &[
    ("", "podtemplates", "/template"),
    ("", "replicationcontrollers", "/spec/template"),
    ("apps", "daemonsets", "/spec/template"),
    ("apps", "deployments", "/spec/template"),
    ("apps", "replicasets", "/spec/template"),
    ("apps", "statefulsets", "/spec/template"),
    ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
    ("batch", "jobs", "/spec/template"),
];
/// Subresources of pods that bring a whole pod.
const POD_BODIES: [&str; 3] = ["", "ephemeralcontainers", "resize"];
/// How many pods of a namespace are looked at when it becomes stricter.
const MAX_PODS: usize = 3000;

fn found(reason: &'static str, detail: Option<String>) -> Option<Finding> {
    detail.map(|detail| Finding { reason, detail })
}

/// What a standard finds wrong with a pod or with a template of pods.
fn evaluate(standard: Standard, pod: &Value) -> Vec<Finding> {
    let mut checks: Vec<Check> = Vec::new();
    if standard.level >= Level::Baseline {
        checks.extend(BASELINE);
    }
    match standard.level {
        Level::Restricted => checks.extend(RESTRICTED),
        Level::Baseline => {
            // From the last on, so that the places of those before stay.
            for (place, check) in ONLY_BASELINE.iter().rev() {
                checks.insert(*place, *check);
            }
        }
        Level::Privileged => {}
    }
    checks.into_iter().filter_map(|check| check(pod, standard)).collect()
}

fn at_length(findings: &[Finding]) -> String {
    findings.iter().map(|own| format!("{} ({})", own.reason, own.detail)).collect::<Vec<_>>().join(", ")
}

/// The plugin.
pub struct PodSecurity {
    caches: Arc<Caches>,
}

impl PodSecurity {
    /// Looks namespaces and pods up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    async fn policy(&self, namespace: &str) -> ApiResult<Policy> {
        let namespace = object(&self.caches, ("", "namespaces"), "", namespace).await?.unwrap_or_default();
        Ok(Policy::of(&namespace["metadata"]["labels"]))
    }

    async fn check_pod(&self, review: &Review<'_>, pod: &Value) -> ApiResult<()> {
        let policy = self.policy(review.namespace).await?;
        let findings = evaluate(policy.enforce, pod);
        if !findings.is_empty() {
            let message = format!("violates PodSecurity \"{}\": {}", policy.enforce, at_length(&findings));
            return Err(review.forbidden(Some(pod), message));
        }
        warn(review, policy, pod);
        Ok(())
    }

    async fn check_template(&self, review: &Review<'_>, template: &Value) -> ApiResult<()> {
        warn(review, self.policy(review.namespace).await?, template);
        Ok(())
    }

    /// Labels must say something that is known, and who makes a namespace stricter hears of pods that would not be let in now.
    fn check_namespace(&self, review: &Review<'_>, namespace: &Value, old: Option<&Value>) -> ApiResult<()> {
        let labels = &namespace["metadata"]["labels"];
        let (errors, before) = (mistakes(labels), old.map(|old| &old["metadata"]["labels"]));
        let is_new = before.is_none_or(|before| mistakes(before) != errors);
        if !errors.is_empty() && is_new {
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
            return Err(ApiError::invalid(&GroupKind::new("", "Namespace"), name, errors));
        }
        if let Some(before) = before.map(Policy::of) {
            self.warn_of_pods(review, Policy::of(labels).enforce, before.enforce);
        }
        Ok(())
    }

    fn warn_of_pods(&self, review: &Review<'_>, new: Standard, old: Standard) {
        if new == old || (new.minor == old.minor && new.level <= old.level) {
            return;
        }
        let pods = objects(&self.caches, "", "pods", review.name);
        let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for pod in pods.iter().take(MAX_PODS) {
            let reasons: Vec<_> = evaluate(new, pod).iter().map(|own| own.reason).collect();
            if !reasons.is_empty() {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                by_reason.entry(reasons.join(", ")).or_default().push(name);
            }
        }
        if by_reason.is_empty() {
            return;
        }
        let name = review.name;
        review.warnings.add(format!(
            "existing pods in namespace \"{name}\" violate the new PodSecurity enforce level \"{new}\""
        ));
        let mut warnings: Vec<String> =
            by_reason.iter().map(|(reason, names)| pods_warning(reason, names)).collect();
        warnings.sort();
        warnings.into_iter().for_each(|warning| review.warnings.add(warning));
    }
}

fn pods_warning(reason: &str, names: &[&str]) -> String {
    let first = names.iter().min().copied().unwrap_or_default();
    match names.len() {
        1 => format!("{first}: {reason}"),
        2 => format!("{first} (and 1 other pod): {reason}"),
        count => format!("{first} (and {} other pods): {reason}", count - 1),
    }
}

fn warn(review: &Review<'_>, policy: Policy, pod: &Value) {
    let findings = evaluate(policy.warn, pod);
    if !findings.is_empty() {
        let standard = policy.warn;
        review.warnings.add(format!("would violate PodSecurity \"{standard}\": {}", at_length(&findings)));
    }
}

/// Whether an update touches what the standards look at: of a pod, only images and containers that are added.
fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value| -> Vec<Value> {
        let of = setters::containers(&pod["spec"]);
        of.map(|container| json!([container["name"], container["image"]])).collect()
    };
    images(new) != images(old)
}

impl Validate for PodSecurity {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            let is_write = matches!(review.operation, Operation::Create | Operation::Update);
            let Some(object) = object.filter(|_| is_write) else { return Ok(()) };
            let (group, resource) = (review.resource.group.as_str(), review.resource.resource.as_str());
            match (group, resource) {
                ("", "namespaces") if review.subresource.is_empty() => {
                    self.check_namespace(review, object, old)
                }
                ("", "pods") if POD_BODIES.contains(&review.subresource) => {
                    if old.is_none_or(|old| is_significant(object, old)) {
                        return self.check_pod(review, object).await;
                    }
                    Ok(())
                }
                _ if review.subresource.is_empty() => {
                    let known = TEMPLATES.iter().find(|known| (known.0, known.1) == (group, resource));
                    match known.and_then(|known| object.pointer(known.2)) {
                        Some(template) => self.check_template(review, template).await,
                        None => Ok(()),
                    }
                }
                _ => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(level: Level, spec: Value) -> String {
        let pod = json!({"metadata": {"annotations": {}}, "spec": spec});
        at_length(&evaluate(Standard { level, minor: None }, &pod))
    }

    #[test]
    fn the_baseline_speaks_as_upstreams() {
        let check = |spec: Value, expected: &str| assert_eq!(said(Level::Baseline, spec), expected);
        check(json!({"containers": [{"name": "a"}]}), "");
        check(
            json!({
                "hostNetwork": true, "hostPID": true,
                "volumes": [{"name": "v", "hostPath": {}}],
                "securityContext": {"seccompProfile": {"type": "Unconfined"}, "sysctls": [{"name": "kernel.x"}]},
                "initContainers": [{"name": "i", "ports": [{"hostPort": 80}]}],
                "containers": [{
                    "name": "a",
                    "ports": [{"hostPort": 443}],
                    "livenessProbe": {"httpGet": {"host": "h"}},
                    "securityContext": {
                        "privileged": true, "procMount": "Unmasked",
                        "capabilities": {"add": ["SYS_ADMIN", "CHOWN"]},
                        "appArmorProfile": {"type": "Unconfined"},
                        "seLinuxOptions": {"type": "t", "user": "u"},
                        "windowsOptions": {"hostProcess": true},
                    },
                }],
            }),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\"), \
             non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add), \
             host namespaces (hostNetwork=true, hostPID=true), \
             hostPath volumes (volume \"v\"), \
             hostPorts (containers \"i\", \"a\" use hostPorts 443, 80), \
             probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\"), \
             privileged (container \"a\" must not set securityContext.privileged=true), \
             procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\"), \
             seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"t\"; user may not be set), \
             seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\"), \
             forbidden sysctls (kernel.x), \
             hostProcess (container \"a\" must not set securityContext.windowsOptions.hostProcess=true)",
        );
    }

    #[test]
    fn the_restricted_level_speaks_as_upstreams() {
        let check = |spec: Value, expected: &str| assert_eq!(said(Level::Restricted, spec), expected);
        check(
            json!({"containers": [{"name": "nginx"}]}),
            "allowPrivilegeEscalation != false (container \"nginx\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"nginx\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"nginx\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"nginx\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\")",
        );
        let sound = json!({
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        check(json!({"containers": [{"name": "a", "securityContext": sound}]}), "");
        check(
            json!({
                "securityContext": {"runAsUser": 0},
                "volumes": [{"name": "v", "nfs": {}}, {"name": "w", "hostPath": {}}],
                "containers": [{"name": "a", "securityContext": sound}],
            }),
            "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\"), \
             runAsUser=0 (pod must not set runAsUser=0)",
        );
    }

    #[test]
    fn what_is_checked_depends_on_the_version() {
        let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}});
        let reasons = |minor| {
            let standard = Standard { level: Level::Restricted, minor: Some(minor) };
            evaluate(standard, &pod).iter().map(|own| own.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(5), ["runAsNonRoot != true"]);
        assert_eq!(
            reasons(20),
            ["allowPrivilegeEscalation != false", "runAsNonRoot != true", "seccompProfile"]
        );
    }
}
