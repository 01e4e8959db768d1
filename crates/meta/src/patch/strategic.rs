//! Strategic merge patches: a merge that knows from the type which lists merge, by which key, and in which order their items stand. It
//! must not check what comes out; [`restore`] does.
mod error;
mod list;
mod order;
mod restore;
mod shape;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use error::StrategicError;
pub use restore::{RestoreError, restore};

use crate::object::Object;
use crate::schema::TypeRef;
use error::Merged;
use shape::Shape;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Merges the patch into an object of the type. A null changes nothing.
pub fn apply(document: &mut Value, patch: Value, ty: TypeRef) -> Merged {
    let patch = match patch {
        Value::Object(patch) => patch,
        Value::Null => return Ok(()),
        other => return Err(StrategicError::NotAnObject(crate::json::kind_of(&other))),
    };
    let original = match std::mem::take(document) {
        Value::Object(fields) => fields,
        _ => Object::new(),
    };
    *document = Value::Object(merge_maps(original, patch, Shape::Struct(ty))?);
    Ok(())
}

/// The patch as refusals show it: without the directives that merging it into the object has used up.
pub fn used(original: &Value, patch: &Value) -> Value {
    let (Value::Object(original), Value::Object(fields)) = (original, patch) else { return patch.clone() };
    let mut left = fields.clone();
    if let Some(directive) = fields.get(PATCH) {
        if directive == "replace" {
            left.remove(PATCH);
        }
        return Value::Object(left);
    }
    left.remove(RETAIN_KEYS);
    for name in fields.keys() {
        if let Some(list) = name.strip_prefix(SET_ORDER).and_then(|name| name.strip_prefix('/')) {
            left.remove(name);
            left.remove(list);
        }
    }
    for (name, value) in &mut left {
        if let Some(current) = original.get(name) {
            *value = used(current, value);
        }
    }
    Value::Object(left)
}

fn merge_maps(mut original: Object, mut patch: Object, shape: Shape) -> Merged<Object> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(PATCH);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(StrategicError::unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order::merge_ordered_lists(&mut original, &mut patch, shape)?;
    for (key, value) in patch {
        if key.starts_with(DELETE_FROM_LIST) {
            let name = directed(&key, DELETE_FROM_LIST).ok_or(StrategicError::DeleteFromList)?;
            merge_field(&mut original, if name.is_empty() { &key } else { name }, value, shape, true)?;
        } else {
            merge_field(&mut original, &key, value, shape, false)?;
        }
    }
    Ok(original)
}

/// The field that a directive about a list names.
fn directed<'k>(key: &'k str, directive: &str) -> Option<&'k str> {
    key.strip_prefix(directive)?.strip_prefix('/')
}

fn merge_field(original: &mut Object, name: &str, patch: Value, shape: Shape, deletes: bool) -> Merged {
    let current = original.remove(name);
    if patch.is_null() {
        return Ok(());
    }
    let merged = match (current, patch) {
        (Some(Value::Object(fields)), Value::Object(patch)) => {
            let plan = shape.map_plan(name)?;
            let merged = if plan.strategy.replace { patch } else { merge_maps(fields, patch, plan.shape)? };
            Some(Value::Object(merged))
        }
        (Some(Value::Array(items)), Value::Array(patch)) => {
            let plan = shape.list_plan(name)?;
            // What is deleted from a list is deleted whatever the list's strategy is.
            let merges = plan.strategy.merge || deletes;
            Some(Value::Array(if merges { list::merge(items, patch, &plan, deletes)? } else { patch }))
        }
        // There is nothing to delete from.
        (current, _) if deletes => current,
        (_, fresh) => added(fresh),
    };
    original.extend(merged.map(|merged| (name.to_owned(), merged)));
    Ok(())
}

/// A list of keys that may stay: others are cleared before the rest of the patch is merged.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Merged {
    let Some(kept) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(kept) = kept else { return Err(StrategicError::RetainKeys) };
    let is_kept = |name: &str| kept.iter().any(|kept| kept.as_str() == Some(name));
    let is_directive = |name: &str| name.starts_with(SET_ORDER) || name.starts_with(DELETE_FROM_LIST);
    if patch.iter().any(|(name, value)| !value.is_null() && !is_directive(name) && !is_kept(name)) {
        return Err(StrategicError::RetainKeys);
    }
    original.retain(|name, _| is_kept(name));
    Ok(())
}

/// What is added where nothing was: without nulls, and without objects that say `$patch`. Other directives stay, as fields that the
/// type does not know.
fn added(value: Value) -> Option<Value> {
    without_marked(without_nulls(value))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        scalar => scalar,
    }
}

/// Without objects that say `$patch`.
fn without_marked(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(PATCH) => None,
        Value::Object(fields) => {
            let kept = fields.into_iter().filter_map(|(name, value)| Some((name, without_marked(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_marked).collect()),
        scalar => Some(scalar),
    }
}
