//! PriorityClass: a name for how important pods are.

use crate::check::{self, Errors};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::tree::{count, default, flag, same, set, text};
use crate::{name, table};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const MAX_USER_VALUE: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
/// The classes of Kubernetes itself, with their values.
const SYSTEM: &[(&str, i64)] =
    &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(crate) struct PriorityClass(Descriptor);

pub(crate) fn kind() -> PriorityClass {
    let descriptor = describe("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses").cluster_scoped();
    PriorityClass(descriptor.short(&["pc"]).defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    default(object, "preemptionPolicy", "PreemptLowerPriority");
    let value = count(object, "value");
    set(object, "value", value);
}

impl Kind for PriorityClass {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let name = text(&object["metadata"], "name");
        let value = count(object, "value");
        if name.starts_with(SYSTEM_PREFIX) {
            if let Some(error) = system_class(name, value, flag(object, "globalDefault")) {
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {error}"
                );
                errors.push(FieldError::forbidden(&Path::new("metadata").child("name"), detail));
            }
        } else if value > MAX_USER_VALUE {
            let detail = format!("maximum allowed value of a user defined priority is {MAX_USER_VALUE}");
            errors.push(FieldError::forbidden(&Path::new("value"), detail));
        }
        let policies = ["PreemptLowerPriority", "Never"];
        check::one_of(object, "preemptionPolicy", &policies, &Path::root(), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if !same(new, old, "value") {
            errors.push(FieldError::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
        check::immutable(new, old, "preemptionPolicy", &Path::root(), &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn forbids_delete(&self, object: &Value) -> Option<String> {
        let name = text(&object["metadata"], "name");
        let is_system = SYSTEM.iter().any(|(system, _)| *system == name);
        is_system.then(|| "this is a system priority class and cannot be deleted".to_owned())
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            table::integer("Value", "How important: more is more."),
            table::boolean("Global-Default", "Whether pods without a class have this one."),
            table::age(),
            table::string("PreemptionPolicy", "Whether such pods push others out."),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        vec![
            table::name_cell(object),
            count(object, "value").into(),
            flag(object, "globalDefault").into(),
            table::age_cell(object, now_s),
            text(object, "preemptionPolicy").into(),
        ]
    }
}

/// Why a class with a system name is not the system's class of that name.
fn system_class(name: &str, value: i64, is_default: bool) -> Option<String> {
    let Some((_, expected)) = SYSTEM.iter().find(|(system, _)| *system == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if value != *expected {
        return Some(format!("value of {name} PriorityClass must be {expected}"));
    }
    is_default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};
    use serde_json::json;

    #[test]
    fn values_have_bounds_and_names_owners() {
        assert_eq!(created(&kind(), json!({}))["preemptionPolicy"], "PreemptLowerPriority");
        creation(
            &kind(),
            json!({"value": 2_000_000_000}),
            &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        );
        creation(
            &kind(),
            json!({"metadata": {"name": "system-x"}, "value": 1}),
            &[
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: \
             system-x is not a known system priority class",
            ],
        );
        creation(&kind(), json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}), &[]);
        updated(
            &kind(),
            &json!({"value": 1}),
            json!({"value": 2, "preemptionPolicy": "Never"}),
            &[
                "value: Forbidden: may not be changed in an update.",
                "preemptionPolicy: Invalid value: \"Never\": field is immutable",
            ],
        );
    }

    #[test]
    fn the_row_shows_the_value() {
        let object = json!({"value": 5, "globalDefault": true, "preemptionPolicy": "Never"});
        row(&kind(), object, json!(["x", 5, true, "75s", "Never"]));
    }
}
