//! Pod: what the API server does with one: phases of its life that it alone decides (creation, binding, the grace of a
//! deletion), and who may write which part.

use super::{pod_cells, pod_resize, pod_status, pod_update};
use crate::check::Errors;
use crate::describe::{CONNECT, CREATE, describe};
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Context, Descriptor, Kind, carry};
use crate::name;
use crate::pod_requests::Shape;
use crate::pod_template::{
    Owner, default_pod, mirror_service_account, sync_app_armor, validate_annotations,
    validate_profiles_match, validate_spec,
};
use crate::tree::{child, each, flag, get, is_unset, list, number, set, text, texts, with};
use crate::warnings;
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

const GET_AND_CREATE: &[&str] = &["create", "get"];
const GET_AND_CHANGE: &[&str] = &["get", "patch", "update"];

pub(crate) struct Pod(Descriptor);

pub(crate) fn kind() -> Pod {
    let descriptor = describe("", "v1", "Pod", "pods").short(&["po"]).in_all().defaults(set_defaults);
    let descriptor = descriptor
        .subresource("attach", Some(("", "v1", "PodAttachOptions")), GET_AND_CREATE)
        .subresource("binding", Some(("", "v1", "Binding")), CREATE)
        .subresource("ephemeralcontainers", None, GET_AND_CHANGE)
        .subresource("eviction", Some(("policy", "v1", "Eviction")), CREATE)
        .subresource("exec", Some(("", "v1", "PodExecOptions")), GET_AND_CREATE)
        .subresource("log", None, &["get"])
        .subresource("portforward", Some(("", "v1", "PodPortForwardOptions")), GET_AND_CREATE)
        .subresource("proxy", Some(("", "v1", "PodProxyOptions")), CONNECT)
        .subresource("resize", None, GET_AND_CHANGE);
    Pod(descriptor.status().done())
}

fn set_defaults(object: &mut Value) {
    default_pod(child(object, "spec"));
}

impl Kind for Pod {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn initial_status(&self, pod: &Value) -> Value {
        let mut status = json!({"phase": "Pending", "qosClass": Shape::of_tree(&pod["spec"]).qos_class()});
        if !list(&pod["spec"], "schedulingGates").is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        status
    }

    fn prepare_create(&self, _context: &Context<'_>, pod: &mut Value) {
        mirror_service_account(child(pod, "spec"));
        merge_label_keys(pod);
        sync_app_armor(pod);
        let status = self.initial_status(pod);
        set(pod, "status", status);
        set(child(pod, "metadata"), "generation", 1);
    }

    fn tracked(&self, subresource: &str) -> Filter {
        match subresource {
            "status" => Filter::Exclude(&[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ]),
            "resize" => Filter::Include(&[
                &["spec", "containers", "*", "resources"],
                &["spec", "containers", "*", "resizePolicy"],
                &["spec", "initContainers", "*", "resources"],
                &["spec", "initContainers", "*", "resizePolicy"],
            ]),
            "ephemeralcontainers" => Filter::Include(&[&["spec", "ephemeralContainers"]]),
            _ => Filter::Exclude(&[&["status"]]),
        }
    }

