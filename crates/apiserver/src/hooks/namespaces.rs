//! Namespaces end in two phases: their spec's finalizers keep them until a controller has emptied them.

use super::Hooks;
use nauplius_meta::object;
use serde_json::Value;

pub(super) struct Namespaces;

impl Hooks for Namespaces {
    fn keeps(&self, namespace: &Value) -> bool {
        !object::get_array(namespace, &["spec", "finalizers"]).is_empty()
    }

    fn may_remove_on_update(&self, new: &Value) -> bool {
        !self.keeps(new)
    }

    fn on_deleting(&self, namespace: &mut Value) {
        object::remove(namespace, &["metadata", "deletionGracePeriodSeconds"]);
        object::set(namespace, &["status", "phase"], "Terminating");
    }

    fn deletes_collections(&self) -> bool {
        false
    }

    fn shows_deleted(&self) -> bool {
        true
    }
}
