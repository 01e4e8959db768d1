//! A pod's volumes on the node: where they are, how they are made, kept up to date and removed. It knows nothing of containers but
//! their mounts.

pub mod atomic;
pub mod env_file;
pub mod mounts;
pub mod payload;
pub mod place;
pub mod setup;
pub mod teardown;

/// A volume that could not be made; the words are those after `MountVolume.SetUp failed for volume "x" : `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
pub struct MountFailure {
    /// Its name in the pod.
    pub volume: String,
    /// Why.
    pub message: String,
}