    fn prepare_subresource_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        if context.subresource == Some("resize") {
            pod_resize::prepare(new, old);
        } else {
            pod_update::prepare_subresource(context, new, old);
        }
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        let mut all = gates::of_pod_spec(&["spec"]);
        all.extend(gates::below(
            &["status"],
            &[&["nodeAllocatableResourceClaimStatuses"], &["volumeHealth"]],
        ));
        all
    }

    fn validate(&self, pod: &Value) -> Vec<FieldError> {
        let mut errors = metadata_and_spec(pod);
        let (spec, path) = (&pod["spec"], Path::new("spec"));
        if !list(spec, "ephemeralContainers").is_empty() {
            errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
        }
        if !text(spec, "nodeName").is_empty() && !list(spec, "schedulingGates").is_empty() {
            let detail = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
        }
        validate_profiles_match(&pod["metadata"], spec, &path, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = metadata_and_spec(new);
        pod_update::validate(new, old, &mut errors);
        errors
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        match subresource {
            "status" => pod_status::validate_update(new, old),
            "resize" => pod_resize::validate(new, old, metadata_and_spec(new)),
            "ephemeralcontainers" => pod_update::validate_ephemeral(new, old, metadata_and_spec(new)),
            _ => Vec::new(),
        }
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        // An update that leaves the spec as it is repeats no warning.
        if old.is_some_and(|old| old.get("spec") == new.get("spec")) {
            return Vec::new();
        }
        let of_name = old.is_none().then(|| warnings::of_name(new, "the Pod's hostname")).flatten();
        of_name.into_iter().chain(warnings::of_pod(new)).collect()
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn selectable_field(&self, pod: &Value, name: &str) -> String {
        match name {
            "spec.hostNetwork" => flag(&pod["spec"], "hostNetwork").to_string(),
            "status.podIP" => pod_cells::ip(pod).to_owned(),
            _ => name.split_once('.').map_or("", |(part, field)| text(&pod[part], field)).to_owned(),
        }
    }

    fn grace_period_s(&self, pod: &Value, requested: Option<i64>) -> Option<i64> {
        let spec = &pod["spec"];
        let period_s = requested.or_else(|| number(spec, "terminationGracePeriodSeconds")).unwrap_or(0);
        let phase = text(&pod["status"], "phase");
        // Nobody would confirm the end of a pod that no kubelet has, and one that ended needs no time.
        if text(spec, "nodeName").is_empty() || phase == "Failed" || phase == "Succeeded" {
            return Some(0);
        }
        Some(if period_s < 0 { 1 } else { period_s })
    }

    fn columns(&self) -> Vec<Column> {
        pod_cells::columns()
    }

    fn cells(&self, pod: &Value, now_s: i64) -> Vec<Value> {
        pod_cells::cells(pod, now_s)
    }
}

/// What is asked of a pod but not of a template, besides what is asked of both.
fn metadata_and_spec(pod: &Value) -> Errors {
    let mut errors = Errors::new();
    let (metadata, spec, path) = (&pod["metadata"], &pod["spec"], Path::new("spec"));
    validate_annotations(metadata, spec, &Path::new("metadata").child("annotations"), &mut errors);
    validate_spec(spec, Owner::Pod(metadata), &path, &mut errors);
    if text(spec, "serviceAccountName").is_empty() {
        forbid_tokens(spec, &path.child("volumes"), &mut errors);
    }
    for key in ["containers", "initContainers"] {
        for (index, container) in list(spec, key).iter().enumerate() {
            crate::pod_template::trimmed_image(container, &path.child(key).index(index), &mut errors);
        }
    }
    errors
}

fn forbid_tokens(spec: &Value, path: &Path, errors: &mut Errors) {
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        for (source_index, source) in list(&volume["projected"], "sources").iter().enumerate() {
            if get(source, "serviceAccountToken").is_some() {
                let path = path.index(index).child("projected").child("sources").index(source_index);
                let detail = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(&path.child("serviceAccountToken"), detail));
            }
        }
    }
}

/// The pod's own values of `matchLabelKeys` and `mismatchLabelKeys` become requirements of the selectors beside them.
fn merge_label_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let Some(spec) = pod.get_mut("spec") else { return };
    with(spec, "affinity", |affinity| {
        for key in ["podAffinity", "podAntiAffinity"] {
            with(affinity, key, |affinity| {
                each(affinity, "requiredDuringSchedulingIgnoredDuringExecution", |term| {
                    merge_keys(term, &labels)
                });
                each(affinity, "preferredDuringSchedulingIgnoredDuringExecution", |term| {
                    with(term, "podAffinityTerm", |term| merge_keys(term, &labels));
                });
            });
        }
    });
    each(spec, "topologySpreadConstraints", |constraint| merge_keys(constraint, &labels));
}

fn merge_keys(term: &mut Value, labels: &Value) {
    if get(term, "labelSelector").is_none() {
        return;
    }
    let mut requirements = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let known = texts(term, field).into_iter().filter_map(|key| Some((key, get(labels, key)?)));
        requirements
            .extend(known.map(|(key, value)| json!({"key": key, "operator": operator, "values": [value]})));
    }
    if requirements.is_empty() {
        return;
    }
    let selector = &mut term["labelSelector"];
    let mut all = list(selector, "matchExpressions").to_vec();
    all.extend(requirements.into_iter().filter(|new| !list(selector, "matchExpressions").contains(new)));
    set(selector, "matchExpressions", all);
}

