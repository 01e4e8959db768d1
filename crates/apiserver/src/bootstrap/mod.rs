//! What a fresh cluster holds before it is ready: called once the caches are loaded. It writes through the API like any client,
//! as `system:apiserver`, so that defaulting and validation apply.

use crate::server::ApiServer;
use std::sync::Arc;

/// Why the cluster's own objects could not be written.
#[derive(Debug, thiserror::Error)]
#[error("bootstrap object {object}: {reason}")]
pub struct BootstrapError {
    /// Kind and name.
    pub object: String,
    /// What the API answered.
    pub reason: String,
}

/// Makes what is missing.
///
/// # Errors
/// The first object that could not be made.
#[allow(clippy::unused_async)] // A seam: what it awaits comes with the bootstrap objects.
pub async fn run(_server: &Arc<ApiServer>) -> Result<(), BootstrapError> {
    Ok(())
}
