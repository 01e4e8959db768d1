//! Where a pod may run: affinities, tolerations, spreading and gates. It checks wishes; the scheduler weighs them.

use super::spec::label_keys;
use crate::check::{self, Errors, NOT_POSITIVE, messages};
use crate::label_selector;
use crate::tree::{count, entries, get, list, number, text, texts};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks `affinity`.
pub(super) fn affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(affinity) = get(spec, "affinity") else { return };
    if let Some(node) = get(affinity, "nodeAffinity") {
        node_affinity(node, &path.child("nodeAffinity"), errors);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        if let Some(pods) = get(affinity, key) {
            pod_affinity(pods, &path.child(key), errors);
        }
    }
}

fn node_affinity(affinity: &Value, path: &Path, errors: &mut Errors) {
    if let Some(required) = get(affinity, REQUIRED) {
        node_selector(required, &path.child(REQUIRED), errors);
    }
    let path = path.child(PREFERRED);
    for (index, term) in list(affinity, PREFERRED).iter().enumerate() {
        weight(term, &path.index(index), errors);
        node_selector_term(&term["preference"], false, &path.index(index).child("preference"), errors);
    }
}

fn weight(term: &Value, path: &Path, errors: &mut Errors) {
    let weight = count(term, "weight");
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

/// Checks a node selector, of pods and of volumes.
pub(crate) fn node_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("nodeSelectorTerms");
    let terms = list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(FieldError::required(&path, "must have at least one node selector term"));
    }
    for (index, term) in terms.iter().enumerate() {
        node_selector_term(term, true, &path.index(index), errors);
    }
}

fn node_selector_term(term: &Value, checks_values: bool, path: &Path, errors: &mut Errors) {
    for (index, requirement) in list(term, "matchExpressions").iter().enumerate() {
        label_requirement(requirement, checks_values, &path.child("matchExpressions").index(index), errors);
    }
    for (index, requirement) in list(term, "matchFields").iter().enumerate() {
        field_requirement(requirement, &path.child("matchFields").index(index), errors);
    }
}

fn label_requirement(requirement: &Value, checks_values: bool, path: &Path, errors: &mut Errors) {
    let values = texts(requirement, "values");
    let values_path = path.child("values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&values_path, detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&values_path, detail));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(FieldError::required(&values_path, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"))
        }
    }
    check::label_name(text(requirement, "key"), &path.child("key"), errors);
    if checks_values {
        for (index, value) in values.iter().enumerate() {
            messages(names::label_value(value), value, &values_path.index(index), errors);
        }
    }
}

fn field_requirement(requirement: &Value, path: &Path, errors: &mut Errors) {
    let values = texts(requirement, "values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.len() != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(&path.child("values"), detail));
        }
        "In" | "NotIn" => {}
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"))
        }
    }
    let key = text(requirement, "key");
    if key != "metadata.name" {
        errors.push(FieldError::invalid(&path.child("key"), key, "not a valid field selector key"));
        return;
    }
    for (index, value) in values.iter().enumerate() {
        messages(names::dns1123_subdomain(value), value, &path.child("values").index(index), errors);
    }
}

fn pod_affinity(affinity: &Value, path: &Path, errors: &mut Errors) {
    let required = path.child(REQUIRED);
    for (index, term) in list(affinity, REQUIRED).iter().enumerate() {
        pod_affinity_term(term, &required.index(index), errors);
    }
    let preferred = path.child(PREFERRED);
    for (index, term) in list(affinity, PREFERRED).iter().enumerate() {
        let path = preferred.index(index);
        weight(term, &path, errors);
        pod_affinity_term(&term["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
    }
}

fn pod_affinity_term(term: &Value, path: &Path, errors: &mut Errors) {
    for key in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = get(term, key) {
            label_selector::validate(selector, &path.child(key), errors);
        }
    }
    for namespace in texts(term, "namespaces") {
        messages(names::dns1123_label(namespace), namespace, &path.child("namespace"), errors);
    }
    match_label_keys(term, path, errors);
    let topology = text(term, "topologyKey");
    if topology.is_empty() {
        errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
    }
    check::label_name(topology, &path.child("topologyKey"), errors);
}

/// Keys whose values the pod itself gives to the selector beside them. In a pod they are merged into the selector by now.
fn match_label_keys(term: &Value, path: &Path, errors: &mut Errors) {
    for key in ["matchLabelKeys", "mismatchLabelKeys"] {
        if list(term, key).is_empty() {
            continue;
        }
        if get(term, "labelSelector").is_none() {
            let detail = "must not be specified when labelSelector is not set";
            errors.push(FieldError::forbidden(&path.child(key), detail));
        } else {
            label_keys(term, key, path, errors);
        }
    }
    let matched = texts(term, "matchLabelKeys");
    selected_twice(&term["labelSelector"], &matched, path, errors);
    let mismatched = texts(term, "mismatchLabelKeys");
    for (index, key) in matched.into_iter().enumerate() {
        if mismatched.contains(&key) {
            let path = path.child("matchLabelKeys").index(index);
            errors.push(FieldError::invalid(
                &path,
                key,
                "exists in both matchLabelKeys and mismatchLabelKeys",
            ));
        }
    }
}

/// A selector that has a requirement for one of the keys besides that which was merged into it. The path is upstream's.
fn selected_twice(selector: &Value, keys: &[&str], path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = entries(selector, "matchLabels").map(|(key, _)| key).collect();
    for expression in list(selector, "matchExpressions") {
        let key = text(expression, "key");
        if let Some(index) = keys.iter().rposition(|other| *other == key).filter(|_| seen.contains(&key)) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path.index(index), key, detail));
        }
        seen.push(key);
    }
}

