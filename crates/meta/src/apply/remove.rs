//! A value without some of its fields. It must not know who owns them.
use serde_json::{Map, Value};

use super::element::PathElement;
use super::item;
use super::node::{List, Map as MapNode, Node, Relation};
use super::set::Set;

/// The value without the fields of the set; where nothing is left, a null.
pub fn remove(value: &Value, gone: &Set, node: Node<'_>) -> Value {
    if gone.is_empty() {
        return value.clone();
    }
    visit(value, gone, node)
}

fn visit(value: &Value, gone: &Set, node: Node<'_>) -> Value {
    let atom = node.atom().deduce(Some(value));
    let left = if let Some(map) = atom.map {
        match value {
            Value::Object(fields) if !map.atomic => without_fields(fields, gone, map),
            _ => None,
        }
    } else if atom.scalar.is_some() {
        Some(value.clone())
    } else if let Some(list) = atom.list {
        match value {
            Value::Array(items) if !matches!(list.relation, Relation::Atomic) => {
                without_items(items, gone, list)
            }
            _ => None,
        }
    } else {
        None
    };
    left.unwrap_or(Value::Null)
}

fn without_fields(fields: &Map<String, Value>, gone: &Set, map: MapNode<'_>) -> Option<Value> {
    let mut out = Map::new();
    for (name, value) in fields {
        let element = PathElement::field(name.as_str());
        if gone.has_member(&element) {
            continue;
        }
        let below = gone.below(&element);
        let left = match map.member(name) {
            Some(node) if !below.is_empty() => visit(value, below, node),
            _ => value.clone(),
        };
        out.insert(name.clone(), left);
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn without_items(items: &[Value], gone: &Set, list: List<'_>) -> Option<Value> {
    let mut out = Vec::new();
    for value in items {
        let Ok(element) = item::element(&list, value) else {
            // Validation has refused such items; one that is there all the same belongs to nobody.
            out.push(value.clone());
            continue;
        };
        if gone.has_member(&element) {
            continue;
        }
        let below = gone.below(&element);
        out.push(if below.is_empty() { value.clone() } else { visit(value, below, list.item) });
    }
    (!out.is_empty()).then_some(Value::Array(out))
}
