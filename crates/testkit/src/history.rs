//! What clients did and saw, as data. Times are ticks of one counter that all clients of a run share: an operation that returned before
//! another was invoked has the smaller tick.

use std::collections::BTreeMap;

/// Everything that was recorded in one run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Reads and writes of single objects.
    pub operations: Vec<Operation>,
    /// Pieces of watches, each gapless in itself.
    pub watches: Vec<Segment>,
    /// Lists.
    pub lists: Vec<Listing>,
}

/// One request for one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The object.
    pub key: String,
    /// What was asked.
    pub action: Action,
    /// What became of it.
    pub outcome: Outcome,
    /// When it was sent.
    pub invoked: u64,
    /// When it was answered; never, when it was not.
    pub returned: u64,
}

/// What is asked of one object. Every value is written by one operation only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Makes it.
    Create {
        /// The value.
        value: String,
    },
    /// Replaces it.
    Update {
        /// The value.
        value: String,
        /// The revision that it must have.
        expected: Option<i64>,
    },
    /// Removes it.
    Delete {
        /// The revision that it must have.
        expected: Option<i64>,
    },
    /// Reads it, consistently.
    Read,
}

impl Action {
    /// The value that it writes.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Create { value } | Self::Update { value, .. } => Some(value),
            Self::Delete { .. } | Self::Read => None,
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The value was written under this revision.
    Written(i64),
    /// The object was removed.
    Deleted,
    /// It was there.
    Found {
        /// Its revision.
        revision: i64,
        /// Its value.
        value: String,
    },
    /// It was not there.
    Missing,
    /// It was there, and should not have been.
    Exists,
    /// It had another revision.
    Conflict,
    /// No answer came: it may have taken effect, or may yet.
    Unknown,
}

/// A gapless piece of a watch: everything that happened to the collection after `from`, up to `through`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Who watched.
    pub watcher: String,
    /// The revision it began after.
    pub from: i64,
    /// The revision of its last event or bookmark.
    pub through: i64,
    /// In the order in which they came.
    pub events: Vec<Event>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision.
    pub revision: i64,
    /// The object.
    pub key: String,
    /// What happened to it.
    pub change: Change,
    /// Its value; the last one when it was removed.
    pub value: String,
}

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It came.
    Added,
    /// It has another value.
    Modified,
    /// It went.
    Deleted,
}

/// A list of the whole collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The revision of each page; one, when it came whole.
    pub pages: Vec<i64>,
    /// Keys in the order in which they came, with revision and value.
    pub items: Vec<(String, i64, String)>,
    /// Whether it had to show everything that was acknowledged before.
    pub consistent: bool,
    /// When it was sent.
    pub invoked: u64,
    /// When its last page was read.
    pub returned: u64,
}

impl History {
    /// Adds what another client recorded.
    pub fn merge(&mut self, other: Self) {
        self.operations.extend(other.operations);
        self.watches.extend(other.watches);
        self.lists.extend(other.lists);
    }

    /// The operations of each object.
    pub fn by_key(&self) -> BTreeMap<&str, Vec<&Operation>> {
        let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(&operation.key).or_default().push(operation);
        }
        keys
    }
}
