//! Bindings put a policy to use: which one, with what parameters, and narrowed down to what. Both kinds of
//! them ask and show the same, but for what only one has.

use super::match_resources;
use super::registration::{Own, no_status};
use crate::check::{Errors, messages};
use crate::kind::Column;
use crate::label_selector;
use crate::table::{self, string};
use crate::tree::{get, text, with};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

/// Checks a spec at its path.
type More = fn(&Value, &Path, &mut Errors);

/// What bindings ask and show.
pub(super) fn own(validate: fn(&Value, Option<&Value>) -> Errors) -> Own {
    Own { validate, validate_status: no_status, columns, cells }
}

/// Checks a binding; `more` is what is asked of its spec beyond what is asked of all.
pub(super) fn validate(binding: &Value, more: More) -> Errors {
    let mut errors = Errors::new();
    let (spec, path) = (&binding["spec"], Path::new("spec"));
    check_spec(spec, &path, &mut errors);
    more(spec, &path, &mut errors);
    errors
}

/// Fills what is left out.
pub(super) fn set_defaults(object: &mut Value) {
    with(object, "spec", |spec| {
        with(spec, "matchResources", match_resources::set_defaults);
    });
}

fn check_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = text(spec, "policyName");
    if policy.is_empty() {
        errors.push(FieldError::required(&path.child("policyName"), ""));
    } else {
        messages(names::dns1123_subdomain(policy), policy, &path.child("policyName"), errors);
    }
    if let Some(reference) = get(spec, "paramRef") {
        param_ref(reference, &path.child("paramRef"), errors);
    }
    if let Some(matches) = get(spec, "matchResources") {
        match_resources::validate(matches, &path.child("matchResources"), errors);
    }
}

fn param_ref(reference: &Value, path: &Path, errors: &mut Errors) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (text(reference, "name"), get(reference, "selector"));
    if !name.is_empty() {
        messages(names::path_segment(name), name, &path.child("name"), errors);
        if selector.is_some() {
            errors.push(FieldError::forbidden(&path.child("name"), EXCLUSIVE));
        }
    }
    if let Some(selector) = selector {
        label_selector::validate(selector, &path.child("selector"), errors);
        if !name.is_empty() {
            errors.push(FieldError::forbidden(&path.child("selector"), EXCLUSIVE));
        }
    } else if name.is_empty() {
        errors.push(FieldError::required(path, "one of name or selector must be specified"));
    }
    let (action, path) = (text(reference, "parameterNotFoundAction"), path.child("parameterNotFoundAction"));
    match action {
        "" => errors.push(FieldError::required(&path, "")),
        "Deny" | "Allow" => {}
        other => errors.push(FieldError::not_supported(&path, other, &["Deny", "Allow"])),
    }
}

fn columns() -> Vec<Column> {
    vec![
        table::name(),
        string("PolicyName", "The policy that it puts to use."),
        string("ParamRef", "The parameters that the policy gets."),
        table::age(),
    ]
}

fn cells(object: &Value, now_s: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let reference = get(spec, "paramRef").map_or_else(|| "<unset>".to_owned(), shown);
    vec![
        table::name_cell(object),
        text(spec, "policyName").into(),
        reference.into(),
        table::age_cell(object, now_s),
    ]
}

fn shown(reference: &Value) -> String {
    let (namespace, name) = (text(reference, "namespace"), text(reference, "name"));
    if !name.is_empty() {
        return if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
    }
    get(reference, "selector").map(label_selector::format).unwrap_or_default()
}
