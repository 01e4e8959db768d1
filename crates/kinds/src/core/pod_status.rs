//! What the kubelet may not write into a pod's status.

use super::{container_status, pod_claim_status, pod_update};
use crate::check::{self, Errors};
use crate::tree::{at, count, get, list, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

/// Conditions whose types need no domain.
const SYSTEM_CONDITIONS: &[&str] = &["PodScheduled", "Ready", "Initialized"];

/// Errors of a status write.
pub(super) fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    pod_update::annotations(new, old, &mut errors);
    let (status, old_status, path) = (&new["status"], &old["status"], Path::new("status"));
    conditions(status, &path.child("conditions"), &mut errors);
    if at(new, &["spec", "nodeName"]) != at(old, &["spec", "nodeName"]) {
        errors.push(FieldError::forbidden(&path.child("nodeName"), "may not be changed directly"));
    }
    nominated(status, old, &path, &mut errors);
    observed(status, &path, &mut errors);
    check::immutable(status, old_status, "qosClass", &path, &mut errors);
    transitions(new, old, &path, &mut errors);
    pod_claim_status::validate(new, &path, &mut errors);
    addresses(status, old_status, "podIPs", &path, &mut errors);
    host_addresses(status, old_status, &path, &mut errors);
    container_status::validate(new, &path, &mut errors);
    errors
}

fn conditions(status: &Value, path: &Path, errors: &mut Errors) {
    for (index, condition) in list(status, "conditions").iter().enumerate() {
        observed(condition, &path.index(index), errors);
        let type_ = text(condition, "type");
        if !SYSTEM_CONDITIONS.contains(&type_) {
            check::label_name(type_, &path.index(index).child("Type"), errors);
        }
    }
}

fn observed(object: &Value, path: &Path, errors: &mut Errors) {
    let generation = count(object, "observedGeneration");
    if generation < 0 {
        let path = path.child("observedGeneration");
        errors.push(FieldError::invalid(&path, generation, "must be a non-negative integer"));
    }
}

/// A pod that has a node waits for none.
fn nominated(status: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    const KEY: &str = "nominatedNodeName";
    if text(status, KEY) == text(&old["status"], KEY) {
        return;
    }
    check::name_if_set(status, KEY, names::dns1123_subdomain, path, errors);
    if !text(&old["spec"], "nodeName").is_empty() && !text(status, KEY).is_empty() {
        let detail = "may not be set on pods that are already bound to a node";
        errors.push(FieldError::forbidden(&path.child(KEY), detail));
    }
}

/// A container that is done, and that nothing restarts, stays done.
fn transitions(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let groups = [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ];
    for (key, containers) in groups {
        let current = list(&new["status"], key);
        for (index, before) in list(&old["status"], key).iter().enumerate() {
            let name = text(before, "name");
            let Some(terminated) = get(&before["state"], "terminated") else { continue };
            let revived = |status: &&Value| {
                text(status, "name") == name && get(&status["state"], "terminated").is_none()
            };
            let restarts = restarts(&old["spec"], containers, name, count(terminated, "exitCode"));
            if !restarts && current.iter().any(|status| revived(&status)) {
                let path = path.child(key).index(index).child("state");
                errors.push(FieldError::forbidden(&path, "may not be transitioned to non-terminated state"));
            }
        }
    }
}

/// Whether a container that ended so may run again: its own rules decide, then its own policy, then the pod's.
fn restarts(spec: &Value, containers: &str, name: &str, exit_code: i64) -> bool {
    if containers.is_empty() {
        return false;
    }
    let container = list(spec, containers).iter().find(|container| text(container, "name") == name);
    let rules = container.map(|container| list(container, "restartPolicyRules")).unwrap_or_default();
    let applies = |rule: &&Value| {
        let listed = list(&rule["exitCodes"], "values").iter().any(|code| code.as_i64() == Some(exit_code));
        listed == (text(&rule["exitCodes"], "operator") == "In")
    };
    if rules.iter().any(|rule| applies(&rule)) {
        return true;
    }
    let own = container.map(|container| text(container, "restartPolicy")).filter(|own| !own.is_empty());
    match own.unwrap_or_else(|| text(spec, "restartPolicy")) {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

/// At most one address of each family. Those that were there before may have odd forms.
fn addresses(status: &Value, old: &Value, key: &str, path: &Path, errors: &mut Errors) {
    let path = path.child(key);
    let of = |status| -> Vec<&str> { list(status, key).iter().map(|item| text(item, "ip")).collect() };
    let (items, known) = (of(status), of(old));
    for (index, address) in items.iter().enumerate() {
        check::ip_or_known(address, &known, &path.index(index), errors);
    }
    if items.len() > 1 && (items.len() > 2 || !check::is_dual_stack(&items)) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&path, status[key].clone(), detail));
    }
}

