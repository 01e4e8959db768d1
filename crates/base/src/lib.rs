//! What every component stands on: time, chance, named tasks, mailboxes, backoff, metrics, the addresses of hosts, and the words for the system's errors.
//!
//! Nothing here knows Kubernetes. Time and randomness enter the program only through this crate, so that a
//! whole cluster can later run from one seed.

pub mod backoff;
pub mod dial;
pub mod errno;
pub mod id;
pub mod lookup;
pub mod mailbox;
pub mod metrics;
pub mod task;
pub mod time;
