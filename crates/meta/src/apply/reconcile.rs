//! Sets of fields that were written under an older schema: what is one value now is owned as one. It must not know who owns them.
use super::element::PathElement;
use super::node::{List, Map as MapNode, Node, Relation};
use super::set::Set;

/// The set as the schema has it now; none where nothing is to change.
pub fn reconcile(set: &Set, node: Node<'_>) -> Option<Set> {
    let mut changes = Changes::default();
    visit(Some(set), node, false, &mut changes);
    if changes.whole.is_empty() {
        return None;
    }
    Some(set.recursive_difference(&changes.whole).union(&changes.whole))
}

#[derive(Default)]
struct Changes {
    /// Paths that go with all below them and come back as one value.
    whole: Set,
}

/// Says whether the place itself became one value. `is_leaf`: it is in the set, with nothing below.
fn visit(set: Option<&Set>, node: Node<'_>, is_leaf: bool, changes: &mut Changes) -> bool {
    let atom = node.atom();
    if let Some(map) = atom.map {
        visit_map(set, map, is_leaf, changes)
    } else if atom.scalar.is_some() {
        false
    } else if let Some(list) = atom.list {
        visit_list(set, list, is_leaf, changes)
    } else {
        false
    }
}

fn visit_map(set: Option<&Set>, map: MapNode<'_>, is_leaf: bool, changes: &mut Changes) -> bool {
    if map.is_deduced() {
        return false;
    }
    if !is_leaf && map.atomic {
        return set.is_some_and(|set| !set.is_empty());
    }
    if let Some(set) = set {
        each_element(set, changes, |element| match element {
            PathElement::Field(name) => map.member(name),
            _ => map.rest,
        });
    }
    false
}

fn visit_list(set: Option<&Set>, list: List<'_>, is_leaf: bool, changes: &mut Changes) -> bool {
    if !is_leaf && matches!(list.relation, Relation::Atomic) {
        return true;
    }
    if let Some(set) = set {
        each_element(set, changes, |_| Some(list.item));
    }
    false
}

/// Fields that the schema does not have any more are left alone.
fn each_element<'s>(set: &Set, changes: &mut Changes, node: impl Fn(&PathElement) -> Option<Node<'s>>) {
    let only_children =
        set.children.iter().map(|(element, _)| element).filter(|element| !set.has_member(element));
    for (element, is_member) in
        only_children.map(|element| (element, false)).chain(set.members.iter().map(|element| (element, true)))
    {
        let Some(node) = node(element) else { continue };
        let below = set.child(element);
        let mut inner = Changes::default();
        if visit(below, node, is_member && below.is_none(), &mut inner) {
            changes.whole.insert_member(element.clone());
        }
        changes.whole.insert_child(element.clone(), inner.whole);
    }
}
