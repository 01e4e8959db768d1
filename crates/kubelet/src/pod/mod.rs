//! One pod: what is observed, what is decided, what is done about it, and what the API is told.

pub mod actor;
pub mod conditions;
pub mod crash;
pub mod facts;
pub mod halt;
pub mod hooks;
pub mod image;
pub mod jobs;
pub mod launch;
pub mod observe;
pub mod patch;
pub mod probes;
pub mod resize;
pub mod status;
pub mod step;
pub mod stop;
pub mod view;

#[cfg(test)]
mod step_tests;
#[cfg(test)]
pub(crate) mod testing;
