//! MutatingWebhookConfiguration: which webhooks may change objects before they are kept.

use super::registration::Registration;
use super::{GROUP, REINVOCATION_POLICIES, webhook};
use crate::check::{Errors, one_of_if_set};
use crate::describe::describe;
use crate::tree::{default, each};
use nauplius_meta::field::Path;
use serde_json::Value;

pub(crate) fn kind() -> Registration {
    let describe = describe(GROUP, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations");
    let own = webhook::own(|new, old| webhook::validate(new, old, reinvocation));
    Registration::new(describe.defaults(set_defaults), own)
}

fn set_defaults(object: &mut Value) {
    webhook::set_defaults(object);
    each(object, "webhooks", |webhook| default(webhook, "reinvocationPolicy", "Never"));
}

/// Only a webhook that changes objects may be asked again about what others changed.
fn reinvocation(webhook: &Value, path: &Path, errors: &mut Errors) {
    one_of_if_set(webhook, "reinvocationPolicy", REINVOCATION_POLICIES, path, errors);
}
