//! The workloads, one file each.

pub mod gets;
pub mod lists;
pub mod pressure;
pub mod startup;
pub mod watches;
pub mod writes;

use std::time::Duration;

/// How long filling a collection and waiting for the last event may take.
pub const PATIENCE: Duration = Duration::from_secs(600);
