//! Bindings: the subjects that get a role, and which role. Both kinds of them are this one, for other kinds of roles.

use super::GROUP;
use crate::check::{self, Errors, messages};
use crate::describe::Describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::table::{self, string, wide};
use crate::tree::{default, each, list, same, text, with};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

/// A kind of bindings.
pub(crate) struct Binding {
    descriptor: Descriptor,
    /// The kinds of roles that it may refer to.
    role_kinds: &'static [&'static str],
}

impl Binding {
    /// The kind so described, whose objects refer to roles of `role_kinds`.
    pub(super) fn new(describe: Describe, role_kinds: &'static [&'static str]) -> Self {
        Self { descriptor: describe.defaults(set_defaults).done(), role_kinds }
    }
}

impl Kind for Binding {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate(object, self.role_kinds, self.descriptor.namespaced)
    }

    /// What one may do by a binding cannot become something else under its name.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        if !same(new, old, "roleRef") {
            let role = new.get("roleRef").cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(&Path::new("roleRef"), role, "cannot change roleRef"));
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::path_segment(name, prefix)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        columns()
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        cells(object, now_s)
    }
}

fn set_defaults(object: &mut Value) {
    with(object, "roleRef", |role| default(role, "apiGroup", GROUP));
    each(object, "subjects", |subject| {
        if ["User", "Group"].contains(&text(subject, "kind")) {
            default(subject, "apiGroup", GROUP);
        }
    });
}

/// Checks a binding that may refer to roles of `role_kinds`.
fn validate(binding: &Value, role_kinds: &[&str], is_namespaced: bool) -> Errors {
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

fn columns() -> Vec<Column> {
    vec![
        table::name(),
        string("Role", "The role that the subjects get."),
        table::age(),
        wide(string("Users", "The users who get it.")),
        wide(string("Groups", "The groups that get it.")),
        wide(string("ServiceAccounts", "The service accounts that get it.")),
    ]
}

fn cells(binding: &Value, now_s: i64) -> Vec<Value> {
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
