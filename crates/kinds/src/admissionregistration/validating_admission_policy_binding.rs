//! ValidatingAdmissionPolicyBinding: puts a policy that judges objects to use, and says what its refusals lead to.

use super::{GROUP, binding};
use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::tree::{list, texts};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const BOTH: &str = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                    response and headers serves no purpose)";

pub(crate) struct ValidatingAdmissionPolicyBinding(Descriptor);

pub(crate) fn kind() -> ValidatingAdmissionPolicyBinding {
    let plural = "validatingadmissionpolicybindings";
    let descriptor = describe(GROUP, "v1", "ValidatingAdmissionPolicyBinding", plural).cluster_scoped();
    let descriptor = descriptor.categories(&["api-extensions"]).defaults(binding::set_defaults);
    ValidatingAdmissionPolicyBinding(descriptor.done())
}

impl Kind for ValidatingAdmissionPolicyBinding {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        binding::validate(spec, &path, &mut errors);
        check_actions(spec, &path.child("validationActions"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        binding::columns()
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        binding::cells(object, now_s)
    }
}

fn check_actions(spec: &Value, path: &Path, errors: &mut Errors) {
    let actions = texts(spec, "validationActions");
    for (index, action) in actions.iter().enumerate() {
        if !ACTIONS.contains(action) {
            errors.push(FieldError::not_supported(&path.index(index), *action, ACTIONS));
        }
        if actions[..index].contains(action) {
            errors.push(FieldError::duplicate(&path.index(index), *action));
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        errors.push(FieldError::invalid(path, list(spec, "validationActions").to_vec(), BOTH));
    }
    if actions.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
}
