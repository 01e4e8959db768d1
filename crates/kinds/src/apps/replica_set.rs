//! ReplicaSet: pods of one template.

use super::{immutable_selector, template_warnings, validate_replicas};
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Descriptor, Kind};
use crate::pod_template::default_template;
use crate::table::{self, container_cells, container_columns, integer, string, wide};
use crate::tree::{at, child, count, default};
use crate::{label_selector, name};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

pub(crate) struct ReplicaSet(Descriptor);

pub(crate) fn kind() -> ReplicaSet {
    let descriptor = describe("apps", "v1", "ReplicaSet", "replicasets").short(&["rs"]).in_all();
    ReplicaSet(descriptor.defaults(set_defaults).scale().status().done())
}

fn set_defaults(object: &mut Value) {
    default(child(object, "spec"), "replicas", 1);
    default_template(object);
}

impl Kind for ReplicaSet {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn initial_status(&self, _object: &Value) -> Value {
        json!({"replicas": 0})
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        gates::of_template()
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for key in ["replicas", "minReadySeconds"] {
            check::nonnegative(&object["spec"], key, &Path::new("spec"), &mut errors);
        }
        validate_replicas(&object["spec"], &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        immutable_selector(new, old, &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let counts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        check::replica_counts(&new["status"], &counts, &Path::new("status"), &mut errors);
        check::nonnegative(&new["status"], "terminatingReplicas", &Path::new("status"), &mut errors);
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

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn selectable_field(&self, object: &Value, _name: &str) -> String {
        count(&object["status"], "replicas").to_string()
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![
            table::name(),
            integer("Desired", "How many pods are wanted."),
            integer("Current", "How many pods there are."),
            integer("Ready", "How many pods are ready."),
            table::age(),
            containers,
            images,
            wide(string("Selector", "The labels of its pods.")),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let [containers, images] = container_cells(at(spec, &["template", "spec"]));
        vec![
            table::name_cell(object),
            count(spec, "replicas").into(),
            count(status, "replicas").into(),
            count(status, "readyReplicas").into(),
            table::age_cell(object, now_s),
            containers,
            images,
            label_selector::cell(&spec["selector"]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, created, creation, row, subresource, updated};

    fn replica_set(app: &str) -> Value {
        json!({"metadata": {"name": "x"}, "spec": {
            "selector": {"matchLabels": {"app": app}},
            "template": {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container("c")]}},
        }})
    }

    #[test]
    fn defaults_and_checks() {
        let stored = created(&kind(), replica_set("a"));
        assert_eq!((&stored["spec"]["replicas"], &stored["status"]), (&json!(1), &json!({"replicas": 0})));
        creation(&kind(), replica_set("a"), &[]);
        let mut bad = replica_set("a");
        bad["spec"]["template"]["spec"]["activeDeadlineSeconds"] = json!(5);
        creation(
            &kind(),
            bad,
            &[
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ],
        );
        updated(
            &kind(),
            &replica_set("a"),
            replica_set("b"),
            &["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"],
        );
        let mut new = stored.clone();
        new["status"] = json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": -1});
        subresource(
            &kind(),
            "status",
            &stored,
            new,
            &["status.availableReplicas: Invalid value: -1: must be greater than or equal to 0"],
        );
    }

    #[test]
    fn the_row_counts() {
        let mut object = created(&kind(), replica_set("a"));
        object["status"] = json!({"replicas": 1, "readyReplicas": 1});
        row(&kind(), object, json!(["x", 1, 1, 1, "75s", "c", "demo:1", "app=a"]));
    }
}
