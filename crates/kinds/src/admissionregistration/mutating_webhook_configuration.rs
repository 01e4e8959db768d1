//! MutatingWebhookConfiguration: which webhooks may change objects before they are kept.

use super::{GROUP, REINVOCATION_POLICIES, webhook};
use crate::check::{Errors, one_of_if_set};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::tree::{default, each};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct MutatingWebhookConfiguration(Descriptor);

pub(crate) fn kind() -> MutatingWebhookConfiguration {
    let descriptor = describe(GROUP, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations");
    let descriptor = descriptor.cluster_scoped().categories(&["api-extensions"]);
    MutatingWebhookConfiguration(descriptor.defaults(set_defaults).done())
}

impl Kind for MutatingWebhookConfiguration {
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

fn set_defaults(object: &mut Value) {
    webhook::set_defaults(object);
    each(object, "webhooks", |webhook| default(webhook, "reinvocationPolicy", "Never"));
}

/// Only a webhook that changes objects may be asked again about what others changed.
fn own(webhook: &Value, path: &Path, errors: &mut Errors) {
    one_of_if_set(webhook, "reinvocationPolicy", REINVOCATION_POLICIES, path, errors);
}
