//! The scheduler: finds the best node for each pod. Filters and scores are plain functions over a picture of the cluster; one
//! loop decides, binds run beside it. It is an API client, and knows neither the store nor any kubelet.

pub mod affinity;
pub mod cluster;
pub mod filter;
mod pending;
pub mod requests;
mod run;
pub mod score;
pub mod select;
pub mod spread;
mod storage;
pub mod verdict;
pub mod volumes;

pub use run::{SchedulerHealth, run};
