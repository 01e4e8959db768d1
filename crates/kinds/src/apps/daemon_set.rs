//! DaemonSet: a pod on every node that wants one.

use super::{immutable_selector, refuse_empty, template_warnings, validate_collisions};
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Context, Descriptor, Kind, carry};
use crate::pod_template::{self, default_template};
use crate::table::{self, container_cells, container_columns, integer, string, wide};
use crate::tree::{at, child, count, default, get, set, text};
use crate::{label_selector, name};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

/// Counts the templates there were, for clients of versions that are gone.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) struct DaemonSet(Descriptor);

pub(crate) fn kind() -> DaemonSet {
    let descriptor = describe("apps", "v1", "DaemonSet", "daemonsets").short(&["ds"]).in_all();
    DaemonSet(descriptor.defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    let spec = child(object, "spec");
    default(spec, "revisionHistoryLimit", 10);
    let strategy = child(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = child(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", 1);
        default(rolling, "maxSurge", 0);
    }
    default_template(object);
}

fn set_template_generation(object: &mut Value, generation: i64) {
    set(child(child(object, "metadata"), "annotations"), TEMPLATE_GENERATION, generation.to_string());
}

impl Kind for DaemonSet {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn initial_status(&self, _object: &Value) -> Value {
        json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0})
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        let status = self.initial_status(object);
        set(object, "status", status);
        set(child(object, "metadata"), "generation", 1);
        set_template_generation(object, 1);
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "status");
        let moved = i64::from(new.get("spec") != old.get("spec"));
        set(&mut new["metadata"], "generation", count(&old["metadata"], "generation") + moved);
        // What is no number counts from the start.
        let templates = text(&old["metadata"]["annotations"], TEMPLATE_GENERATION).parse().unwrap_or(0);
        let moved = i64::from(new["spec"].get("template") != old["spec"].get("template"));
        set_template_generation(new, templates + moved);
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        gates::of_template()
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let (template, template_path) = (&spec["template"], path.child("template"));
        let selector = get(spec, "selector");
        if let Some(selector) = selector {
            label_selector::validate(selector, &path.child("selector"), &mut errors);
        }
        // Without a selector, that it does not match is all that upstream says.
        pod_template::validate_selected(template, selector, &template_path, &mut errors);
        if let Some(selector) = selector {
            refuse_empty(selector, "daemonset", &path.child("selector"), &mut errors);
        }
        pod_template::validate(template, &template_path, &mut errors);
        let spec_path = template_path.child("spec");
        pod_template::validate_endless(&template["spec"], "DaemonSet", &spec_path, &mut errors);
        check::nonnegative(spec, "minReadySeconds", &path, &mut errors);
        update_strategy(&spec["updateStrategy"], &path.child("updateStrategy"), &mut errors);
        check::nonnegative(spec, "revisionHistoryLimit", &path, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        immutable_selector(new, old, &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let counts = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        for key in counts {
            check::nonnegative(&new["status"], key, &Path::new("status"), &mut errors);
        }
        validate_collisions(&new["status"], &old["status"], &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        template_warnings(new, old)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![
            table::name(),
            integer("Desired", "How many nodes want a pod."),
            integer("Current", "How many nodes have one."),
            integer("Ready", "How many of these are ready."),
            integer("Up-to-date", "How many pods have the newest template."),
            integer("Available", "How many pods have been ready long enough."),
            string("Node Selector", "The labels of nodes that want a pod."),
            table::age(),
            containers,
            images,
            wide(string("Selector", "The labels of its pods.")),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let pod = at(spec, &["template", "spec"]);
        let [containers, images] = container_cells(pod);
        vec![
            table::name_cell(object),
            count(status, "desiredNumberScheduled").into(),
            count(status, "currentNumberScheduled").into(),
            count(status, "numberReady").into(),
            count(status, "updatedNumberScheduled").into(),
            count(status, "numberAvailable").into(),
            table::labels_cell(at(pod, &["nodeSelector"])),
            table::age_cell(object, now_s),
            containers,
            images,
            label_selector::cell(&spec["selector"]),
        ]
    }
}

fn update_strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    match (text(strategy, "type"), get(strategy, "rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(FieldError::required(&path.child("rollingUpdate"), "")),
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, &path.child("rollingUpdate"), errors),
        _ => errors.push(FieldError::not_supported(path, strategy.clone(), &["RollingUpdate", "OnDelete"])),
    }
}

fn rolling_update(rolling: &Value, path: &Path, errors: &mut Errors) {
    let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
    let (unavailable_path, surge_path) = (path.child("maxUnavailable"), path.child("maxSurge"));
    check::positive_int_or_percent(unavailable, &unavailable_path, errors);
    check::positive_int_or_percent(surge, &surge_path, errors);
    match (check::int_or_percent(unavailable) != 0, check::int_or_percent(surge) != 0) {
        (true, true) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(&surge_path, surge.clone(), detail));
        }
        (false, false) => {
            errors.push(FieldError::required(&unavailable_path, "cannot be 0 when maxSurge is 0"));
        }
        _ => {}
    }
    check::at_most_100_percent(unavailable, &unavailable_path, errors);
    check::at_most_100_percent(surge, &surge_path, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, context, created, creation, row, updated};

    fn daemon_set(spec: Value) -> Value {
        let mut object = json!({"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container("c")]}}}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        object
    }

    #[test]
    fn daemon_sets_are_filled_and_checked() {
        let stored = created(&kind(), daemon_set(json!({})));
        let strategy =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
        assert_eq!(stored["spec"]["updateStrategy"], strategy);
        assert_eq!(kind().validate(&stored), []);
        creation(
            &kind(),
            daemon_set(json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}})),
            &[
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ],
        );
        creation(
            &kind(),
            daemon_set(json!({"selector": {}})),
            &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"],
        );
        let mut new = daemon_set(json!({"selector": {"matchLabels": {"app": "b"}}}));
        new["spec"]["template"]["metadata"]["labels"]["app"] = "b".into();
        updated(
            &kind(),
            &daemon_set(json!({})),
            new,
            &["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"],
        );
    }

    #[test]
    fn templates_are_counted() {
        let old = created(&kind(), daemon_set(json!({})));
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["containers"][0]["image"] = "demo:2".into();
        kind().prepare_update(&context(None), &mut new, &old);
        assert_eq!(new["metadata"]["annotations"][TEMPLATE_GENERATION], "2");
        assert_eq!(new["metadata"]["generation"], 2);
    }

    #[test]
    fn the_row_counts() {
        let mut object = daemon_set(json!({}));
        object["status"] = json!({"desiredNumberScheduled": 2, "numberReady": 1});
        row(&kind(), object, json!(["x", 2, 0, 1, 0, 0, "<none>", "75s", "c", "demo:1", "app=a"]));
    }
}
