//! How components watch and act: informer caches that follow a kind, a queue of keys to look at again, a driver that
//! executes plans, and an event recorder. It never knows a concrete controller.

pub mod driver;
pub mod events;
pub mod informer;
mod metrics;
pub mod plan;
pub mod queue;

pub use driver::{Asked, Controller, Driver};
pub use events::{EventKind, Recorder};
pub use informer::{Change, Informer, Snapshot};
pub use plan::{Action, Note, Plan, Reason};
pub use queue::Queue;

/// Namespace and name, the key of an object in caches and queues; the namespace is empty for cluster-scoped kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of<T: nauplius_kinds::Object>(object: &T) -> Self {
        Self::new(object.namespace(), object.name())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            formatter.write_str(&self.name)
        } else {
            write!(formatter, "{}/{}", self.namespace, self.name)
        }
    }
}