fn host_addresses(status: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let Some(first) = list(status, "hostIPs").first() else { return };
    if text(first, "ip") != text(status, "hostIP") {
        let path = path.child("hostIPs").index(0).child("ip");
        errors.push(FieldError::invalid(&path, text(first, "ip"), "must be equal to `hostIP`"));
    }
    addresses(status, old, "hostIPs", path, errors);
}

#[cfg(test)]
mod tests {
    use crate::core::pod::kind;
    use crate::kind::Kind;
    use crate::testing::{container, context, created, subresource};
    use serde_json::{Value, json};

    fn pod(restart_policy: &str) -> Value {
        created(
            &kind(),
            json!({"metadata": {"name": "x"}, "spec": {"containers": [container("c")], "restartPolicy": restart_policy}}),
        )
    }

    fn status(state: Value) -> Value {
        json!({"phase": "Running", "containerStatuses": [{"name": "c", "state": state}]})
    }

    #[test]
    fn what_ended_stays_ended() {
        let check = |policy, code, expected: &[&str]| {
            let mut old = pod(policy);
            old["status"] = status(json!({"terminated": {"exitCode": code}}));
            old["status"]["qosClass"] = "BestEffort".into();
            let mut new = old.clone();
            new["status"] = status(json!({"running": {}}));
            subresource(&kind(), "status", &old, new, expected);
        };
        let refused =
            "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
        check("Always", 0, &[]);
        check("Never", 1, &[refused]);
        check("OnFailure", 1, &[]);
        check("OnFailure", 0, &[refused]);
    }

    #[test]
    fn a_container_may_have_a_policy_and_rules_of_its_own() {
        let check = |own: Value, code, expected: &[&str]| {
            let mut container = container("c");
            for (key, value) in own.as_object().into_iter().flatten() {
                container[key] = value.clone();
            }
            let spec = json!({"containers": [container], "restartPolicy": "Never"});
            let mut old = created(&kind(), json!({"metadata": {"name": "x"}, "spec": spec}));
            assert_eq!(kind().validate(&old), []);
            old["status"] = status(json!({"terminated": {"exitCode": code}}));
            old["status"]["qosClass"] = "BestEffort".into();
            let mut new = old.clone();
            new["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
            subresource(&kind(), "status", &old, new, expected);
        };
        let refused =
            "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
        let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
        check(json!({}), 1, &[refused]);
        check(json!({"restartPolicy": "Always"}), 0, &[]);
        check(json!({"restartPolicy": "Never", "restartPolicyRules": rules}), 42, &[]);
        check(json!({"restartPolicy": "Never", "restartPolicyRules": rules}), 1, &[refused]);
    }

    #[test]
    fn the_class_and_addresses_are_checked() {
        let old = pod("Always");
        let mut new = old.clone();
        new["status"] = json!({"qosClass": "Guaranteed", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "hostIP": "1.1.1.1",
            "hostIPs": [{"ip": "1.1.1.2"}]});
        subresource(
            &kind(),
            "status",
            &old,
            new,
            &[
                "status.qosClass: Invalid value: \"Guaranteed\": field is immutable",
                "status.podIPs: Invalid value: [{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family",
                "status.hostIPs[0].ip: Invalid value: \"1.1.1.2\": must be equal to `hostIP`",
            ],
        );
    }

    #[test]
    fn a_status_write_leaves_spec_and_owners() {
        let old = pod("Always");
        let mut new = old.clone();
        new["spec"]["nodeName"] = "other".into();
        new["metadata"]["ownerReferences"] = json!([{"uid": "u"}]);
        new["metadata"]["labels"] = json!({"a": "b"});
        new["status"] = json!({"phase": "Running"});
        kind().prepare_subresource_update(&context(Some("status")), &mut new, &old);
        assert_eq!(new["spec"], old["spec"]);
        assert_eq!(new["metadata"]["ownerReferences"], json!(null));
        assert_eq!(new["status"], json!({"phase": "Running", "qosClass": "BestEffort"}));
        assert_eq!(new["metadata"]["labels"], json!({"a": "b"}));
    }
}
