//! A definition of a custom resource that is deleted stays until the resource's objects are gone. Deleting these is the task of
//! whoever watches definitions.

use super::Hooks;
use crate::definitions::{CLEANUP, conditions};
use nauplius_base::time;
use nauplius_meta::object;
use serde_json::Value;

pub(super) struct Definitions;

impl Hooks for Definitions {
    /// The first request to delete only marks it.
    fn keeps(&self, definition: &Value) -> bool {
        object::deletion_timestamp(definition).is_none()
    }

    fn on_deleting(&self, definition: &mut Value) {
        let mut finalizers: Vec<String> =
            object::finalizers(definition).into_iter().map(str::to_owned).collect();
        if finalizers.iter().any(|known| known == CLEANUP) {
            return;
        }
        finalizers.push(CLEANUP.to_owned());
        object::set_finalizers(definition, &finalizers);
        conditions::set(definition, &conditions::TERMINATION_PENDING, time::now());
    }
}
