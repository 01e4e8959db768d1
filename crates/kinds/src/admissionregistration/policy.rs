//! What both kinds of policies have: parameters, what they match, conditions and variables. Expressions are not compiled here.

use super::{FAILURE_POLICIES, match_conditions, match_resources, rule};
use crate::check::{Errors, one_of_if_set};
use crate::kind::Column;
use crate::table::{self, string};
use crate::tree::{child, default, get, list, same, text, with};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const CEL_RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Fills what is left out of a policy.
pub(super) fn set_defaults(policy: &mut Value) {
    let spec = child(policy, "spec");
    default(spec, "failurePolicy", "Fail");
    with(spec, "matchConstraints", match_resources::set_defaults);
}

/// Checks what comes before the validations or mutations.
pub(super) fn validate(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    if get(spec, "failurePolicy").is_none() {
        errors.push(FieldError::required(&path.child("failurePolicy"), ""));
    }
    one_of_if_set(spec, "failurePolicy", FAILURE_POLICIES, path, errors);
    if let Some(kind) = get(spec, "paramKind") {
        param_kind(kind, &path.child("paramKind"), errors);
    }
    let constraints_path = path.child("matchConstraints");
    match get(spec, "matchConstraints") {
        None => errors.push(FieldError::required(&constraints_path, "")),
        Some(constraints) => {
            match_resources::validate(constraints, &constraints_path, errors);
            if list(constraints, "resourceRules").is_empty() {
                errors.push(FieldError::required(&constraints_path.child("resourceRules"), ""));
            }
        }
    }
    let stay = |old: &Value| ["paramKind", "matchConditions"].iter().all(|key| same(spec, old, key));
    if !old.is_some_and(stay) {
        match_conditions(spec, path, errors);
    }
    for (index, variable) in list(spec, "variables").iter().enumerate() {
        check_variable(variable, &path.child("variables").index(index), errors);
    }
}

fn param_kind(kind: &Value, path: &Path, errors: &mut Errors) {
    group_version(text(kind, "apiVersion"), &path.child("apiVersion"), errors);
    let (name, path) = (text(kind, "kind"), path.child("kind"));
    if name.is_empty() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    let problems = names::dns1035_label(&name.to_lowercase());
    if !problems.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", problems.join(","));
        errors.push(FieldError::invalid(&path, name, detail));
    }
}

fn group_version(text: &str, path: &Path, errors: &mut Errors) {
    let parts: Vec<&str> = text.split('/').collect();
    let (group, version) = match parts[..] {
        [""] => return errors.push(FieldError::required(path, "")),
        [version] => ("", version),
        [group, version] => (group, version),
        _ => {
            let detail = format!("unexpected GroupVersion string: {text}");
            return errors.push(FieldError::invalid(path, text, detail));
        }
    };
    let group_problems = names::dns1123_subdomain(group);
    if !group.is_empty() && !group_problems.is_empty() {
        errors.push(FieldError::invalid(path, group, group_problems.join(",")));
    }
    if version.is_empty() {
        errors.push(FieldError::invalid(path, text, "version must be specified"));
        return;
    }
    let problems = names::dns1035_label(version);
    if !problems.is_empty() {
        errors.push(FieldError::invalid(path, version, problems.join(",")));
    }
}

fn check_variable(variable: &Value, path: &Path, errors: &mut Errors) {
    let name = text(variable, "name");
    if name.trim().is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name is not specified"));
    } else if !is_cel_identifier(name) {
        errors.push(FieldError::invalid(&path.child("name"), name, "must be a valid CEL identifier"));
    }
    expression(variable, path, "expression is not specified", errors);
}

fn is_cel_identifier(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_word)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !CEL_RESERVED.contains(&name)
}

/// An expression must be there.
pub(super) fn expression(owner: &Value, path: &Path, detail: &str, errors: &mut Errors) {
    if text(owner, "expression").trim().is_empty() {
        errors.push(FieldError::required(&path.child("expression"), detail));
    }
}

/// The columns of a policy, one of which counts what it says.
pub(super) fn columns(counted: Column) -> Vec<Column> {
    vec![table::name(), counted, string("ParamKind", "The kind of its parameters."), table::age()]
}

/// The cells of a policy; what it says stands in field `counted`.
pub(super) fn cells(object: &Value, counted: &str, now_s: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let parameters = get(spec, "paramKind").map_or_else(|| "<unset>".to_owned(), rule::kind_text);
    vec![
        table::name_cell(object),
        rule::counted(spec, counted),
        parameters.into(),
        table::age_cell(object, now_s),
    ]
}
