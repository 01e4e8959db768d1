//! The order of merged lists: that of `$setElementOrder`, then that of the patch, then that of the object. It must not merge items.
use serde_json::Value;

use super::error::{Merged, StrategicError};
use super::list::is_of_objects;
use super::shape::Shape;
use super::{PATCH, SET_ORDER, directed, list, without_marked};
use crate::go;
use crate::object::Object;

/// Upstream's sort inserts up to so many items one by one, and its comparison takes an item without a place for the first of any two.
const INSERTED: usize = 20;

/// Merges the lists whose order the patch states, and takes them out of the patch.
pub(super) fn merge_ordered_lists(original: &mut Object, patch: &mut Object, shape: Shape) -> Merged {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let Some(order) = patch.remove(&directive) else { continue };
        let order = as_list(&order)?;
        let name = directed(&directive, SET_ORDER).ok_or(StrategicError::SetElementOrder)?;
        merge_ordered(original, patch, name, &order, shape)?;
    }
    Ok(())
}

fn as_list(value: &Value) -> Merged<Vec<Value>> {
    value.as_array().cloned().ok_or_else(|| StrategicError::no_list(value))
}

fn merge_ordered(
    original: &mut Object,
    patch: &mut Object,
    name: &str,
    order: &[Value],
    shape: Shape,
) -> Merged {
    // Where nothing was, trees have a null that Go does not write.
    let live = original.get(name).filter(|value| !value.is_null()).map(as_list).transpose()?;
    let patched = patch.get(name).map(as_list).transpose()?;
    let plan = shape.list_plan(name)?;
    check_order(patched.as_deref().unwrap_or_default(), order, plan.merge_key)?;
    let merged = match (live.clone(), patched.clone()) {
        (None, None) => return Ok(()),
        (Some(live), None) => live,
        (None, Some(patched)) => patched.into_iter().filter_map(without_marked).collect(),
        (Some(live), Some(patched)) if plan.strategy.merge => list::merge(live, patched, &plan, false)?,
        (Some(_), Some(patched)) => patched,
    };
    merged.iter().try_for_each(|item| identity(item, plan.merge_key).map(drop))?;
    let live = live.unwrap_or_default();
    let are_objects = is_of_objects(&live, patched.as_deref().unwrap_or_default())?;
    let arranged = arrange(merged, order, &live, plan.merge_key, are_objects)?;
    original.insert(name.to_owned(), Value::Array(arranged));
    patch.remove(name);
    Ok(())
}

/// The items of the patch must stand in the stated order, and all be in it.
fn check_order(patch: &[Value], order: &[Value], key: &str) -> Merged {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut items = Vec::with_capacity(patch.len());
    for item in patch {
        if !key.is_empty() && !item.is_object() {
            return Err(StrategicError::no_map(item));
        }
        if item.get(PATCH).is_none() {
            items.push(item);
        }
    }
    let mut left = items.into_iter().peekable();
    for stated in order {
        let Some(item) = left.peek() else { break };
        if identity(item, key)? == identity(stated, key)? {
            left.next();
        }
    }
    match left.peek() {
        None => Ok(()),
        Some(_) => {
            let shown = |list: &[Value]| go::value(&Value::Array(list.to_vec()));
            Err(StrategicError::OrderMismatch { patch: shown(patch), order: shown(order) })
        }
    }
}

/// What an item is matched by: the value of its key, or itself when there is no key.
fn identity<'a>(item: &'a Value, key: &str) -> Merged<&'a Value> {
    if key.is_empty() {
        return Ok(item);
    }
    let fields = item.as_object().ok_or_else(|| StrategicError::no_map(item))?;
    fields.get(key).ok_or_else(|| StrategicError::no_merge_key(fields, key))
}

/// Puts items into order: those in `stated` by it, the others by `live`, and both lists into each other.
pub(super) fn arrange(
    merged: Vec<Value>,
    stated: &[Value],
    live: &[Value],
    key: &str,
    are_objects: bool,
) -> Merged<Vec<Value>> {
    for item in &merged {
        identity(item, key)?;
    }
    if !key.is_empty()
        && !merged.is_empty()
        && let Some(index) = stated.iter().position(|item| !item.is_object())
    {
        return Err(StrategicError::NotAMap(index));
    }
    let (named, others) = merged.into_iter().partition(|item| place(stated, item, key).is_some());
    let named = sort(named, stated, key, are_objects)?;
    let others = sort(others, live, key, are_objects)?;
    Ok(interleave(named, others, live, key))
}

/// Where an item stands in a list, by its key or by itself.
fn place(list: &[Value], item: &Value, key: &str) -> Option<usize> {
    if key.is_empty() {
        return list.iter().position(|other| other == item);
    }
    list.iter().position(|other| other.get(key) == item.get(key))
}

fn sort(items: Vec<Value>, order: &[Value], key: &str, are_objects: bool) -> Merged<Vec<Value>> {
    if are_objects {
        for item in items.iter().chain(order) {
            let fields = item.as_object().ok_or_else(|| StrategicError::no_map(item))?;
            fields.get(key).ok_or_else(|| StrategicError::no_merge_key(fields, key))?;
        }
    }
    let mut placed: Vec<_> = items.into_iter().map(|item| (place(order, &item, key), item)).collect();
    if placed.len() > INSERTED || placed.iter().all(|(place, _)| place.is_some()) {
        placed.sort_by_key(|(place, _)| *place);
    } else {
        insert_in_order(&mut placed);
    }
    Ok(placed.into_iter().map(|(_, item)| item).collect())
}

fn insert_in_order(placed: &mut [(Option<usize>, Value)]) {
    let is_less = |left: Option<usize>, right: Option<usize>| match (left, right) {
        (Some(left), Some(right)) => left < right,
        _ => true,
    };
    for end in 1..placed.len() {
        let mut at = end;
        while at > 0 && is_less(placed[at].0, placed[at - 1].0) {
            placed.swap(at, at - 1);
            at -= 1;
        }
    }
}

fn interleave(named: Vec<Value>, others: Vec<Value>, live: &[Value], key: &str) -> Vec<Value> {
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return arranged,
            (other, None) => other.is_some(),
            (None, _) => false,
            (Some(other), Some(item)) => {
                let places = (place(live, other, key), place(live, item, key));
                matches!(places, (Some(other), Some(item)) if other < item)
            }
        };
        arranged.extend(if other_first { others.next() } else { named.next() });
    }
}
