//! Merges two lists: of objects by their key, of scalars by value. It must not look for directives of the object around the lists.
use serde_json::Value;

use super::error::{Merged, StrategicError};
use super::shape::Plan;
use super::{PATCH, merge_maps, order};
use crate::go;

/// Merges the items of a patch into those of the object; `deletes` says that the patch names scalars to remove.
pub(super) fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    plan: &Plan,
    deletes: bool,
) -> Merged<Vec<Value>> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !is_of_objects(&original, &patch)? {
        if deletes {
            return Ok(original.into_iter().filter(|item| !patch.contains(item)).collect());
        }
        let merged = merge_scalars(&original, &patch);
        return order::arrange(merged, &patch, &original, plan.merge_key, false);
    }
    if plan.merge_key.is_empty() {
        return Err(StrategicError::NoKeyDeclared(plan.shape.kind()));
    }
    let (original, patch) = apply_directives(original, patch, plan.merge_key)?;
    let merged = merge_objects(original.clone(), &patch, plan)?;
    order::arrange(merged, &patch, &original, plan.merge_key, true)
}

/// All items of both lists must be of one type, and none may be a list.
pub(super) fn is_of_objects(original: &[Value], patch: &[Value]) -> Merged<bool> {
    let mut items = original.iter().chain(patch);
    let first = items.next().ok_or(StrategicError::NoElements)?;
    if first.is_array() {
        return Err(StrategicError::ListOfLists);
    }
    if items.any(|item| go::type_name(item) != go::type_name(first)) {
        let lists = [original, patch].map(|list| go::value(&Value::Array(list.to_vec())));
        return Err(StrategicError::MixedList(format!("[{}]", lists.join(" "))));
    }
    Ok(first.is_object())
}

fn merge_scalars(original: &[Value], patch: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
    for item in original.iter().chain(patch) {
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    merged
}

/// Items of the patch that say `$patch` delete from the list or replace it; they are taken out.
fn apply_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Merged<(Vec<Value>, Vec<Value>)> {
    let (mut plain, mut replaces) = (Vec::with_capacity(patch.len()), false);
    for item in patch {
        let Value::Object(fields) = &item else { continue };
        let Some(directive) = fields.get(PATCH) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let wanted = fields.get(key);
                let wanted = wanted.ok_or_else(|| StrategicError::no_merge_key(fields, key))?;
                original.retain(|item| item.get(key) != Some(wanted));
            }
            Some("replace") => replaces = true,
            Some("merge") => return Err(StrategicError::MergeDirective),
            _ => return Err(StrategicError::unknown_directive(directive, fields)),
        }
    }
    Ok(if replaces { (plain, Vec::new()) } else { (original, plain) })
}

fn merge_objects(mut merged: Vec<Value>, patch: &[Value], plan: &Plan) -> Merged<Vec<Value>> {
    let key = plan.merge_key;
    for item in patch {
        let Value::Object(fields) = item else { continue };
        let wanted = fields.get(key).ok_or_else(|| StrategicError::no_merge_key(fields, key))?;
        match merged.iter_mut().find(|item| item.get(key) == Some(wanted)) {
            None => merged.push(item.clone()),
            Some(Value::Object(current)) => {
                *current = merge_maps(std::mem::take(current), fields.clone(), plan.shape)?;
            }
            Some(other) => return Err(StrategicError::no_map(other)),
        }
    }
    Ok(merged)
}
