//! IngressClass: which controller serves ingresses of a class.

use crate::check::{self, Errors, domain_prefixed_path, messages};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::table::{self, string};
use crate::tree::{default, get, is_unset, text, with};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const MAX_CONTROLLER_BYTES: usize = 250;

pub(crate) struct IngressClass(Descriptor);

pub(crate) fn kind() -> IngressClass {
    let descriptor = describe("networking.k8s.io", "v1", "IngressClass", "ingressclasses").cluster_scoped();
    IngressClass(descriptor.defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    with(object, "spec", |spec| {
        with(spec, "parameters", |parameters| default(parameters, "scope", "Cluster"))
    });
}

impl Kind for IngressClass {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let controller = text(spec, "controller");
        if controller.len() > MAX_CONTROLLER_BYTES {
            errors.push(FieldError::too_long(&path.child("controller"), MAX_CONTROLLER_BYTES));
        }
        domain_prefixed_path(controller, &path.child("controller"), &mut errors);
        if let Some(parameters) = get(spec, "parameters") {
            check_parameters(parameters, &path.child("parameters"), &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check::immutable(&new["spec"], &old["spec"], "controller", &Path::new("spec"), &mut errors);
        errors.extend(self.validate(new));
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Controller", "Who serves ingresses of this class."),
            string("Parameters", "What says more of the class."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        let parameters = get(spec, "parameters").map_or_else(|| table::NONE.to_owned(), shown);
        vec![
            table::name_cell(object),
            text(spec, "controller").into(),
            parameters.into(),
            table::age_cell(object, now_s),
        ]
    }
}

fn shown(parameters: &Value) -> String {
    let [group, kind, name] = ["apiGroup", "kind", "name"].map(|key| text(parameters, key));
    let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    format!("{kind}/{name}")
}

/// A kind and a name that can stand in a path, and a group.
pub(super) fn check_reference(reference: &Value, path: &Path, errors: &mut Errors) {
    if get(reference, "apiGroup").is_some() {
        let group = text(reference, "apiGroup");
        messages(names::dns1123_subdomain(group), group, &path.child("apiGroup"), errors);
    }
    for key in ["kind", "name"] {
        let (value, path) = (text(reference, key), path.child(key));
        if value.is_empty() {
            errors.push(FieldError::required(&path, format!("{key} is required")));
        } else {
            messages(names::path_segment(value), value, &path, errors);
        }
    }
}

fn check_parameters(parameters: &Value, path: &Path, errors: &mut Errors) {
    check_reference(parameters, path, errors);
    if is_unset(parameters, "scope") {
        errors.push(FieldError::required(&path.child("scope"), ""));
        return;
    }
    let namespace = get(parameters, "namespace").and_then(Value::as_str);
    let field = path.child("namespace");
    match (text(parameters, "scope"), namespace) {
        ("Namespace", None) => {
            errors.push(FieldError::required(&field, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(namespace)) => {
            messages(names::dns1123_label(namespace), namespace, &field, errors)
        }
        ("Cluster", Some(_)) => {
            errors.push(FieldError::forbidden(&field, "`parameters.scope` is set to 'Cluster'"));
        }
        ("Cluster", None) => {}
        (other, _) => {
            errors.push(FieldError::not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]));
        }
    }
}
