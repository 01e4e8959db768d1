//! Sets of fields, as trees of path elements. It must not know schemas or values: only which paths are in.
use std::cmp::Ordering;

use super::element::PathElement;
use super::node::Node;

/// A set of fields. A field below another may be in without the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    /// What is in, in order.
    pub(super) members: Vec<PathElement>,
    /// What has members below it, in order.
    pub(super) children: Vec<(PathElement, Set)>,
}

static EMPTY: Set = Set { members: Vec::new(), children: Vec::new() };

impl Set {
    /// A set of these paths of field names.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<_> = path.iter().copied().map(PathElement::field).collect();
            set.insert(&path);
        }
        set
    }

    /// Adds a path. Nothing tracks the whole object, so an empty path adds nothing.
    pub fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => self.insert_member(last.clone()),
            [first, rest @ ..] => self.descend(first.clone()).insert(rest),
        }
    }

    pub(super) fn insert_member(&mut self, element: PathElement) {
        if self.members.last().is_none_or(|last| *last < element) {
            self.members.push(element);
        } else if let Err(at) = self.members.binary_search(&element) {
            self.members.insert(at, element);
        }
    }

    fn descend(&mut self, element: PathElement) -> &mut Self {
        let at = match self.find(&element) {
            Ok(at) => at,
            Err(at) => {
                self.children.insert(at, (element, Self::default()));
                at
            }
        };
        &mut self.children[at].1
    }

    /// Puts a set below an element that has none yet.
    pub(super) fn insert_child(&mut self, element: PathElement, child: Self) {
        if child.members.is_empty() && child.children.is_empty() {
            return;
        }
        if self.children.last().is_none_or(|(last, _)| *last < element) {
            self.children.push((element, child));
            return;
        }
        match self.find(&element) {
            Ok(at) => self.children[at].1 = self.children[at].1.union(&child),
            Err(at) => self.children.insert(at, (element, child)),
        }
    }

    fn find(&self, element: &PathElement) -> Result<usize, usize> {
        self.children.binary_search_by(|(own, _)| own.cmp(element))
    }

    /// Whether nothing is in.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.iter().all(|(_, child)| child.is_empty())
    }

    /// How many fields are in.
    pub fn len(&self) -> usize {
        self.members.len() + self.children.iter().map(|(_, child)| child.len()).sum::<usize>()
    }

    /// Whether the path is in.
    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last),
            [first, rest @ ..] => self.child(first).is_some_and(|child| child.has(rest)),
        }
    }

    /// Whether the path of these field names is in.
    pub fn has_fields(&self, path: &[&str]) -> bool {
        let path: Vec<_> = path.iter().copied().map(PathElement::field).collect();
        self.has(&path)
    }

    pub(super) fn has_member(&self, element: &PathElement) -> bool {
        self.members.binary_search(element).is_ok()
    }

    /// What is below an element, if anything.
    pub(super) fn child(&self, element: &PathElement) -> Option<&Self> {
        // Not being there is the answer.
        self.find(element).ok().map(|at| &self.children[at].1)
    }

    /// What is below an element.
    pub(super) fn below(&self, element: &PathElement) -> &Self {
        self.child(element).unwrap_or(&EMPTY)
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            members: merged(&self.members, &other.members, Ord::cmp, |left, _| left.clone()),
            children: merged(
                &self.children,
                &other.children,
                |left, right| left.0.cmp(&right.0),
                |left, right| (left.0.clone(), left.1.union(&right.1)),
            ),
        }
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let members = self.members.iter().filter(|member| other.has_member(member)).cloned().collect();
        let mut children = Vec::new();
        for (element, child) in &self.children {
            let shared = child.intersection(other.below(element));
            if !shared.is_empty() {
                children.push((element.clone(), shared));
            }
        }
        Self { members, children }
    }

    /// What is in this and not in the other. A field goes without what is below it.
    pub fn difference(&self, other: &Self) -> Self {
        self.without(other, false)
    }

    /// What is in this and not in the other. A field takes what is below it along.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.without(other, true)
    }

    fn without(&self, other: &Self, recursive: bool) -> Self {
        let members = self.members.iter().filter(|member| !other.has_member(member)).cloned().collect();
        let mut children = Vec::new();
        for (element, child) in &self.children {
            if recursive && other.has_member(element) {
                continue;
            }
            match other.child(element) {
                None => children.push((element.clone(), child.clone())),
                Some(below) => {
                    let left = child.without(below, recursive);
                    if !left.is_empty() {
                        children.push((element.clone(), left));
                    }
                }
            }
        }
        Self { members, children }
    }

    /// With every field that the schema names and that has something below it, which sets of an applied configuration leave out.
    pub(super) fn with_named_fields(&self, node: Option<Node<'_>>) -> Self {
        let atom = node.map(Node::atom).unwrap_or_default();
        let mut members = self.members.clone();
        let mut children = Vec::with_capacity(self.children.len());
        for (element, child) in &self.children {
            let mut below = None;
            match element {
                PathElement::Field(name) => {
                    if let Some(map) = atom.map {
                        let declared = map.field(name);
                        below = declared.or(map.rest);
                        if declared.is_some()
                            && let Err(at) = members.binary_search(element)
                        {
                            members.insert(at, element.clone());
                        }
                    }
                }
                PathElement::Key(_) => below = atom.list.map(|list| list.item),
                PathElement::Value(_) | PathElement::Index(_) => {}
            }
            children.push((element.clone(), child.with_named_fields(below)));
        }
        Self { members, children }
    }

    /// Calls `visit` with each path that is in: those at a level before those below them.
    pub fn for_each(&self, visit: &mut dyn FnMut(&[PathElement])) {
        self.walk(&mut Vec::new(), visit);
    }

    fn walk(&self, prefix: &mut Vec<PathElement>, visit: &mut dyn FnMut(&[PathElement])) {
        for member in &self.members {
            prefix.push(member.clone());
            visit(prefix);
            prefix.pop();
        }
        for (element, child) in &self.children {
            prefix.push(element.clone());
            child.walk(prefix, visit);
            prefix.pop();
        }
    }

    /// Every path that is in, as messages show it.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.for_each(&mut |path| paths.push(super::display_path(path)));
        paths
    }
}

/// Merges two ordered lists; what stands in both goes through `both`.
fn merged<T: Clone>(
    left: &[T],
    right: &[T],
    order: impl Fn(&T, &T) -> Ordering,
    both: impl Fn(&T, &T) -> T,
) -> Vec<T> {
    let (mut out, mut i, mut j) = (Vec::with_capacity(left.len().max(right.len())), 0, 0);
    while i < left.len() && j < right.len() {
        match order(&left[i], &right[j]) {
            Ordering::Less => {
                out.push(left[i].clone());
                i += 1;
            }
            Ordering::Greater => {
                out.push(right[j].clone());
                j += 1;
            }
            Ordering::Equal => {
                out.push(both(&left[i], &right[j]));
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    out.extend_from_slice(&left[i..]);
    out.extend_from_slice(&right[j..]);
    out
}
