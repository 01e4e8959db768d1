//! ValidatingAdmissionPolicyBinding: puts a policy to use that objects must satisfy, and says what comes of a failure.

use super::GROUP;
use super::binding;
use super::registration::Registration;
use crate::check::Errors;
use crate::describe::describe;
use crate::tree::{list, texts};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const BOTH: &str = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                    response and headers serves no purpose)";

pub(crate) fn kind() -> Registration {
    let plural = "validatingadmissionpolicybindings";
    let describe = describe(GROUP, "v1", "ValidatingAdmissionPolicyBinding", plural);
    let own = binding::own(|binding, _| binding::validate(binding, check_actions));
    Registration::new(describe.defaults(binding::set_defaults), own)
}

fn check_actions(spec: &Value, path: &Path, errors: &mut Errors) {
    let (actions, path) = (texts(spec, "validationActions"), &path.child("validationActions"));
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
