//! Bindings: the subjects that get a role, and which role.

use super::GROUP;
use crate::check::{self, Errors, messages};
use crate::kind::Column;
use crate::table::{self, string, wide};
use crate::tree::{default, each, list, same, text, with};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

pub(super) fn set_defaults(object: &mut Value) {
    with(object, "roleRef", |role| default(role, "apiGroup", GROUP));
    each(object, "subjects", |subject| {
        if ["User", "Group"].contains(&text(subject, "kind")) {
            default(subject, "apiGroup", GROUP);
        }
    });
}

/// Checks a binding that may refer to roles of `role_kinds`.
pub(super) fn validate(binding: &Value, role_kinds: &[&str], is_namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    let (role, path) = (&binding["roleRef"], Path::new("roleRef"));
    let group = text(role, "apiGroup");
    if group != GROUP {
        errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[GROUP]));
    }
    let kind = text(role, "kind");
    if !role_kinds.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("kind"), kind, role_kinds));
    }
    if check::required_text(role, "name", &path, &mut errors) {
        let name = text(role, "name");
        messages(names::path_segment(name), name, &path.child("name"), &mut errors);
    }
    for (index, subject) in list(binding, "subjects").iter().enumerate() {
        check_subject(subject, is_namespaced, &Path::new("subjects").index(index), &mut errors);
    }
    errors
}

fn check_subject(subject: &Value, is_namespaced: bool, path: &Path, errors: &mut Errors) {
    check::required_text(subject, "name", path, errors);
    let group = text(subject, "apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            check::name_if_set(subject, "name", names::dns1123_subdomain, path, errors);
            if !group.is_empty() {
                errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if !is_namespaced {
                check::required_text(subject, "namespace", path, errors);
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            let kinds = ["ServiceAccount", "User", "Group"];
            errors.push(FieldError::not_supported(&path.child("kind"), other, &kinds));
        }
    }
}

/// What one may do by a binding cannot become something else under its name.
pub(super) fn validate_update(new: &Value, old: &Value, mut errors: Errors) -> Errors {
    if !same(new, old, "roleRef") {
        let role = new.get("roleRef").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&Path::new("roleRef"), role, "cannot change roleRef"));
    }
    errors
}

pub(super) fn columns() -> Vec<Column> {
    vec![
        table::name(),
        string("Role", "The role that the subjects get."),
        table::age(),
        wide(string("Users", "The users who get it.")),
        wide(string("Groups", "The groups that get it.")),
        wide(string("ServiceAccounts", "The service accounts that get it.")),
    ]
}

pub(super) fn cells(binding: &Value, now_s: i64) -> Vec<Value> {
    let role = &binding["roleRef"];
    let subjects = |kind: &str| {
        let all = list(binding, "subjects").iter().filter(|subject| text(subject, "kind") == kind);
        let shown = all.map(|subject| match (kind, text(subject, "namespace")) {
            ("ServiceAccount", namespace) => format!("{namespace}/{}", text(subject, "name")),
            _ => text(subject, "name").to_owned(),
        });
        Value::from(shown.collect::<Vec<_>>().join(", "))
    };
    vec![
        table::name_cell(binding),
        format!("{}/{}", text(role, "kind"), text(role, "name")).into(),
        table::age_cell(binding, now_s),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