/// Why a pod cannot be bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindError {
    /// It is on its way out.
    Deleted {
        /// The pod's name.
        pod: String,
    },
    /// It has a node.
    Assigned {
        /// The pod's name.
        pod: String,
        /// The node that it has.
        node: String,
    },
    /// Someone holds it back.
    Gated {
        /// The pod's name.
        pod: String,
    },
}

impl std::fmt::Display for BindError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deleted { pod } => {
                write!(formatter, "pod {pod} is being deleted, cannot be assigned to a host")
            }
            Self::Assigned { pod, node } => {
                write!(formatter, "pod {pod} is already assigned to node \"{node}\"")
            }
            Self::Gated { pod } => write!(formatter, "pod {pod} has non-empty .spec.schedulingGates"),
        }
    }
}

impl std::error::Error for BindError {}

/// Field errors of a `Binding`.
pub fn validate_binding(binding: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (target, path) = (&binding["target"], Path::new("target"));
    let kind = text(target, "kind");
    if !kind.is_empty() && kind != "Node" {
        errors.push(FieldError::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    crate::check::required_text(target, "name", &path, &mut errors);
    errors
}

/// Gives a pod the node of a `Binding`, and its annotations.
///
/// # Errors
/// When the pod is being deleted, has a node or is held back.
pub fn bind(pod: &mut Value, binding: &Value, now: &str) -> Result<(), BindError> {
    let name = text(&pod["metadata"], "name").to_owned();
    if get(&pod["metadata"], "deletionTimestamp").is_some() {
        return Err(BindError::Deleted { pod: name });
    }
    let node = text(&pod["spec"], "nodeName");
    if !node.is_empty() {
        return Err(BindError::Assigned { node: node.to_owned(), pod: name });
    }
    if !is_unset(&pod["spec"], "schedulingGates") {
        return Err(BindError::Gated { pod: name });
    }
    set(child(pod, "spec"), "nodeName", text(&binding["target"], "name"));
    for (key, value) in crate::tree::entries(&binding["metadata"], "annotations") {
        set(child(&mut pod["metadata"], "annotations"), key, value.clone());
    }
    set_scheduled(pod, now);
    Ok(())
}

fn set_scheduled(pod: &mut Value, now: &str) {
    let generation = get(&pod["metadata"], "generation").cloned();
    let status = child(pod, "status");
    let mut conditions = list(status, "conditions").to_vec();
    let old = conditions.iter().position(|condition| text(condition, "type") == "PodScheduled");
    let mut condition = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now});
    if let Some(generation) = generation {
        set(&mut condition, "observedGeneration", generation);
    }
    match old {
        Some(index) => {
            if text(&conditions[index], "status") == "True" {
                carry(&mut condition, &conditions[index], "lastTransitionTime");
            }
            conditions[index] = condition;
        }
        None => conditions.push(condition),
    }
    set(status, "conditions", conditions);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, created, creation, refused, updated};

    pub(super) fn pod(spec: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [container("c")]}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            pod["spec"][key] = value.clone();
        }
        pod
    }

    #[test]
    fn a_new_pod_is_pending() {
        let pod = created(&kind(), pod(json!({"serviceAccountName": "robot"})));
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
        assert_eq!(pod["metadata"]["generation"], 1);
        assert_eq!(pod["spec"]["serviceAccount"], "robot");
        assert_eq!(kind().validate(&pod), []);
    }

    #[test]
    fn a_gated_pod_says_so() {
        let pod = created(&kind(), pod(json!({"schedulingGates": [{"name": "a/b"}]})));
        assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
    }

    #[test]
    fn restart_rules_and_hostnames_are_checked() {
        let mut own = container("c");
        own["restartPolicyRules"] =
            json!([{"action": "Dance"}, {"action": "Restart", "exitCodes": {"operator": "Is"}}]);
        creation(
            &kind(),
            pod(json!({"containers": [own], "hostnameOverride": "A.b", "setHostnameAsFQDN": true})),
            &[
                "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Dance\": supported values: \"Restart\"",
                "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
                "spec.containers[0].restartPolicyRules[1].exitCodes.operator: Unsupported value: \"Is\": supported values: \
                 \"In\", \"NotIn\"",
                "spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true",
                "spec.hostnameOverride: Invalid value: \"A.b\": a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        );
    }

    #[test]
    fn wrong_specs_are_refused() {
        creation(&kind(), json!({}), &["spec.containers: Required value"]);
        creation(
            &kind(),
            pod(json!({"restartPolicy": "Sometimes"})),
            &[
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        );
        creation(
            &kind(),
            pod(json!({"containers": [{"name": "A", "image": ""}]})),
            &[
                "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric \
             characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex \
             used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "spec.containers[0].image: Required value",
            ],
        );
        creation(
            &kind(),
            pod(json!({"containers": [container("a"), container("a")]})),
            &["spec.containers[1].name: Duplicate value: \"a\""],
        );
        creation(
            &kind(),
            pod(json!({"nodeName": "n", "schedulingGates": [{"name": "a"}]})),
            &["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        );
        creation(
            &kind(),
            pod(json!({"activeDeadlineSeconds": 0})),
            &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        );
    }

    #[test]
    fn wrong_parts_are_refused_with_their_paths() {
        let with = |field: &str, value: Value| {
            let mut container = container("c");
            container[field] = value;
            pod(json!({"containers": [container]}))
        };
        let check = |object: Value, expected: &str| refused(&kind(), object, expected);
        check(
            with("volumeMounts", json!([{"name": "v", "mountPath": "/v"}])),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        );
        check(
            with(
                "env",
                json!([{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            ),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        );
        check(
            with("env", json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.nme"}}}])),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.nme\": error converting \
             fieldPath: field label not supported: metadata.nme",
        );
        check(
            with("livenessProbe", json!({})),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        );
        check(
            with("livenessProbe", json!({"successThreshold": 2, "exec": {"command": ["a"]}})),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        );
        check(
            with("ports", json!([{"containerPort": 99999}])),
            "spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
        );
        check(
            with(
                "ports",
                json!([{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 80}]),
            ),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\"",
        );
        check(
            with("securityContext", json!({"allowPrivilegeEscalation": false, "privileged": true})),
            "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: \
             cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
        check(
            with("lifecycle", json!({"preStop": {"sleep": {"seconds": 60}}})),
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 60: must be non-negative and less than \
             terminationGracePeriodSeconds (30)",
        );
        check(
            pod(
                json!({"initContainers": [{"name": "i", "image": "d", "livenessProbe": {"exec": {"command": ["a"]}}}]}),
            ),
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        );
        check(
            pod(json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/a"}}]})),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        );
        check(
            pod(json!({"volumes": [{"name": "v", "secret": {}}]})),
            "spec.volumes[0].secret.secretName: Required value",
        );
        check(
            pod(json!({"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]})),
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        );
        check(
            pod(json!({"tolerations": [{"effect": "NoSchedule"}]})),
            "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \
             \"match all values and all keys\"",
        );
        check(
            pod(
                json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "k", "whenUnsatisfiable": "DoNotSchedule"}]}),
            ),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        );
        check(
            pod(json!({"dnsPolicy": "None"})),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        );
        check(
            pod(json!({"hostAliases": [{"ip": "x"}]})),
            "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
        check(
            pod(json!({"securityContext": {"sysctls": [{"name": "A"}]}})),
            "spec.securityContext.sysctls[0].name: Invalid value: \"A\": must have at most 253 characters and match regex \
             ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        );
    }

    #[test]
    fn a_full_pod_is_accepted() {
        let full = pod(json!({
            "serviceAccountName": "robot",
            "containers": [{
                "name": "c", "image": "demo:1", "command": ["/demo"], "args": ["serve"], "workingDir": "/",
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": [{"name": "A", "value": "1"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                    {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "envFrom": [{"configMapRef": {"name": "c"}}],
                "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
                "volumeMounts": [{"name": "t", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
                    {"name": "d", "mountPath": "/d", "subPath": "a"}],
                "readinessProbe": {"tcpSocket": {"port": "http"}},
                "securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
            }],
            "initContainers": [{"name": "side", "image": "demo:1", "restartPolicy": "Always",
                "startupProbe": {"exec": {"command": ["true"]}}}],
            "volumes": [{"name": "d"}, {"name": "t", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}},
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}],
            "readinessGates": [{"conditionType": "example.com/ready"}],
            "dnsConfig": {"nameservers": ["10.0.0.1"], "searches": ["a.b.", "_x.y", "."]},
        }));
        creation(&kind(), full, &[]);
    }

    #[test]
    fn only_named_fields_change() {
        let old = pod(json!({"tolerations": [{"key": "a", "operator": "Exists"}]}));
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = "demo:2".into();
        new["spec"]["tolerations"] =
            json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]);
        new["metadata"]["labels"] = json!({"a": "b"});
        updated(&kind(), &old, new, &[]);
        let mut new = old.clone();
        new["spec"]["tolerations"] = json!([]);
        updated(
            &kind(),
            &old,
            new,
            &[
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
            ],
        );
        let mut new = old.clone();
        new["spec"]["containers"] = json!([container("c"), container("d")]);
        updated(
            &kind(),
            &old,
            new,
            &["spec.containers: Forbidden: pod updates may not add or remove containers"],
        );
    }

    #[test]
    fn a_change_of_the_command_is_refused_in_upstreams_words() {
        let old = created(&kind(), pod(json!({})));
        let mut new = old.clone();
        new["spec"]["containers"][0]["command"] = json!(["sh"]);
        let errors = kind().validate_update(&new, &old);
        let text = errors.first().map(ToString::to_string).unwrap_or_default();
        let start = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
            `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
            tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn grace_is_for_pods_that_a_kubelet_has() {
        let mut running = created(&kind(), pod(json!({"nodeName": "n"})));
        assert_eq!(kind().grace_period_s(&running, None), Some(30));
        assert_eq!(kind().grace_period_s(&running, Some(5)), Some(5));
        assert_eq!(kind().grace_period_s(&running, Some(-1)), Some(1));
        running["status"]["phase"] = "Succeeded".into();
        assert_eq!(kind().grace_period_s(&running, Some(5)), Some(0));
        assert_eq!(kind().grace_period_s(&created(&kind(), pod(json!({}))), None), Some(0));
    }

    #[test]
    fn binding_gives_a_node_once() {
        let binding =
            json!({"target": {"kind": "Node", "name": "n"}, "metadata": {"annotations": {"a": "b"}}});
        let mut bound = created(&kind(), pod(json!({})));
        assert_eq!(bind(&mut bound, &binding, "2026-01-01T00:00:00Z"), Ok(()));
        assert_eq!(
            (&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]["a"]),
            (&json!("n"), &json!("b"))
        );
        assert_eq!(bound["status"]["conditions"][0]["status"], "True");
        let again = bind(&mut bound, &binding, "2026-01-01T00:00:00Z");
        assert_eq!(again.expect_err("taken").to_string(), "pod x is already assigned to node \"n\"");
        assert_eq!(validate_binding(&json!({"target": {"kind": "Pod"}})).len(), 2);
    }

    #[test]
    fn label_keys_become_requirements() {
        let term = json!({"topologyKey": "k", "labelSelector": {}, "matchLabelKeys": ["hash"], "mismatchLabelKeys": ["t"]});
        let spec =
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
        let mut object = pod(spec);
        object["metadata"]["labels"] = json!({"hash": "1", "t": "2"});
        let stored = created(&kind(), object);
        let term =
            &stored["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        let expected = json!([{"key": "hash", "operator": "In", "values": ["1"]}, {"key": "t", "operator": "NotIn", "values": ["2"]}]);
        assert_eq!(term["labelSelector"]["matchExpressions"], expected);
    }

    #[test]
    fn fields_can_be_selected() {
        let pod = created(&kind(), pod(json!({"nodeName": "n"})));
        let select = |name| kind().selectable_field(&pod, name);
        assert_eq!(select("spec.nodeName"), "n");
        assert_eq!(select("status.phase"), "Pending");
        assert_eq!(select("spec.hostNetwork"), "false");
        assert_eq!(select("status.podIP"), "");
    }
}
