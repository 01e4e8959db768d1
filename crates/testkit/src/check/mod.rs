//! Judges histories. Single objects must behave like registers with compare-and-set; revisions must follow real time; watches must show
//! each change once, in order; lists must show one state that watches lead to and from.

mod collection;
mod register;
#[cfg(test)]
mod tests;

use crate::history::{Event, History};

/// What is wrong with a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// No order of the object's operations explains what they returned.
    NotLinearizable {
        /// The object.
        key: String,
        /// How many of its operations could be ordered at most.
        explained: usize,
    },
    /// A write that began after another had returned has the smaller revision.
    RevisionsBackwards {
        /// The earlier one's revision.
        earlier: i64,
        /// The later one's.
        later: i64,
    },
    /// A value, which was written once, was seen under two revisions.
    ValueTwice {
        /// The value.
        value: String,
        /// The revisions.
        revisions: (i64, i64),
    },
    /// A value was seen that nobody wrote.
    Unwritten {
        /// The value.
        value: String,
    },
    /// Two different things happened under one revision.
    RevisionTwice {
        /// The revision.
        revision: i64,
        /// What one watcher saw.
        one: Event,
        /// What the other saw.
        other: Event,
    },
    /// A watcher saw an event twice.
    Doubled {
        /// Who.
        watcher: String,
        /// The event's revision.
        revision: i64,
    },
    /// A watcher saw an event after a later one.
    Reordered {
        /// Who.
        watcher: String,
        /// The event's revision.
        revision: i64,
    },
    /// A watcher did not see an event that others saw or that was acknowledged.
    Lost {
        /// Who.
        watcher: String,
        /// The event's revision.
        revision: i64,
    },
    /// An event says that an object came that was there, or that it changed or went when it was not.
    Impossible {
        /// The event.
        event: Event,
    },
    /// The pages of a list show several revisions, or keys twice or out of order.
    TornPages {
        /// The revisions.
        pages: Vec<i64>,
    },
    /// A list shows what came after its revision.
    FromTheFuture {
        /// The list's revision.
        list: i64,
        /// The object.
        key: String,
    },
    /// A list does not show the object as it was at its revision.
    WrongState {
        /// The list's revision.
        list: i64,
        /// The object.
        key: String,
        /// The revision of the form that it shows.
        shown: Option<i64>,
        /// The revision of the form that it should show.
        expected: Option<i64>,
    },
    /// A consistent list does not show a write that was acknowledged before it was asked for.
    StaleList {
        /// The list's revision.
        list: i64,
        /// The write's.
        acknowledged: i64,
    },
}

/// Everything that is wrong with a history; nothing, when it is a good one.
pub fn violations(history: &History) -> Vec<Violation> {
    let mut found = collection::check(history);
    for (key, operations) in history.by_key() {
        found.extend(register::check(key, &operations, history));
    }
    found
}
