//! ResourceClaim: devices that pods share or have alone. v1 is the hub; v1beta1 has flat requests.

use super::{GROUP, allocation, claim};
use crate::check::Errors;
use crate::describe::describe;
use crate::gates::FieldPath;
use crate::kind::{Column, Descriptor, Kind, tracked_without_metadata};
use crate::name;
use crate::runtime_config::RuntimeConfig;
use crate::table::{self, string};
use crate::tree::{get, list, with};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct ResourceClaim(Descriptor);

pub(crate) fn kind(config: &RuntimeConfig) -> ResourceClaim {
    let descriptor = describe(GROUP, "v1", "ResourceClaim", "resourceclaims").defaults(set_defaults);
    let descriptor = descriptor.also(config, "v1beta2").defaults(set_defaults);
    let descriptor = descriptor.also(config, "v1beta1").defaults(set_flat_defaults);
    ResourceClaim(descriptor.converted(to_hub, from_hub).status().done())
}

fn set_defaults(object: &mut Value) {
    claim::set_defaults(claim::spec(object));
}

fn set_flat_defaults(object: &mut Value) {
    claim::set_flat_defaults(claim::spec(object));
}

fn to_hub(object: &mut Value) {
    with(object, "spec", claim::to_hub);
}

fn from_hub(object: &mut Value) {
    with(object, "spec", claim::from_hub);
}

impl Kind for ResourceClaim {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn tracked(&self, subresource: &str) -> Filter {
        tracked_without_metadata(subresource)
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        vec![vec!["status", "allocation", "devices", "results", "*", "skipNodeOperations"]]
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        claim::validate(&object["spec"], &Path::new("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        claim::immutable_spec(new, old, &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        allocation::validate_status(new, old)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), string("State", "Whether it has devices, and who uses them."), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        vec![table::name_cell(object), state(object).into(), table::age_cell(object, now_s)]
    }
}

fn state(claim: &Value) -> String {
    let is_going = get(&claim["metadata"], "deletionTimestamp").is_some();
    let is_allocated = get(&claim["status"], "allocation").is_some();
    let is_reserved = !list(&claim["status"], "reservedFor").is_empty();
    let states = [
        (is_going, "deleted"),
        (!is_allocated && !is_going, "pending"),
        (is_allocated, "allocated"),
        (is_reserved, "reserved"),
    ];
    states.iter().filter(|(is_so, _)| *is_so).map(|(_, state)| *state).collect::<Vec<_>>().join(",")
}
