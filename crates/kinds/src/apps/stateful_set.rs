//! StatefulSet: pods with numbers, each with storage of its own.

use super::{template_warnings, validate_collisions, validate_selector};
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Descriptor, Kind, carry};
use crate::pod_template::{self, default_template};
use crate::table::{self, container_cells, container_columns, string};
use crate::tree::{at, child, count, default, each, equal, get, list, text};
use crate::{name, warnings};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

const MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(crate) struct StatefulSet(Descriptor);

pub(crate) fn kind() -> StatefulSet {
    let descriptor = describe("apps", "v1", "StatefulSet", "statefulsets").short(&["sts"]).in_all();
    StatefulSet(descriptor.defaults(set_defaults).scale().status().done())
}

fn set_defaults(object: &mut Value) {
    let spec = child(object, "spec");
    default(spec, "replicas", 1);
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "revisionHistoryLimit", 10);
    let strategy = child(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        default(child(strategy, "rollingUpdate"), "partition", 0);
    }
    let retention = child(spec, "persistentVolumeClaimRetentionPolicy");
    default(retention, "whenDeleted", "Retain");
    default(retention, "whenScaled", "Retain");
    each(spec, "volumeClaimTemplates", |claim| {
        default(claim, "apiVersion", "v1");
        default(claim, "kind", "PersistentVolumeClaim");
        default(child(claim, "spec"), "volumeMode", "Filesystem");
        default(child(claim, "status"), "phase", "Pending");
    });
    default_template(object);
}

