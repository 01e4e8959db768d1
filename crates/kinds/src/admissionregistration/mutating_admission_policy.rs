//! MutatingAdmissionPolicy: expressions by which objects are changed before they are kept.

use super::{GROUP, REINVOCATION_POLICIES, policy, rule, static_name_warnings};
use crate::check::{Errors, one_of};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::runtime_config::RuntimeConfig;
use crate::table::{self, integer, string};
use crate::tree::{child, get, list, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// What may be changed: not what is deleted.
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
/// The types of patches, each with its field.
const PATCHES: [(&str, &str); 2] = [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];

pub(crate) struct MutatingAdmissionPolicy(Descriptor);

pub(crate) fn kind(config: &RuntimeConfig) -> MutatingAdmissionPolicy {
    let descriptor = describe(GROUP, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies");
    let descriptor = descriptor.cluster_scoped().categories(&["api-extensions"]).defaults(set_defaults);
    MutatingAdmissionPolicy(descriptor.also(config, "v1beta1").defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    policy::set_defaults(child(object, "spec"));
}

impl Kind for MutatingAdmissionPolicy {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate_spec(&object["spec"], None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate_spec(&new["spec"], Some(&old["spec"]))
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
        vec![
            table::name(),
            integer("Mutations", "How many mutations it has."),
            string("ParamKind", "The kind of its parameters."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        vec![
            table::name_cell(object),
            rule::counted(spec, "mutations"),
            policy::param_kind_cell(spec),
            table::age_cell(object, now_s),
        ]
    }
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
