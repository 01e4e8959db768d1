//! The watch as its reader sees it. How an engine feeds it is the engine's business.

use crate::{Revision, StoreResult, WatchMessage};
use futures_core::future::BoxFuture;
use std::sync::Arc;

/// What an engine puts behind a [`WatchStream`].
pub trait WatchSource: Send {
    /// The next message. Dropping the future must lose nothing.
    fn next(&mut self) -> BoxFuture<'_, StoreResult<WatchMessage>>;

    /// How to ask for a progress message.
    fn progress(&self) -> ProgressHandle;
}

/// The changes of a range, each revision once and in order.
pub struct WatchStream {
    started_at: Revision,
    source: Box<dyn WatchSource>,
}

impl WatchStream {
    /// Wraps an engine's source.
    #[must_use]
    pub fn new(started_at: Revision, source: Box<dyn WatchSource>) -> Self {
        Self { started_at, source }
    }

    /// The next message; waits until there is one. Safe to cancel.
    ///
    /// # Errors
    /// `Compacted` when history was compacted before it was read, `Closed` when the store was. The stream has then ended.
    pub async fn next(&mut self) -> StoreResult<WatchMessage> {
        self.source.next().await
    }

    /// The store's revision when the watch began.
    #[must_use]
    pub fn started_at(&self) -> Revision {
        self.started_at
    }

    /// A handle to ask this watch for progress while another task waits in [`Self::next`].
    #[must_use]
    pub fn progress(&self) -> ProgressHandle {
        self.source.progress()
    }
}

/// Asks one watch to say how far it is.
#[derive(Clone)]
pub struct ProgressHandle(Arc<dyn Fn() + Send + Sync>);

impl ProgressHandle {
    /// Wraps an engine's way to ask.
    #[must_use]
    pub fn new(ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// The watch will deliver everything up to the store's present revision and then a progress message. Several
    /// requests may share one answer.
    pub fn request(&self) {
        (self.0)();
    }
}
