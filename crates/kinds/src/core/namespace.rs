//! Namespace: a scope of names that ends in two phases, when its spec's finalizers are gone. Emptying it is a controller's
//! task.

use crate::check::{Errors, messages};
use crate::describe::describe;
use crate::kind::{Column, Context, Descriptor, Kind, carry};
use crate::tree::{at, child, default, get, set, text, texts};
use crate::{name, table};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";
const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];
/// Namespaces that the API server needs; admission refuses to delete them.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub(crate) struct Namespace(Descriptor);

pub(crate) fn kind() -> Namespace {
    let descriptor = describe("", "v1", "Namespace", "namespaces").cluster_scoped().short(&["ns"]);
    let finalize = &["update"];
    Namespace(descriptor.defaults(set_defaults).subresource("finalize", None, finalize).status().done())
}

fn set_defaults(object: &mut Value) {
    default(child(object, "status"), "phase", "Active");
    label_with_name(object);
}

/// A namespace can be selected by its name. A generated name is known only when the object is prepared.
fn label_with_name(object: &mut Value) {
    let name = text(&object["metadata"], "name").to_owned();
    if !name.is_empty() {
        set(child(&mut object["metadata"], "labels"), NAME_LABEL, name);
    }
}

impl Kind for Namespace {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        set(object, "status", json!({"phase": "Active"}));
        label_with_name(object);
        let mut finalizers = texts(&object["spec"], "finalizers");
        if !finalizers.contains(&FINALIZER) {
            finalizers.push(FINALIZER);
        }
        let finalizers: Value = finalizers.into();
        set(child(object, "spec"), "finalizers", finalizers);
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        let finalizers = at(old, &["spec", "finalizers"]).clone();
        set(child(new, "spec"), "finalizers", finalizers);
        carry(new, old, "status");
    }

    fn prepare_subresource_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        match context.subresource {
            Some("finalize") => carry(new, old, "status"),
            _ => carry(new, old, "spec"),
        }
    }

    fn tracked(&self, subresource: &str) -> Filter {
        match subresource {
            "status" => Filter::Exclude(&[&["spec"]]),
            _ => Filter::Exclude(&[&["status"]]),
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("spec").child("finalizers");
        for finalizer in texts(&object["spec"], "finalizers") {
            check_finalizer(finalizer, &path, &mut errors);
        }
        errors
    }

    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if subresource == "finalize" {
            let path = Path::new("spec").child("finalizers");
            for (index, finalizer) in texts(&new["spec"], "finalizers").into_iter().enumerate() {
                check_finalizer(finalizer, &path.index(index), &mut errors);
            }
        } else {
            check_phase(new, &mut errors);
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::label(name, prefix)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn selectable_field(&self, object: &Value, _name: &str) -> String {
        text(&object["status"], "phase").to_owned()
    }

    fn forbids_delete(&self, object: &Value) -> Option<String> {
        let name = text(&object["metadata"], "name");
        IMMORTAL.contains(&name).then(|| "this namespace may not be deleted".to_owned())
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            table::string("Status", "Active, or Terminating while it is emptied."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let phase = text(&object["status"], "phase");
        vec![table::name_cell(object), phase.into(), table::age_cell(object, now_s)]
    }
}

fn check_finalizer(finalizer: &str, path: &Path, errors: &mut Errors) {
    messages(names::qualified_name(finalizer), finalizer, path, errors);
    if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(path, finalizer, detail));
    }
}

fn check_phase(namespace: &Value, errors: &mut Errors) {
    let phase = text(&namespace["status"], "phase");
    let (expected, detail) = if get(&namespace["metadata"], "deletionTimestamp").is_none() {
        ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
    } else {
        ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
    };
    if phase != expected {
        errors.push(FieldError::invalid(&Path::new("status").child("Phase"), phase, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, subresource, updated};

    #[test]
    fn a_new_namespace_is_labelled_active_and_finalized() {
        let namespace = created(&kind(), json!({"metadata": {"name": "n"}}));
        let expected = json!({
            "metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        assert_eq!(namespace, expected);
    }

    #[test]
    fn finalizers_are_checked_on_create_and_kept_on_update() {
        let bad = json!({"spec": {"finalizers": ["mine"]}});
        creation(
            &kind(),
            bad,
            &[
                "spec.finalizers: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
            ],
        );
        let old = created(&kind(), json!({"metadata": {"name": "n"}}));
        let mut new = json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}});
        kind().prepare_update(&crate::testing::context(None), &mut new, &old);
        assert_eq!(new["spec"]["finalizers"], json!(["kubernetes"]));
        updated(&kind(), &old, new, &[]);
    }

    #[test]
    fn finalize_writes_the_finalizers() {
        let old = created(&kind(), json!({"metadata": {"name": "n"}}));
        let mut new = json!({"metadata": {"name": "n"}, "spec": {}, "status": {"phase": "Terminating"}});
        kind().prepare_subresource_update(&crate::testing::context(Some("finalize")), &mut new, &old);
        assert_eq!(new, json!({"metadata": {"name": "n"}, "spec": {}, "status": {"phase": "Active"}}));
    }

    #[test]
    fn the_phase_goes_with_the_deletion() {
        let old = created(&kind(), json!({"metadata": {"name": "n"}}));
        let new = json!({"metadata": {"name": "n"}, "status": {"phase": "Terminating"}});
        subresource(
            &kind(),
            "status",
            &old,
            new,
            &[
                "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
            ],
        );
    }

    #[test]
    fn the_system_stays() {
        assert!(kind().forbids_delete(&json!({"metadata": {"name": "kube-system"}})).is_some());
        assert!(kind().forbids_delete(&json!({"metadata": {"name": "n"}})).is_none());
    }

    #[test]
    fn the_row_shows_the_phase() {
        row(&kind(), json!({"status": {"phase": "Terminating"}}), json!(["x", "Terminating", "75s"]));
    }
}
