//! Bindings put a policy to use: which one, with what parameters, and narrowed down to what. Both kinds of them are the one here.

use super::{match_resources, static_name_warnings};
use crate::check::{Errors, messages};
use crate::describe::Describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::table::{self, string};
use crate::tree::{get, text, with};
use crate::{label_selector, name};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

/// A kind of bindings.
pub(crate) struct Binding {
    descriptor: Descriptor,
    /// What is asked of its spec beyond what is asked of all.
    own: Own,
}

/// Checks a spec at its path.
pub(super) type Own = fn(&Value, &Path, &mut Errors);

impl Binding {
    /// The kind so described.
    pub(super) fn new(describe: Describe, own: Own) -> Self {
        Self { descriptor: describe.cluster_scoped().categories(&["api-extensions"]).done(), own }
    }
}

impl Kind for Binding {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        validate(spec, &path, &mut errors);
        (self.own)(spec, &path, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        static_name_warnings(new)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        columns()
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        cells(object, now_s)
    }
}

/// Fills what is left out.
pub(super) fn set_defaults(object: &mut Value) {
    with(object, "spec", |spec| {
        with(spec, "matchResources", match_resources::set_defaults);
    });
}

/// Checks a binding's spec.
fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
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
