//! MutatingAdmissionPolicyBinding: puts a policy that changes objects to use.

use super::{GROUP, binding};
use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::runtime_config::RuntimeConfig;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct MutatingAdmissionPolicyBinding(Descriptor);

pub(crate) fn kind(config: &RuntimeConfig) -> MutatingAdmissionPolicyBinding {
    let plural = "mutatingadmissionpolicybindings";
    let descriptor = describe(GROUP, "v1", "MutatingAdmissionPolicyBinding", plural).cluster_scoped();
    let descriptor = descriptor.categories(&["api-extensions"]).defaults(binding::set_defaults);
    MutatingAdmissionPolicyBinding(descriptor.also(config, "v1beta1").defaults(binding::set_defaults).done())
}

impl Kind for MutatingAdmissionPolicyBinding {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        binding::validate(&object["spec"], &Path::new("spec"), &mut errors);
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
        binding::columns()
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        binding::cells(object, now_s)
    }
}
