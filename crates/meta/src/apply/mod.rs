//! Server-side apply: who set which field, what an applied configuration makes of an object, and who would lose a field by it. Pure: it
//! must not know registries, clocks or requests. A schema comes in as a [`Node`], other versions of an object through [`Versions`].
//!
//! `element`, `scalar` and `set` are the sets of fields and their written form; `node` says how values of a type merge; `validate`,
//! `collect`, `compare`, `merge`, `remove` and `reconcile` walk values or sets along a schema; `managed` and `updater` move ownership;
//! `manager` is what a request calls, and `scale` is ownership seen through the scale subresource.
mod collect;
mod compare;
mod conflict;
mod element;
mod fields_v1;
mod filter;
mod item;
mod last_applied;
mod managed;
mod manager;
mod merge;
mod node;
mod reconcile;
mod remove;
mod scalar;
pub mod scale;
mod set;
#[cfg(test)]
mod tests;
mod updater;
mod validate;

pub use collect::collect;
pub use compare::{Comparison, compare};
pub use conflict::{Conflict, Conflicts};
pub use element::{PathElement, ReadElementError, display_path};
pub use fields_v1::{from_json, from_tree, to_json, to_tree};
pub use filter::Filter;
pub use last_applied::LAST_APPLIED;
pub use managed::{DecodeManagedError, Managed, ManagerId, Operation, is_reset};
pub use manager::{Applied, ApplyFailure, Request, only_times_differ};
pub use merge::merge;
pub use node::{Atom, Keys, List, Map, Node, Relation, Scalar, Structural};
pub use reconcile::reconcile;
pub use remove::remove;
pub use scalar::equal;
pub use set::Set;
pub use updater::Versions;
pub use validate::{TypedError, TypedErrors, validate};
