//! What a partial value makes of a value of its type: nothing is removed, leaves are replaced, lists and maps merge. It must not know
//! who applies.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::element::PathElement;
use super::item;
use super::node::{Atom, List, Map as MapNode, Node, Relation};
use super::validate::{TypedErrors, check_scalar};

type Merged = Result<Option<Value>, TypedErrors>;

/// Merges `patch` into `live`.
pub fn merge(live: &Value, patch: &Value, node: Node<'_>) -> Result<Value, TypedErrors> {
    Ok(visit(Some(live), Some(patch), node)?.unwrap_or(Value::Null))
}

fn visit(left: Option<&Value>, right: Option<&Value>, node: Node<'_>) -> Merged {
    let atom = node.atom();
    let (old, new) = (atom.deduce(left), atom.deduce(right));
    if right.is_none() {
        handle(left, right, old)
    } else if left.is_none() || old.same_kinds(&new) {
        handle(left, right, new)
    } else {
        // The value becomes one of another kind; that it can be read as both is all that the first look is for.
        handle(left, right, old)?;
        handle(left, right, new)
    }
}

/// The patch's value where it has one.
fn leaf(left: Option<&Value>, right: Option<&Value>) -> Merged {
    Ok(right.or(left).cloned())
}

fn handle(left: Option<&Value>, right: Option<&Value>, atom: Atom<'_>) -> Merged {
    if let Some(map) = atom.map {
        let (old, new) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
        let nothing = old.is_none_or(Map::is_empty) && new.is_none_or(Map::is_empty);
        return if map.atomic || nothing { leaf(left, right) } else { merge_fields(old, new, map) };
    }
    if let Some(scalar) = atom.scalar {
        let (old, new) = (check_scalar(scalar, left, "lhs: "), check_scalar(scalar, right, "rhs: "));
        return match (old, new) {
            (Err(mut old), Err(new)) => {
                old.0.extend(new.0);
                Err(old)
            }
            _ => leaf(left, right),
        };
    }
    let Some(list) = atom.list else { return Err(TypedErrors::one("schema error: invalid atom: inlined")) };
    let (old, new) = (items(left), items(right));
    if matches!(list.relation, Relation::Atomic) || (old.is_empty() && new.is_empty()) {
        return leaf(left, right);
    }
    merge_items(old, new, list)
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn merge_fields(
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    map: MapNode<'_>,
) -> Merged {
    let mut out = Map::new();
    let names: BTreeSet<&String> = [old, new].into_iter().flatten().flat_map(Map::keys).collect();
    for name in names {
        let element = || PathElement::field(name.as_str());
        let node = map
            .member(name)
            .ok_or_else(|| TypedErrors::one("schema error: invalid atom: inlined").below(element()))?;
        let (left, right) = (old.and_then(|old| old.get(name)), new.and_then(|new| new.get(name)));
        let merged = visit(left, right, node).map_err(|errors| errors.below(element()))?;
        if let Some(merged) = merged {
            out.insert(name.clone(), merged);
        }
    }
    Ok((!out.is_empty()).then_some(Value::Object(out)))
}

fn merge_items(old: &[Value], new: &[Value], list: List<'_>) -> Merged {
    let new = Indexed::of(new, &list, false)?;
    let old = Indexed::of(old, &list, true)?;
    let shared = new.order.iter().filter(|element| old.values.contains_key(element)).cloned().collect();
    let mut out = Interleave { list, old, new, shared, merged: BTreeSet::new(), out: Vec::new() };
    out.run()?;
    Ok((!out.out.is_empty()).then_some(Value::Array(out.out)))
}

/// A list by elements.
struct Indexed<'v> {
    items: &'v [Value],
    /// In the order of the list.
    order: Vec<PathElement>,
    values: BTreeMap<PathElement, &'v Value>,
}

static NULL: Value = Value::Null;

impl<'v> Indexed<'v> {
    fn of(items: &'v [Value], list: &List<'_>, duplicates: bool) -> Result<Self, TypedErrors> {
        let mut indexed = Self { items, order: Vec::new(), values: BTreeMap::new() };
        let mut errors = TypedErrors::default();
        for (index, value) in items.iter().enumerate() {
            let element = match item::element(list, value) {
                Ok(element) => element,
                Err(message) => {
                    errors.0.extend(TypedErrors::one(format!("element {index}: {message}")).0);
                    continue;
                }
            };
            if indexed.values.contains_key(&element) && !duplicates {
                errors.0.extend(TypedErrors::one(format!("duplicate entries for key {element}")).0);
                continue;
            }
            // Nothing is merged into items that nothing tells apart.
            indexed.values.entry(element.clone()).and_modify(|value| *value = &NULL).or_insert(value);
            indexed.order.push(element);
        }
        if errors.0.is_empty() { Ok(indexed) } else { Err(errors) }
    }
}

/// Brings the items of both lists into one order: what both have stands as the patch has it, the rest where it stood among the others.
struct Interleave<'v, 's> {
    list: List<'s>,
    old: Indexed<'v>,
    new: Indexed<'v>,
    /// What both have and is still to come, in the patch's order.
    shared: VecDeque<PathElement>,
    merged: BTreeSet<PathElement>,
    out: Vec<Value>,
}

impl Interleave<'_, '_> {
    fn run(&mut self) -> Result<(), TypedErrors> {
        let (mut left, mut right) = (0, 0);
        let mut next_shared = self.shared.pop_front();
        while left < self.old.order.len() || right < self.new.order.len() {
            if left < self.old.order.len() && right < self.new.order.len() {
                let element = self.old.order[left].clone();
                if element == self.new.order[right] {
                    self.take_new(&element)?;
                    (left, right) = (left + 1, right + 1);
                    next_shared = self.shared.pop_front();
                    continue;
                }
                let is_shared = self.new.values.contains_key(&element);
                if is_shared && next_shared.as_ref().is_some_and(|next| *next != element) {
                    // It comes later, where the patch has it.
                    left += 1;
                    continue;
                }
            }
            if let Some(element) = self.old.order.get(left).cloned() {
                if !self.new.values.contains_key(&element) {
                    // By position, as of items that nothing tells apart each stays.
                    let value = &self.old.items[left];
                    self.push(&element, Some(value), None)?;
                    left += 1;
                    continue;
                }
                if self.merged.contains(&element) {
                    left += 1;
                }
            }
            if let Some(element) = self.new.order.get(right).cloned() {
                self.take_new(&element)?;
                right += 1;
                if next_shared.as_ref() == Some(&element) {
                    next_shared = self.shared.pop_front();
                }
            }
        }
        Ok(())
    }

    fn take_new(&mut self, element: &PathElement) -> Result<(), TypedErrors> {
        self.merged.insert(element.clone());
        let (old, new) = (self.old.values.get(element).copied(), self.new.values.get(element).copied());
        self.push(element, old, new)
    }

    fn push(
        &mut self,
        element: &PathElement,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(), TypedErrors> {
        let merged = visit(old, new, self.list.item).map_err(|errors| errors.below(element))?;
        self.out.extend(merged);
        Ok(())
    }
}
