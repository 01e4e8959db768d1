//! Pod state machine, probes, volumes, node status and streaming; speaks only CRI.
//!
//! A kubelet is a client of the API as `system:node:<name>` and of a container runtime. Each pod has one actor whose decisions are a pure
//! step; what containers do comes back as events. It never knows which runtime it speaks to, nor how pods are connected.

mod cgroup;
mod config;
mod context;
mod error;
mod eviction;
mod image_gc;
mod image_name;
mod kubelet;
mod logs;
mod names;
mod node;
mod pod;
mod pods;
mod probe;
mod pull_records;
mod remains;
mod server;
mod sources;
mod spec;
mod sweep;
mod volumes;
mod waker;

pub use cgroup::remove_all as remove_cgroups;
pub use config::Config;
pub use error::KubeletError;
pub use eviction::{Settings as EvictionSettings, Shortage};
pub use kubelet::{Kubelet, run};
pub use names::GRACE_PERIOD;
pub use node::report::Health;
pub use remains::stop_all as stop_pods_alone;
pub use volumes::teardown::unmount_all;
