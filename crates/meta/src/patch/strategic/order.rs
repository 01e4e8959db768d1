//! The order of merged lists: that of `$setElementOrder`, then that of the patch, then that of the object. It must not merge items.
use serde_json::Value;

use super::list::{is_of_objects, no_merge_key};
use super::{Merged, PATCH, SET_ORDER, Shape, StrategicError, go_type, go_value, list};
use crate::object::Object;

/// Merges the lists whose order the patch states, and takes them out of the patch.
pub(super) fn merge_ordered_lists(original: &mut Object, patch: &mut Object, shape: Shape) -> Merged {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let Some(order) = patch.remove(&directive) else { continue };
        let name = &directive[SET_ORDER.len()..];
        if name.is_empty() {
            return Err(StrategicError::SetElementOrder);
        }
        let order = as_list(order)?;
        merge_ordered(original, patch, name, &order, shape)?;
    }
    Ok(())
}

fn as_list(value: Value) -> Merged<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(StrategicError::BadType { expected: "[]interface {}", received: go_type(&other) }),
    }
}

fn merge_ordered(
    original: &mut Object,
    patch: &mut Object,
    name: &str,
    order: &[Value],
    shape: Shape,
) -> Merged {
    // A null in the patch deletes the list, which happens with the other fields.
    if patch.get(name).is_some_and(Value::is_null) {
        return Ok(());
    }
    let current = original.get(name).filter(|value| !value.is_null()).cloned().map(as_list).transpose()?;
    let patched = patch.get(name).cloned().map(as_list).transpose()?;
    let plan = shape.plan(name)?;
    check_order(patched.as_deref().unwrap_or_default(), order, plan.merge_key)?;
    let live = current.clone().unwrap_or_default();
    let merged = match (current, patched) {
        (None, None) => return Ok(()),
        (Some(current), None) => current,
        (None, Some(patched)) => patched.into_iter().filter_map(super::without_directives).collect(),
        (Some(current), Some(patched)) => list::merge(current, patched, &plan, false)?,
    };
    let arranged = if plan.merge_key.is_empty() {
        arrange_scalars(merged, order, &live)
    } else {
        arrange(merged, order, &live, plan.merge_key)?
    };
    original.insert(name.to_owned(), Value::Array(arranged));
    patch.remove(name);
    Ok(())
}

/// The items of the patch must stand in the stated order, and all be in it.
fn check_order(patch: &[Value], order: &[Value], key: &str) -> Merged {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let wanted = identity(item, key)?;
        let found = rest.try_fold(false, |_, stated| match identity(stated, key) {
            Ok(stated) if stated == wanted => Err(Ok(true)),
            Ok(_) => Ok(false),
            Err(error) => Err(Err(error)),
        });
        match found {
            Err(Ok(_)) => {}
            Err(Err(error)) => return Err(error),
            Ok(_) => {
                return Err(StrategicError::OrderMismatch {
                    patch: go_value(&Value::Array(patch.to_vec())),
                    order: go_value(&Value::Array(order.to_vec())),
                });
            }
        }
    }
    Ok(())
}

/// What an item is matched by: the value of its key, or itself when there is no key.
fn identity<'a>(item: &'a Value, key: &str) -> Merged<&'a Value> {
    if key.is_empty() { Ok(item) } else { item.get(key).ok_or_else(|| no_merge_key(item, key)) }
}

/// Puts objects into order: those in `stated` by it, the others by `live`, and both lists into each other.
pub(super) fn arrange(merged: Vec<Value>, stated: &[Value], live: &[Value], key: &str) -> Merged<Vec<Value>> {
    if !is_of_objects(&merged, &[])? && !merged.is_empty() {
        return Err(StrategicError::BadType {
            expected: "map[string]interface {}",
            received: go_type(&merged[0]),
        });
    }
    for item in merged.iter().chain(stated).chain(live) {
        identity(item, key)?;
    }
    Ok(interleave(merged, stated, live, |item| item.get(key).unwrap_or(&Value::Null)))
}

/// Puts scalars into order.
pub(super) fn arrange_scalars(merged: Vec<Value>, stated: &[Value], live: &[Value]) -> Vec<Value> {
    interleave(merged, stated, live, |item| item)
}

fn interleave(
    merged: Vec<Value>,
    stated: &[Value],
    live: &[Value],
    identity: impl for<'v> Fn(&'v Value) -> &'v Value,
) -> Vec<Value> {
    let place =
        |list: &[Value], item: &Value| list.iter().position(|other| identity(other) == identity(item));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(stated, item).is_some());
    named.sort_by_key(|item| place(stated, item));
    others.sort_by_key(|item| place(live, item).unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return arranged,
            (other, None) => other.is_some(),
            (None, _) => false,
            (Some(other), Some(item)) => {
                matches!((place(live, other), place(live, item)), (Some(other), Some(item)) if other < item)
            }
        };
        arranged.extend(if other_first { others.next() } else { named.next() });
    }
}