impl Kind for StatefulSet {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn initial_status(&self, _object: &Value) -> Value {
        json!({"replicas": 0, "availableReplicas": 0})
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        gates::of_template()
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate_spec(&object["spec"], true)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate_spec(&new["spec"], false);
        let mut rest = new["spec"].clone();
        MUTABLE.iter().for_each(|key| carry(&mut rest, &old["spec"], key));
        if !equal(&rest, &old["spec"]) {
            let listed: Vec<_> = MUTABLE.iter().map(|key| format!("'{key}'")).collect();
            let (last, first) = listed
                .split_last()
                .map_or((String::new(), String::new()), |(last, first)| (last.clone(), first.join(", ")));
            let detail =
                format!("updates to statefulset spec for fields other than {first} and {last} are forbidden");
            errors.push(FieldError::forbidden(&Path::new("spec"), detail));
        }
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (status, path) = (&new["status"], Path::new("status"));
        let counts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        check::replica_counts(status, &counts, &path, &mut errors);
        check::nonnegative(status, "collisionCount", &path, &mut errors);
        // Of these alone upstream names the field in full.
        for error in errors.iter_mut().filter(|error| error.detail == check::MORE_THAN_READY) {
            error.detail = "cannot be greater than status.readyReplicas".to_owned();
        }
        validate_collisions(status, &old["status"], &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::label(name, prefix)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut found = template_warnings(new, old);
        let spec = &new["spec"];
        if old.is_none_or(|old| old["spec"] != *spec) {
            let path = Path::new("spec").child("volumeClaimTemplates");
            for (index, claim) in list(spec, "volumeClaimTemplates").iter().enumerate() {
                warnings::of_claim(&claim["spec"], &path.index(index), &mut found);
            }
        }
        if count(spec, "revisionHistoryLimit") < 0 {
            let words = "a negative value retains all historical revisions; a value >= 0 is recommended";
            found.push(format!("spec.revisionHistoryLimit: {words}"));
        }
        found
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![
            table::name(),
            string("Ready", "How many of the wanted pods are ready."),
            table::age(),
            containers,
            images,
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let [containers, images] = container_cells(at(spec, &["template", "spec"]));
        let ready = format!("{}/{}", count(status, "readyReplicas"), count(spec, "replicas"));
        vec![table::name_cell(object), ready.into(), table::age_cell(object, now_s), containers, images]
    }
}

/// Checks a spec. The name of the service was no label in earlier releases, so old sets keep theirs.
fn validate_spec(spec: &Value, is_new: bool) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let management = text(spec, "podManagementPolicy");
    let management_path = path.child("podManagementPolicy");
    if management.is_empty() {
        errors.push(FieldError::required(&management_path, ""));
    } else if !["OrderedReady", "Parallel"].contains(&management) {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errors.push(FieldError::invalid(&management_path, management, detail));
    }
    update_strategy(&spec["updateStrategy"], &path.child("updateStrategy"), &mut errors);
    retention(spec, &path.child("persistentVolumeClaimRetentionPolicy"), &mut errors);
    for key in ["replicas", "minReadySeconds"] {
        check::nonnegative(spec, key, &path, &mut errors);
    }
    check::nonnegative(&spec["ordinals"], "start", &path.child("ordinals"), &mut errors);
    if is_new {
        check::name_if_set(spec, "serviceName", names::dns1123_label, &path, &mut errors);
    }
    let selector = validate_selector(spec, "statefulset", &mut errors);
    let (template, path) = (&spec["template"], path.child("template"));
    pod_template::validate_selected(template, selector, &path, &mut errors);
    pod_template::validate_metadata(template, &path, &mut errors);
    pod_template::validate_endless(&template["spec"], "StatefulSet", &path.child("spec"), &mut errors);
    errors
}

fn retention(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(policy) = get(spec, "persistentVolumeClaimRetentionPolicy") else { return };
    for key in ["whenDeleted", "whenScaled"] {
        let (value, policies) = (text(policy, key), ["Retain", "Delete"]);
        if !policies.contains(&value) {
            errors.push(FieldError::not_supported(&path.child(key), value, &policies));
        }
    }
}

fn rolling_update(rolling: &Value, path: &Path, errors: &mut Errors) {
    check::nonnegative(rolling, "partition", path, errors);
    if let Some(unavailable) = get(rolling, "maxUnavailable") {
        let path = path.child("maxUnavailable");
        check::positive_int_or_percent(unavailable, &path, errors);
        if check::int_or_percent(unavailable) == 0 {
            errors.push(FieldError::invalid(&path, unavailable.clone(), "cannot be 0"));
        }
        check::at_most_100_percent(unavailable, &path, errors);
    }
}

fn update_strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    match (text(strategy, "type"), get(strategy, "rollingUpdate")) {
        ("", _) => errors.push(FieldError::required(path, "")),
        ("OnDelete", Some(_)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(
                &path.child("rollingUpdate"),
                strategy["rollingUpdate"].clone(),
                detail,
            ));
        }
        ("OnDelete", None) | ("RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, &path.child("rollingUpdate"), errors),
        _ => {
            errors.push(FieldError::invalid(path, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, created, creation, row, updated};

    fn stateful_set(spec: Value) -> Value {
        let mut object = json!({"metadata": {"name": "x"}, "spec": {"serviceName": "s", "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container("c")]}}}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        object
    }

    #[test]
    fn stateful_sets_are_filled_and_checked() {
        let stored = created(&kind(), stateful_set(json!({})));
        assert_eq!(
            stored["spec"]["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
        );
        assert_eq!(
            (&stored["spec"]["podManagementPolicy"], &stored["spec"]["replicas"]),
            (&json!("OrderedReady"), &json!(1))
        );
        assert_eq!(kind().validate(&stored), []);
        creation(
            &kind(),
            stateful_set(json!({"podManagementPolicy": "Random"})),
            &["spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'"],
        );
    }

    #[test]
    fn the_service_stays() {
        updated(
            &kind(),
            &stateful_set(json!({})),
            stateful_set(json!({"serviceName": "t"})),
            &[
                "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ],
        );
        updated(&kind(), &stateful_set(json!({})), stateful_set(json!({"replicas": 3})), &[]);
    }

    #[test]
    fn the_row_counts() {
        let mut object = stateful_set(json!({"replicas": 3}));
        object["status"] = json!({"readyReplicas": 2});
        row(&kind(), object, json!(["x", "2/3", "75s", "c", "demo:1"]));
    }
}
