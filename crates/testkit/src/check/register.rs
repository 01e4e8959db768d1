//! Whether the operations of one object have an order that explains them: Wing and Gong's search with Lowe's memory. The object is a
//! register with compare-and-set, whose revisions are known from everything that was seen of its values.

use super::{Violation, collection};
use crate::history::{Action, Change, History, Operation, Outcome};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The value that the object has; `None` when it is absent.
type State<'a> = Option<&'a str>;

/// Checks one object.
pub(super) fn check(key: &str, operations: &[&Operation], history: &History) -> Option<Violation> {
    let facts = Facts::of(key, history);
    let mut sorted: Vec<&Operation> =
        operations.iter().copied().filter(|operation| facts.may_have_happened(operation)).collect();
    sorted.sort_by_key(|operation| operation.invoked);
    let complete = sorted.iter().filter(|operation| operation.outcome != Outcome::Unknown).count();
    let explained = Search { facts, operations: &sorted }.run();
    (explained < complete).then(|| Violation::NotLinearizable { key: key.to_owned(), explained })
}

/// What is known of the object beside what its operations returned. It keeps the search small: without it each operation that was not
/// answered may come at any later time or never, which doubles what is to be tried.
struct Facts<'a> {
    /// Of all values that were seen.
    revisions: HashMap<&'a str, i64>,
    /// Everything that happened to the object, in order, when somebody saw it all: the revision, and whether it was removed.
    changes: Option<Vec<(i64, bool)>>,
}

impl<'a> Facts<'a> {
    fn of(key: &str, history: &'a History) -> Self {
        let revisions: HashMap<&str, i64> = collection::seen(history).into_iter().collect();
        let newest = revisions.values().copied().max().unwrap_or(0);
        let covered = collection::covered(&history.watches);
        let is_whole = covered.first().is_some_and(|(from, through)| *from == 0 && *through >= newest);
        let events = history.watches.iter().flat_map(|watch| &watch.events).filter(|event| event.key == key);
        let changes: BTreeMap<i64, bool> =
            events.map(|event| (event.revision, event.change == Change::Deleted)).collect();
        Self { revisions, changes: is_whole.then(|| changes.into_iter().collect()) }
    }

    /// Whether the operation is to be explained, or may explain others: a write that was not answered, and whose value nobody saw
    /// although everything was seen, did not happen.
    fn may_have_happened(&self, operation: &Operation) -> bool {
        let is_unseen = operation.action.value().is_some_and(|value| !self.revisions.contains_key(value));
        self.changes.is_none() || operation.outcome != Outcome::Unknown || !is_unseen
    }

    /// Whether a change to `next` may be the object's change number `done`.
    fn allows(&self, done: usize, next: State<'_>) -> bool {
        let Some(changes) = &self.changes else { return true };
        let revision = next.and_then(|value| self.revisions.get(value));
        changes.get(done).is_some_and(|(at, is_removal)| match next {
            Some(_) => revision == Some(at),
            None => *is_removal,
        })
    }
}

struct Search<'a> {
    facts: Facts<'a>,
    /// In the order of their invocation.
    operations: &'a [&'a Operation],
}

/// Where the search stands.
struct Stand<'a> {
    done: Done,
    state: State<'a>,
    /// Operations that were answered.
    explained: usize,
    /// Changes of the object.
    changes: usize,
}

/// A set of operations, by position.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, index: usize) -> bool {
        self.0[index / 64] & (1 << (index % 64)) != 0
    }

    fn with(&self, index: usize) -> Self {
        let mut done = self.clone();
        done.0[index / 64] |= 1 << (index % 64);
        done
    }
}

impl<'a> Search<'a> {
    /// How many of the operations that were answered could be explained at most.
    fn run(&self) -> usize {
        let answered =
            self.operations.iter().filter(|operation| operation.outcome != Outcome::Unknown).count();
        let done = Done(vec![0; self.operations.len().div_ceil(64)]);
        let mut stack = vec![Stand { done, state: None, explained: 0, changes: 0 }];
        let mut seen: HashSet<(Done, State<'a>)> = HashSet::new();
        let mut most = 0;
        while let Some(stand) = stack.pop() {
            most = most.max(stand.explained);
            if most == answered {
                return most;
            }
            // A later entry of the stack is tried first, and operations in the order of their invocation are the best guess.
            for index in self.candidates(&stand.done).into_iter().rev() {
                let Some(next) = self.after(&stand, index) else { continue };
                if seen.insert((next.done.clone(), next.state)) {
                    stack.push(next);
                }
            }
        }
        most
    }

    /// The operations that may come next: those that were invoked before any other left one had returned. Of removals that were not
    /// answered and ask for nothing one is as good as another, now and later: the first stands for all.
    fn candidates(&self, done: &Done) -> Vec<usize> {
        let left = || (0..self.operations.len()).filter(|index| !done.has(*index));
        let first_return = left().map(|index| self.operations[index].returned).min().unwrap_or(u64::MAX);
        let mut has_removal = false;
        let mut is_new = |index: &usize| {
            let operation = self.operations[*index];
            let is_alike = operation.outcome == Outcome::Unknown
                && operation.action == Action::Delete { expected: None };
            !(is_alike && std::mem::replace(&mut has_removal, true))
        };
        let candidates = left().take_while(|index| self.operations[*index].invoked <= first_return);
        candidates.filter(|index| is_new(index)).collect()
    }

    /// Where the search stands when this operation comes next; nowhere, when it cannot.
    fn after(&self, stand: &Stand<'a>, index: usize) -> Option<Stand<'a>> {
        let operation = self.operations[index];
        let state = self.step(stand.state, operation)?;
        let is_change = state != stand.state;
        if is_change && !self.facts.allows(stand.changes, state) {
            return None;
        }
        Some(Stand {
            done: stand.done.with(index),
            state,
            explained: stand.explained + usize::from(operation.outcome != Outcome::Unknown),
            changes: stand.changes + usize::from(is_change),
        })
    }

    /// The states that the operation may leave; none when its outcome cannot be.
    fn step(&self, state: State<'a>, operation: &'a Operation) -> Option<State<'a>> {
        let revision = state.and_then(|value| self.facts.revisions.get(value).copied());
        let fits = |expected: &Option<i64>| expected.is_none_or(|expected| revision == Some(expected));
        match (&operation.action, &operation.outcome) {
            (Action::Create { value }, Outcome::Written(_) | Outcome::Unknown) => {
                state.is_none().then_some(Some(value.as_str()))
            }
            (Action::Create { .. }, Outcome::Exists) => state.is_some().then_some(state),
            (Action::Update { value, expected }, Outcome::Written(_) | Outcome::Unknown) => {
                (state.is_some() && fits(expected)).then_some(Some(value.as_str()))
            }
            (Action::Delete { expected }, Outcome::Deleted | Outcome::Unknown) => {
                (state.is_some() && fits(expected)).then_some(None)
            }
            (Action::Update { expected, .. } | Action::Delete { expected }, Outcome::Conflict) => {
                (state.is_some() && !fits(expected)).then_some(state)
            }
            (Action::Update { .. } | Action::Delete { .. } | Action::Read, Outcome::Missing) => {
                state.is_none().then_some(state)
            }
            (Action::Read, Outcome::Found { value, .. }) => (state == Some(value.as_str())).then_some(state),
            (Action::Read, Outcome::Unknown) => Some(state),
            _ => None,
        }
    }
}
