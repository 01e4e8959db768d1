//! Whether the operations of one object have an order that explains them: Wing and Gong's search with Lowe's memory. The object is a
//! register with compare-and-set, whose revisions are known from everything that was seen of its values.

use super::Violation;
use crate::history::{Action, History, Operation, Outcome};
use std::collections::{HashMap, HashSet};

/// The value that the object has; `None` when it is absent.
type State<'a> = Option<&'a str>;

/// Checks one object.
pub(super) fn check(key: &str, operations: &[&Operation], history: &History) -> Option<Violation> {
    let mut sorted = operations.to_vec();
    sorted.sort_by_key(|operation| operation.invoked);
    let search =
        Search { revisions: super::collection::seen(history).into_iter().collect(), operations: &sorted };
    let explained = search.run();
    let complete = sorted.iter().filter(|operation| operation.outcome != Outcome::Unknown).count();
    (explained < complete).then(|| Violation::NotLinearizable { key: key.to_owned(), explained })
}

struct Search<'a> {
    revisions: HashMap<&'a str, i64>,
    /// In the order of their invocation.
    operations: &'a [&'a Operation],
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
        let start = (Done(vec![0; self.operations.len().div_ceil(64)]), None, 0);
        let mut seen: HashSet<(Done, State<'a>)> = HashSet::new();
        let (mut stack, mut most) = (vec![start], 0);
        while let Some((done, state, explained)) = stack.pop() {
            most = most.max(explained);
            if most == answered {
                return most;
            }
            // A later entry of the stack is tried first, and operations in the order of their invocation are the best guess.
            for index in self.candidates(&done).into_iter().rev() {
                let operation = self.operations[index];
                if let Some(next) = self.step(state, operation) {
                    let more = explained + usize::from(operation.outcome != Outcome::Unknown);
                    let done = done.with(index);
                    if seen.insert((done.clone(), next)) {
                        stack.push((done, next, more));
                    }
                }
            }
        }
        most
    }

    /// The operations that may come next: those that were invoked before any other left one had returned.
    fn candidates(&self, done: &Done) -> Vec<usize> {
        let left = || (0..self.operations.len()).filter(|index| !done.has(*index));
        let first_return = left().map(|index| self.operations[index].returned).min().unwrap_or(u64::MAX);
        left().take_while(|index| self.operations[*index].invoked <= first_return).collect()
    }

    /// The states that the operation may leave; none when its outcome cannot be.
    fn step(&self, state: State<'a>, operation: &'a Operation) -> Option<State<'a>> {
        let revision = state.and_then(|value| self.revisions.get(value).copied());
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
