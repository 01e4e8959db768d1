//! DeviceClass: a sort of devices, by what they have in common, with configuration for their drivers.

use super::{GROUP, bounded, claim};
use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::resource::is_extended;
use crate::runtime_config::RuntimeConfig;
use crate::tree::{get, list};
use crate::{name, table};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct DeviceClass(Descriptor);

pub(crate) fn kind(config: &RuntimeConfig) -> DeviceClass {
    let descriptor = describe(GROUP, "v1", "DeviceClass", "deviceclasses").cluster_scoped();
    DeviceClass(descriptor.also(config, "v1beta2").also(config, "v1beta1").done())
}

impl Kind for DeviceClass {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        claim::selectors(spec, &path, &mut errors);
        let configs = path.child("config");
        bounded(list(spec, "config"), claim::MAX_ITEMS, &configs, &mut errors, claim::configuration);
        let name = get(spec, "extendedResourceName").and_then(Value::as_str);
        if let Some(name) = name.filter(|name| !is_extended(name)) {
            let path = path.child("extendedResourceName");
            errors.push(FieldError::invalid(&path, name, "must be a valid extended resource name"));
        }
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        vec![table::name_cell(object), table::age_cell(object, now_s)]
    }
}
