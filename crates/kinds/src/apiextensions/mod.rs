//! Custom resources: the kind that defines them, with its rules, and the kinds that definitions make. Acting on definitions is not
//! known here.

pub mod approval;
mod columns;
mod conversion;
pub mod custom;
pub(crate) mod definition;
pub mod json_path;
mod names;
mod schema_defaults;
mod schema_rules;
mod selectable;
pub mod structural;
mod subresources;
mod versions;

pub use definition::storage_version;

use serde_json::Value;

/// The condition of a definition of that type, if it has it.
pub fn condition<'a>(definition: &'a Value, ty: &str) -> Option<&'a Value> {
    let conditions = crate::tree::list(&definition["status"], "conditions");
    conditions.iter().find(|condition| condition["type"] == ty)
}

/// Whether the condition of that type is true.
pub fn is_condition_true(definition: &Value, ty: &str) -> bool {
    condition(definition, ty).is_some_and(|condition| condition["status"] == "True")
}
