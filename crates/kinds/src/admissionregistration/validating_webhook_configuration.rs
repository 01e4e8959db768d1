//! ValidatingWebhookConfiguration: which webhooks may refuse objects before they are kept.

use super::registration::Registration;
use super::{GROUP, webhook};
use crate::describe::describe;

pub(crate) fn kind() -> Registration {
    let describe = describe(GROUP, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
    // A webhook of this kind has nothing that those of the other have not.
    let own = webhook::own(|new, old| webhook::validate(new, old, |_, _, _| ()));
    Registration::new(describe.defaults(webhook::set_defaults), own)
}
