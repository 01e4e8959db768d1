//! The node's side of the API: registration, status and lease. It knows nothing of pods.

pub mod lease;
pub mod machine;
pub mod network;
pub mod pod_range;
pub mod register;
pub mod report;
pub mod status;
