//! Clients of config maps in one namespace that record what they do and see. A server may go away at any time: what was not answered
//! is recorded as unknown, and the client goes on with the next server.

mod requests;
mod watcher;
mod writer;

pub use requests::Door;
pub use watcher::{Manner, watch};
pub use writer::{Stop, work};

use nauplius_client::transport::Transport;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The path of the collection.
pub const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";
/// The label that the recorded objects carry; others may be in the namespace.
pub const SELECTOR: &str = "labelSelector=history%3Dyes";

/// The ticks that operations are ordered by.
#[derive(Debug, Clone, Default)]
pub struct Ticks(Arc<AtomicU64>);

impl Ticks {
    /// The next tick.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Makes a connection to the server of the moment.
pub type Connect = Arc<dyn Fn() -> Arc<dyn Transport> + Send + Sync>;
