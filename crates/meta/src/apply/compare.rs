//! What changed between two values of a type, field by field. It must not change either.
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::PathElement;
use super::filter::Filter;
use super::item;
use super::node::{Atom, List, Map as MapNode, Node, Relation};
use super::scalar::equal;
use super::set::Set;
use super::validate::{TypedErrors, check_scalar};

/// What changed. No field is in more than one of the sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Is only in the old value.
    pub removed: Set,
    /// Is in both and differs.
    pub modified: Set,
    /// Is only in the new value.
    pub added: Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Same,
    Removed,
    Modified,
    Added,
}

impl Comparison {
    /// Whether nothing changed.
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    pub(super) fn filter(self, filter: Filter) -> Self {
        Self {
            removed: filter.apply(self.removed),
            modified: filter.apply(self.modified),
            added: filter.apply(self.added),
        }
    }

    pub(super) fn without(self, set: &Set) -> Self {
        Self {
            removed: self.removed.difference(set),
            modified: self.modified.difference(set),
            added: self.added.difference(set),
        }
    }

    fn mark(&mut self, element: PathElement, mark: Mark) {
        match mark {
            Mark::Same => {}
            Mark::Removed => self.removed.insert_member(element),
            Mark::Modified => self.modified.insert_member(element),
            Mark::Added => self.added.insert_member(element),
        }
    }

    fn put(&mut self, element: PathElement, below: Self, mark: Mark) {
        self.removed.insert_child(element.clone(), below.removed);
        self.modified.insert_child(element.clone(), below.modified);
        self.added.insert_child(element.clone(), below.added);
        self.mark(element, mark);
    }
}

/// Compares two values of a type.
pub fn compare(old: &Value, new: &Value, node: Node<'_>) -> Result<Comparison, TypedErrors> {
    let mut comparison = Comparison::default();
    visit(Pair { old: Some(old), new: Some(new) }, node, &mut comparison)?;
    Ok(comparison)
}

#[derive(Clone, Copy)]
struct Pair<'v> {
    old: Option<&'v Value>,
    new: Option<&'v Value>,
}

impl Pair<'_> {
    fn leaf(self) -> Mark {
        match (self.old, self.new) {
            (Some(old), Some(new)) if equal(old, new) => Mark::Same,
            (Some(_), Some(_)) => Mark::Modified,
            _ => self.presence(),
        }
    }

    fn presence(self) -> Mark {
        match (self.old, self.new) {
            (None, Some(_)) => Mark::Added,
            (Some(_), None) => Mark::Removed,
            _ => Mark::Same,
        }
    }
}

fn visit(pair: Pair<'_>, node: Node<'_>, below: &mut Comparison) -> Result<Mark, TypedErrors> {
    // Comparing trees is much cheaper than walking them along a schema.
    if let (Some(old), Some(new)) = (pair.old, pair.new)
        && old == new
    {
        return Ok(Mark::Same);
    }
    let atom = node.atom();
    let (old, new) = (atom.deduce(pair.old), atom.deduce(pair.new));
    let leaf = if pair.new.is_none() {
        handle(pair, old, below)?
    } else if pair.old.is_none() || old.same_kinds(&new) {
        handle(pair, new, below)?
    } else {
        // The value became one of another kind: what it had is looked at as what it was.
        let as_old = handle(pair, old, below)?;
        handle(pair, new, below)? || as_old
    };
    Ok(if leaf { pair.leaf() } else { pair.presence() })
}

