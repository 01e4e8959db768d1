//! ReplicationController: what a ReplicaSet was before.

use crate::check::{self, Errors};
use crate::describe::describe;
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Descriptor, Kind};
use crate::pod_template::{default_template, validate_for_replicas};
use crate::table::{self, container_cells, container_columns, integer, string, wide};
use crate::tree::{at, child, count, default, set, size};
use crate::{name, warnings};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

pub(crate) struct ReplicationController(Descriptor);

pub(crate) fn kind() -> ReplicationController {
    let descriptor =
        describe("", "v1", "ReplicationController", "replicationcontrollers").short(&["rc"]).in_all();
    ReplicationController(descriptor.defaults(set_defaults).scale().status().done())
}

fn set_defaults(object: &mut Value) {
    let labels = at(object, &["spec", "template", "metadata", "labels"]).clone();
    let spec = child(object, "spec");
    default(spec, "replicas", 1);
    if labels.is_object() {
        if size(spec, "selector") == 0 {
            set(spec, "selector", labels.clone());
        }
        let metadata = child(object, "metadata");
        if size(metadata, "labels") == 0 {
            set(metadata, "labels", labels);
        }
    }
    default_template(object);
}

impl Kind for ReplicationController {
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
        let (spec, path) = (&object["spec"], Path::new("spec"));
        check::nonnegative(spec, "minReadySeconds", &path, &mut errors);
        if size(spec, "selector") == 0 {
            errors.push(FieldError::required(&path.child("selector"), ""));
        }
        check::nonnegative(spec, "replicas", &path, &mut errors);
        if spec["template"].is_null() {
            errors.push(FieldError::required(&path.child("template"), ""));
            return errors;
        }
        let selector = json!({"matchLabels": spec["selector"]});
        let kind = "ReplicationController";
        validate_for_replicas(&spec["template"], Some(&selector), kind, &path.child("template"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let counts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        check::replica_counts(&new["status"], &counts, &Path::new("status"), &mut errors);
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let template = |object: &Value| at(object, &["spec", "template"]).clone();
        if old.is_some_and(|old| template(old) == template(new)) {
            return Vec::new();
        }
        let of_name = if old.is_none() { warnings::of_name(new, "Pod names and hostnames") } else { None };
        // The path is upstream's.
        let of_template = warnings::of_template(&template(new), &Path::new("template"));
        of_name.into_iter().chain(of_template).collect()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
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

    fn default_propagation(&self) -> &'static str {
        "Orphan"
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
            table::labels_cell(&spec["selector"]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, created, creation, row, updated};

    fn controller(app: &str) -> Value {
        json!({"spec": {"template": {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container("c")]}}}})
    }

    #[test]
    fn labels_come_from_the_template() {
        let stored = created(&kind(), controller("a"));
        assert_eq!(
            (&stored["spec"]["selector"], &stored["metadata"]["labels"]),
            (&json!({"app": "a"}), &json!({"app": "a"}))
        );
        creation(&kind(), controller("a"), &[]);
        creation(&kind(), json!({}), &["spec.selector: Required value", "spec.template: Required value"]);
        let mut bad = controller("a");
        bad["spec"]["selector"] = json!({"app": "b"});
        updated(
            &kind(),
            &controller("a"),
            bad,
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
            ],
        );
    }

    #[test]
    fn the_row_counts() {
        let mut object = created(&kind(), controller("a"));
        object["status"] = json!({"replicas": 1});
        row(&kind(), object, json!(["x", 1, 1, 0, "75s", "c", "demo:1", "app=a"]));
    }
}
