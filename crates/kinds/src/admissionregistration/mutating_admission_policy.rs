//! MutatingAdmissionPolicy: expressions by which objects are changed before they are kept.

use super::registration::{Own, Registration, no_status};
use super::{GROUP, REINVOCATION_POLICIES, policy, rule};
use crate::check::{Errors, one_of};
use crate::describe::describe;
use crate::runtime_config::RuntimeConfig;
use crate::table::integer;
use crate::tree::{get, list, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// What may be changed: not what is deleted.
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
/// The types of patches, each with its field.
const PATCHES: [(&str, &str); 2] = [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];

pub(crate) fn kind(config: &RuntimeConfig) -> Registration {
    let describe = describe(GROUP, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies");
    let describe = describe.defaults(policy::set_defaults).also(config, "v1beta1");
    let own = Own {
        validate: |new, old| validate_spec(&new["spec"], old.map(|old| &old["spec"])),
        validate_status: no_status,
        columns: || policy::columns(integer("Mutations", "How many mutations it has.")),
        cells: |object, now_s| policy::cells(object, "mutations", now_s),
    };
    Registration::new(describe.defaults(policy::set_defaults), own)
}

fn validate_spec(spec: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    policy::validate(spec, old, &path, &mut errors);
    let operations = path.children(&["matchConstraints", "resourceRules", "operations"]);
    for operation in rule::unsupported(list(&spec["matchConstraints"], "resourceRules"), OPERATIONS) {
        errors.push(FieldError::not_supported(&operations, operation, OPERATIONS));
    }
    let mutations = list(spec, "mutations");
    if mutations.is_empty() {
        let detail = "mutations must contain at least one item";
        errors.push(FieldError::required(&path.child("mutations"), detail));
    }
    for (index, mutation) in mutations.iter().enumerate() {
        check_mutation(mutation, &path.child("mutations").index(index), &mut errors);
    }
    one_of(spec, "reinvocationPolicy", REINVOCATION_POLICIES, &path, &mut errors);
    errors
}

fn check_mutation(mutation: &Value, path: &Path, errors: &mut Errors) {
    let types = PATCHES.map(|(type_, _)| type_);
    one_of(mutation, "patchType", &types, path, errors);
    let own = text(mutation, "patchType");
    if !types.contains(&own) {
        return;
    }
    for (type_, key) in PATCHES {
        let path = path.child(key);
        match (get(mutation, key), type_ == own) {
            (None, true) => {
                let detail = format!("must be specified when patchType is {own}");
                errors.push(FieldError::required(&path, detail));
            }
            (Some(patch), true) => policy::expression(patch, &path, "", errors),
            (Some(_), false) => {
                let detail = format!("must not be specified when patchType is {own}");
                errors.push(FieldError::invalid(&path, format!("{{{key}}}"), detail));
            }
            (None, false) => {}
        }
    }
}
