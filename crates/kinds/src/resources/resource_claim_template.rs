//! ResourceClaimTemplate: a claim for each pod that names it.

use super::{GROUP, claim};
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::runtime_config::RuntimeConfig;
use crate::tree::{child, with};
use crate::{name, table};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct ResourceClaimTemplate(Descriptor);

pub(crate) fn kind(config: &RuntimeConfig) -> ResourceClaimTemplate {
    let descriptor = describe(GROUP, "v1", "ResourceClaimTemplate", "resourceclaimtemplates");
    let descriptor = descriptor.defaults(set_defaults).also(config, "v1beta2").defaults(set_defaults);
    let descriptor = descriptor.also(config, "v1beta1").defaults(set_flat_defaults);
    ResourceClaimTemplate(descriptor.converted(to_hub, from_hub).done())
}

fn set_defaults(object: &mut Value) {
    claim::set_defaults(child(child(object, "spec"), "spec"));
}

fn set_flat_defaults(object: &mut Value) {
    claim::set_flat_defaults(child(child(object, "spec"), "spec"));
}

fn to_hub(object: &mut Value) {
    with(object, "spec", |spec| with(spec, "spec", claim::to_hub));
}

fn from_hub(object: &mut Value) {
    with(object, "spec", |spec| with(spec, "spec", claim::from_hub));
}

impl Kind for ResourceClaimTemplate {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        check::labels(&spec["metadata"], "labels", &path.child("metadata"), &mut errors);
        check::annotations(&spec["metadata"], &path.child("metadata"), &mut errors);
        claim::validate(&spec["spec"], &path.child("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        claim::immutable_spec(new, old, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        vec![table::name_cell(object), table::age_cell(object, now_s)]
    }
}