/// Says whether the pair was taken as one value.
fn handle(pair: Pair<'_>, atom: Atom<'_>, below: &mut Comparison) -> Result<bool, TypedErrors> {
    if let Some(map) = atom.map {
        let (old, new) = (fields(pair.old), fields(pair.new));
        let nothing = old.is_none_or(Map::is_empty) && new.is_none_or(Map::is_empty);
        if map.atomic || nothing {
            return Ok(true);
        }
        compare_fields(old, new, map, below)?;
        return Ok(false);
    }
    if let Some(scalar) = atom.scalar {
        let (old, new) = (check_scalar(scalar, pair.old, "lhs: "), check_scalar(scalar, pair.new, "rhs: "));
        return match (old, new) {
            (Err(mut old), Err(new)) => {
                old.0.extend(new.0);
                Err(old)
            }
            _ => Ok(true),
        };
    }
    let Some(list) = atom.list else { return Err(TypedErrors::one("schema error: invalid atom: inlined")) };
    let (old, new) = (items(pair.old), items(pair.new));
    if matches!(list.relation, Relation::Atomic) || (old.is_empty() && new.is_empty()) {
        return Ok(true);
    }
    compare_items(old, new, list, below)?;
    Ok(false)
}

fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn compare_fields(
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    map: MapNode<'_>,
    out: &mut Comparison,
) -> Result<(), TypedErrors> {
    let (mut old, mut new) = (old.into_iter().flatten().peekable(), new.into_iter().flatten().peekable());
    loop {
        // Both are ordered by name.
        let name = match (old.peek(), new.peek()) {
            (None, None) => return Ok(()),
            (Some((name, _)), None) | (None, Some((name, _))) => *name,
            (Some((left, _)), Some((right, _))) => *left.min(right),
        };
        let pair = Pair {
            old: old.next_if(|(own, _)| *own == name).map(|(_, value)| value),
            new: new.next_if(|(own, _)| *own == name).map(|(_, value)| value),
        };
        let element = || PathElement::field(name.as_str());
        let node = map
            .member(name)
            .ok_or_else(|| TypedErrors::one("schema error: invalid atom: inlined").below(element()))?;
        let mut below = Comparison::default();
        let mark = visit(pair, node, &mut below).map_err(|errors| errors.below(element()))?;
        out.put(element(), below, mark);
    }
}

#[derive(Default)]
struct Found<'v> {
    old: Vec<&'v Value>,
    new: Vec<&'v Value>,
}

fn compare_items(
    old: &[Value],
    new: &[Value],
    list: List<'_>,
    out: &mut Comparison,
) -> Result<(), TypedErrors> {
    let mut found: BTreeMap<PathElement, Found<'_>> = BTreeMap::new();
    let element = |index: usize, value: &Value| {
        item::element(&list, value).map_err(|message| TypedErrors::one(format!("element {index}: {message}")))
    };
    for (index, value) in old.iter().enumerate() {
        found.entry(element(index, value)?).or_default().old.push(value);
    }
    for (index, value) in new.iter().enumerate() {
        found.entry(element(index, value)?).or_default().new.push(value);
    }
    for (element, found) in found {
        compare_item(element, &found, list, out)?;
    }
    Ok(())
}

fn compare_item(
    element: PathElement,
    found: &Found<'_>,
    list: List<'_>,
    out: &mut Comparison,
) -> Result<(), TypedErrors> {
    let one = |out: &mut Comparison, pair: Pair<'_>| {
        let mut below = Comparison::default();
        let mark = visit(pair, list.item, &mut below).map_err(|errors| errors.below(&element))?;
        out.put(element.clone(), below, mark);
        Ok(())
    };
    let (old, new) = (found.old.first().copied(), found.new.first().copied());
    match (found.old.len(), found.new.len()) {
        (0 | 1, 0 | 1) => one(out, Pair { old, new }),
        // Items that nothing tells apart are one value.
        (2.., 2..) => {
            let same = found.old.len() == found.new.len()
                && found.old.iter().zip(&found.new).all(|(old, new)| equal(old, new));
            out.mark(element, if same { Mark::Same } else { Mark::Modified });
            Ok(())
        }
        (2.., _) => {
            if new.is_some() {
                one(out, Pair { old: None, new })?;
            }
            out.mark(element, Mark::Removed);
            Ok(())
        }
        (_, 2..) => {
            if old.is_some() {
                one(out, Pair { old, new: None })?;
            }
            out.mark(element, Mark::Added);
            Ok(())
        }
    }
}
