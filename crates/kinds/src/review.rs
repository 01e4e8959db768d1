//! Kinds that only answer a `create`: a question about tokens or rights. Answering is the API server's task.

use crate::kind::{Column, Context, Descriptor, Kind};
use crate::table;
use nauplius_meta::field::FieldError;
use serde_json::Value;

/// A question: what it is called, and what makes it a sound one.
pub(crate) struct Review {
    pub(crate) descriptor: Descriptor,
    pub(crate) validate: fn(&Value) -> Vec<FieldError>,
}

impl Kind for Review {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        crate::tree::remove(object, "status");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        (self.validate)(object)
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_name(&self, _name: &str, _prefix: bool) -> Vec<String> {
        // A question has no name.
        Vec::new()
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::created_at()]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        vec![table::name_cell(object), table::created_at_cell(object)]
    }
}
