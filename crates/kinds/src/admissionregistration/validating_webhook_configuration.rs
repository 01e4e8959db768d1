//! ValidatingWebhookConfiguration: which webhooks may refuse objects before they are kept.

use super::{GROUP, webhook};
use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct ValidatingWebhookConfiguration(Descriptor);

pub(crate) fn kind() -> ValidatingWebhookConfiguration {
    let descriptor =
        describe(GROUP, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
    let descriptor = descriptor.cluster_scoped().categories(&["api-extensions"]);
    ValidatingWebhookConfiguration(descriptor.defaults(webhook::set_defaults).done())
}

impl Kind for ValidatingWebhookConfiguration {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        webhook::validate(object, own)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        webhook::validate_update(new, old, own)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        webhook::columns()
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        webhook::cells(object, now_s)
    }
}

/// A webhook of this kind has nothing that those of the other have not.
fn own(_webhook: &Value, _path: &Path, _errors: &mut Errors) {}
