//! The set of fields that a value has: every leaf and every list item. It must not judge the value.
use serde_json::{Map, Value};

use super::element::PathElement;
use super::item;
use super::node::{List, Map as MapNode, Node, Relation};
use super::set::Set;

/// The fields of a value.
pub fn collect(value: &Value, node: Node<'_>) -> Set {
    let mut set = Set::default();
    visit(value, node, &mut set);
    set
}

/// Puts what is below into the set; says whether the value itself is a leaf.
fn visit(value: &Value, node: Node<'_>, set: &mut Set) -> bool {
    let atom = node.atom().deduce(Some(value));
    if let Some(map) = atom.map {
        if let (false, Value::Object(fields)) = (map.atomic, value) {
            visit_fields(fields, map, set);
        }
        map.atomic
    } else if atom.scalar.is_some() {
        true
    } else if let Some(list) = atom.list {
        let atomic = matches!(list.relation, Relation::Atomic);
        if let (false, Value::Array(items)) = (atomic, value) {
            visit_items(items, list, set);
        }
        atomic
    } else {
        false
    }
}

fn visit_fields(fields: &Map<String, Value>, map: MapNode<'_>, set: &mut Set) {
    for (name, value) in fields {
        let declared = map.field(name);
        let mut below = Set::default();
        let leaf = declared.or(map.rest).is_some_and(|node| visit(value, node, &mut below));
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        let element = PathElement::field(name.as_str());
        if leaf || empty || declared.is_none() {
            set.insert_member(element.clone());
        }
        set.insert_child(element, below);
    }
}

fn visit_items(items: &[Value], list: List<'_>, set: &mut Set) {
    // Validation has refused items without an element.
    let elements: Vec<_> =
        items.iter().filter_map(|value| Some((item::element(&list, value).ok()?, value))).collect();
    let mut sorted: Vec<_> = elements.iter().map(|(element, _)| element).collect();
    sorted.sort();
    for (element, value) in &elements {
        let first = sorted.partition_point(|other| *other < element);
        let unique = sorted.get(first + 1).is_none_or(|next| *next != element);
        set.insert_member(element.clone());
        // Items that nothing tells apart are owned together, without what is in them.
        if unique {
            let mut below = Set::default();
            visit(value, list.item, &mut below);
            set.insert_child(element.clone(), below);
        }
    }
}
