//! ValidatingAdmissionPolicy: expressions that objects must satisfy to be kept.

use super::registration::{Own, Registration};
use super::{GROUP, policy};
use crate::apiextensions::json_path::{JsonPath, JsonPathError};
use crate::check::{Errors, messages, one_of_if_set};
use crate::conditions;
use crate::describe::describe;
use crate::table::integer;
use crate::tree::{list, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const MAX_ANNOTATIONS: usize = 20;
const MAX_ANNOTATION_BYTES: usize = 5 * 1024;
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const NOTHING: &str = "validations or auditAnnotations must contain at least one item";

pub(crate) fn kind() -> Registration {
    let describe = describe(GROUP, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies");
    let own = Own {
        validate: |new, old| validate_spec(new, old.map(|old| &old["spec"])),
        validate_status,
        columns: || policy::columns(integer("Validations", "How many validations it has.")),
        cells: |object, now_s| policy::cells(object, "validations", now_s),
    };
    Registration::new(describe.defaults(policy::set_defaults).status(), own)
}

fn validate_status(policy: &Value) -> Errors {
    let mut errors = Errors::new();
    let (status, path) = (&policy["status"], Path::new("status"));
    let warnings_path = path.child("typeChecking").child("expressionWarnings");
    for (index, warning) in list(&status["typeChecking"], "expressionWarnings").iter().enumerate() {
        let path = warnings_path.index(index);
        if text(warning, "warning").trim().is_empty() {
            errors.push(FieldError::required(&path.child("warning"), ""));
        }
        field_reference(text(warning, "fieldRef").trim(), &path.child("fieldRef"), &mut errors);
    }
    conditions::validate(status, &path.child("conditions"), &mut errors);
    errors
}

/// Where in the policy an expression stands, as a JSONPath.
fn field_reference(reference: &str, path: &Path, errors: &mut Errors) {
    // Upstream's parser takes a name at the beginning for one of its own words, and goes on.
    let dot = if reference.starts_with(|first: char| first.is_ascii_alphanumeric()) { "." } else { "" };
    if reference.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if let Err(JsonPathError(problem)) = JsonPath::parse(&format!("{dot}{reference}")) {
        errors.push(FieldError::invalid(path, reference, format!("invalid JSONPath: {problem}")));
    }
}

fn validate_spec(object: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let (spec, path) = (&object["spec"], Path::new("spec"));
    policy::validate(spec, old, &path, &mut errors);
    let (validations, annotations) = (list(spec, "validations"), list(spec, "auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        for key in ["validations", "auditAnnotations"] {
            errors.push(FieldError::required(&path.child(key), NOTHING));
        }
        return errors;
    }
    for (index, validation) in validations.iter().enumerate() {
        check_validation(validation, &path.child("validations").index(index), &mut errors);
    }
    check_annotations(text(&object["metadata"], "name"), annotations, &path, &mut errors);
    errors
}

fn check_validation(validation: &Value, path: &Path, errors: &mut Errors) {
    const EMPTY: &str = "must be non-empty if specified";
    policy::expression(validation, path, "expression is not specified", errors);
    for key in ["messageExpression", "message"] {
        let own = text(validation, key);
        if !own.is_empty() && own.trim().is_empty() {
            errors.push(FieldError::invalid(&path.child(key), own, EMPTY));
        } else if key == "message" && own.trim().contains(['\n', '\r']) {
            errors.push(FieldError::invalid(&path.child(key), own, "must not contain line breaks"));
        }
    }
    one_of_if_set(validation, "reason", REASONS, path, errors);
}

fn check_annotations(policy: &str, annotations: &[Value], path: &Path, errors: &mut Errors) {
    let path = path.child("auditAnnotations");
    if annotations.len() > MAX_ANNOTATIONS {
        let detail = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(&path, annotations.to_vec(), detail));
    }
    for (index, annotation) in annotations.iter().enumerate() {
        let (path, key) = (path.index(index), text(annotation, "key"));
        if policy.is_empty() {
            let detail = "requires metadata.name be non-empty";
            errors.push(FieldError::invalid(&path.child("key"), key, detail));
        } else {
            let full = format!("{policy}/{key}");
            messages(names::qualified_name(&full), &full, &path.child("key"), errors);
        }
        let (value, value_path) = (text(annotation, "valueExpression").trim(), path.child("valueExpression"));
        if value.is_empty() {
            errors.push(FieldError::required(&value_path, "valueExpression is not specified"));
        } else if value.len() > MAX_ANNOTATION_BYTES {
            let detail = format!("must not exceed {MAX_ANNOTATION_BYTES} bytes in length");
            errors.push(FieldError::required(&value_path, detail));
        }
        if annotations[..index].iter().any(|other| text(other, "key") == key) {
            errors.push(FieldError::duplicate(&path.child("key"), key));
        }
    }
}