/// Checks tolerations.
pub(crate) fn tolerations(tolerations: &[Value], path: &Path, errors: &mut Errors) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let [key, operator, value, effect] =
            ["key", "operator", "value", "effect"].map(|key| text(toleration, key));
        if !key.is_empty() {
            check::label_name(key, &path.child("key"), errors);
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&path.child("operator"), operator, detail));
        }
        if get(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&path.child("effect"), effect, detail));
        }
        let operator_path = path.child("operator");
        match operator {
            "Equal" | "" => {
                let problems = names::label_value(value);
                if !problems.is_empty() {
                    errors.push(FieldError::invalid(&operator_path, value, problems.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&operator_path, value, detail));
            }
            "Exists" => {}
            // Their gate, `TaintTolerationComparisonOperators`, is off upstream.
            "Lt" | "Gt" => {
                let known = ["Equal", "Exists", "Lt", "Gt"];
                errors.push(FieldError::not_supported(&operator_path, operator, &known));
            }
            other => errors.push(FieldError::not_supported(&operator_path, other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.push(FieldError::not_supported(&path.child("effect"), effect, EFFECTS));
        }
    }
}

/// Checks the taints of a node.
pub(crate) fn taints(taints: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        let [key, value, effect] = ["key", "value", "effect"].map(|key| text(taint, key));
        check::label_name(key, &path.child("key"), errors);
        let problems = names::label_value(value);
        if !problems.is_empty() {
            errors.push(FieldError::invalid(&path.child("value"), value, problems.join(";")));
        }
        check::one_of(taint, "effect", EFFECTS, &path, errors);
        if seen.contains(&(key, effect)) {
            let mut error = FieldError::duplicate(&path, taint.clone());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
        seen.push((key, effect));
    }
}

/// Checks `readinessGates` and `schedulingGates`.
pub(super) fn gates(spec: &Value, path: &Path, errors: &mut Errors) {
    let readiness = path.child("readinessGates");
    for (index, gate) in list(spec, "readinessGates").iter().enumerate() {
        check::label_name(
            text(gate, "conditionType"),
            &readiness.index(index).child("conditionType"),
            errors,
        );
    }
    let scheduling = path.child("schedulingGates");
    let gates = list(spec, "schedulingGates").iter().map(|gate| text(gate, "name")).enumerate();
    for (index, gate) in gates.clone() {
        check::label_name(gate, &scheduling.index(index), errors);
    }
    check::duplicates(gates.map(|(index, gate)| (scheduling.index(index), gate)), errors);
}

/// Checks `topologySpreadConstraints`.
pub(super) fn topology_spread(spec: &Value, path: &Path, errors: &mut Errors) {
    let constraints = list(spec, "topologySpreadConstraints");
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        let skew = count(constraint, "maxSkew");
        if skew <= 0 {
            errors.push(FieldError::invalid(&path.child("maxSkew"), skew, NOT_POSITIVE));
        }
        let (topology, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if topology.is_empty() {
            errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.push(FieldError::not_supported(&path.child("whenUnsatisfiable"), action, &actions));
        }
        let is_same = |other: &Value| {
            text(other, "topologyKey") == topology && text(other, "whenUnsatisfiable") == action
        };
        if constraints[index + 1..].iter().any(is_same) {
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(&path, format!("{{{topology}, {action}}}")));
        }
        min_domains(constraint, action, &path.child("minDomains"), errors);
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            check::one_of_if_set(constraint, key, &["Honor", "Ignore"], &path, errors);
        }
        match_label_keys(constraint, &path, errors);
        if let Some(selector) = get(constraint, "labelSelector") {
            label_selector::validate(selector, &path.child("labelSelector"), errors);
        }
    }
}

fn min_domains(constraint: &Value, action: &str, path: &Path, errors: &mut Errors) {
    let Some(domains) = number(constraint, "minDomains") else { return };
    if domains <= 0 {
        errors.push(FieldError::invalid(path, domains, NOT_POSITIVE));
    }
    if action != "DoNotSchedule" {
        let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.push(FieldError::invalid(path, domains, detail));
    }
}
