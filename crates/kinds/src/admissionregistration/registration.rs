//! How objects of this group are kept: all kinds of it alike, but for what each asks of its objects and shows of them.

use super::static_name_warnings;
use crate::check::Errors;
use crate::describe::Describe;
use crate::kind::{Column, Descriptor, Kind, tracked_without_metadata};
use crate::name;
use nauplius_meta::apply::Filter;
use nauplius_meta::field::FieldError;
use serde_json::Value;

/// A kind of the group.
pub(crate) struct Registration {
    descriptor: Descriptor,
    own: Own,
}

/// What tells the kinds apart.
pub(super) struct Own {
    /// Checks an object, which replaces another one or is new.
    pub validate: fn(&Value, Option<&Value>) -> Errors,
    /// Checks the status of an object.
    pub validate_status: fn(&Value) -> Errors,
    /// The columns of its table.
    pub columns: fn() -> Vec<Column>,
    /// The cells of an object, at a time.
    pub cells: fn(&Value, i64) -> Vec<Value>,
}

impl Registration {
    /// The kind so described.
    pub(super) fn new(describe: Describe, own: Own) -> Self {
        Self { descriptor: describe.cluster_scoped().categories(&["api-extensions"]).done(), own }
    }
}

/// For kinds without a status.
pub(super) fn no_status(_: &Value) -> Errors {
    Errors::new()
}

impl Kind for Registration {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn tracked(&self, subresource: &str) -> Filter {
        if self.descriptor.has_subresource("status") {
            tracked_without_metadata(subresource)
        } else {
            Filter::ALL
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        (self.own.validate)(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        (self.own.validate)(new, Some(old))
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        (self.own.validate_status)(new)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        static_name_warnings(new)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        (self.own.columns)()
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        (self.own.cells)(object, now_s)
    }
}
