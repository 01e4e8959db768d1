//! ValidatingWebhookConfiguration: which webhooks may refuse objects before they are kept.

use super::GROUP;
use super::webhook::{self, Configuration};
use crate::check::Errors;
use crate::describe::describe;
use nauplius_meta::field::Path;
use serde_json::Value;

pub(crate) fn kind() -> Configuration {
    let describe = describe(GROUP, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
    Configuration::new(describe.defaults(webhook::set_defaults), own)
}

/// A webhook of this kind has nothing that those of the other have not.
fn own(_webhook: &Value, _path: &Path, _errors: &mut Errors) {}
