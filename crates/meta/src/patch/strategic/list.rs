//! Merges two lists: of objects by their key, of scalars by value. It must not look for directives of the object around the lists.
use serde_json::Value;

use super::{Merged, PATCH, Plan, StrategicError, go_type, go_value, merge_maps, order, unknown_directive};

/// Merges the items of a patch into those of the object; `deletes` says that the patch names scalars to remove.
pub(super) fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    plan: &Plan,
    deletes: bool,
) -> Merged<Vec<Value>> {
    if !plan.strategy.merge {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !is_of_objects(&original, &patch)? {
        return Ok(merge_scalars(original, patch, deletes));
    }
    let key = plan.merge_key;
    if key.is_empty() {
        return Err(StrategicError::NoKeyDeclared("struct".to_owned()));
    }
    let (original, patch) = apply_directives(original, patch, key)?;
    let merged = merge_objects(original.clone(), &patch, plan)?;
    order::arrange(merged, &patch, &original, key)
}

/// All items of both lists must be of one type, and none may be a list.
pub(super) fn is_of_objects(original: &[Value], patch: &[Value]) -> Merged<bool> {
    let mut first: Option<&Value> = None;
    for item in original.iter().chain(patch) {
        match first {
            None if item.is_array() => return Err(StrategicError::ListOfLists),
            None => first = Some(item),
            Some(first) if std::mem::discriminant(first) != std::mem::discriminant(item) => {
                let lists = [original, patch].map(|list| go_value(&Value::Array(list.to_vec())));
                return Err(StrategicError::MixedList(format!("[{}]", lists.join(" "))));
            }
            Some(_) => {}
        }
    }
    Ok(first.is_some_and(Value::is_object))
}

fn merge_scalars(original: Vec<Value>, patch: Vec<Value>, deletes: bool) -> Vec<Value> {
    if deletes {
        return original.into_iter().filter(|item| !patch.contains(item)).collect();
    }
    let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
    for item in original.iter().chain(&patch) {
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    order::arrange_scalars(merged, &patch, &original)
}

/// Items of the patch that say `$patch` delete from the list or replace it; they are taken out.
fn apply_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Merged<(Vec<Value>, Vec<Value>)> {
    let (mut plain, mut replace) = (Vec::with_capacity(patch.len()), false);
    for item in patch {
        let Value::Object(mut fields) = item else { continue };
        match fields.remove(PATCH) {
            None => plain.push(Value::Object(fields)),
            Some(Value::String(directive)) if directive == "delete" => {
                let wanted = fields.get(key).cloned();
                let wanted = wanted.ok_or_else(|| no_merge_key(&with_directive(fields, &directive), key))?;
                original.retain(|item| item.get(key) != Some(&wanted));
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(StrategicError::MergeDirective);
            }
            Some(other) => return Err(unknown_directive(&other, fields)),
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

fn with_directive(mut fields: crate::Object, directive: &str) -> Value {
    fields.insert(PATCH.to_owned(), Value::from(directive));
    Value::Object(fields)
}

pub(super) fn no_merge_key(item: &Value, key: &str) -> StrategicError {
    StrategicError::NoMergeKey { map: go_value(item), key: key.to_owned() }
}

fn merge_objects(mut merged: Vec<Value>, patch: &[Value], plan: &Plan) -> Merged<Vec<Value>> {
    for item in patch {
        let Value::Object(fields) = item else { continue };
        let wanted = fields.get(plan.merge_key).ok_or_else(|| no_merge_key(item, plan.merge_key))?;
        match merged.iter().position(|item| item.get(plan.merge_key) == Some(wanted)) {
            None => merged.extend(super::without_directives(item.clone())),
            Some(index) => {
                let Value::Object(current) = std::mem::take(&mut merged[index]) else {
                    return Err(StrategicError::BadType {
                        expected: "map[string]interface {}",
                        received: go_type(item),
                    });
                };
                merged[index] = Value::Object(merge_maps(current, fields.clone(), plan.shape)?);
            }
        }
    }
    Ok(merged)
}
