//! One watcher: from the log on disk into the live feed, without a gap and without doubling.

use super::feed::{Feed, Next, Published};
use super::readers::Readers;
use super::replay;
use crate::{
    Event, KeyRange, ProgressHandle, Revision, StoreError, StoreResult, WatchMessage, WatchSource,
    WatchStream,
};
use futures_core::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::Notify;

/// Registers a watch.
pub(super) fn start(
    feed: Arc<Feed>,
    readers: Arc<Readers>,
    range: KeyRange,
    from: Option<Revision>,
    previous: bool,
) -> StoreResult<WatchStream> {
    let registered = feed.register(range.clone(), from)?;
    let source = Watcher {
        id: registered.id,
        wake: registered.wake,
        from: registered.from,
        filter: Filter { range, previous },
        feed,
        readers,
        ended: None,
    };
    Ok(WatchStream::new(registered.started_at, Box::new(source)))
}

/// What a watcher wants to see.
#[derive(Clone)]
pub(super) struct Filter {
    pub(super) range: KeyRange,
    pub(super) previous: bool,
}

impl Filter {
    fn select(&self, event: &Event) -> Option<Event> {
        let wanted = self.range.contains(event.key());
        wanted.then(|| if self.previous { event.clone() } else { event.without_previous() })
    }
}

struct Watcher {
    id: u64,
    wake: Arc<Notify>,
    /// Nothing before this is delivered; matters while a future revision is waited for.
    from: Revision,
    filter: Filter,
    feed: Arc<Feed>,
    readers: Arc<Readers>,
    ended: Option<StoreError>,
}

impl Watcher {
    /// Each turn either returns, or changes the feed's note of what this watcher has seen before it awaits again;
    /// so a dropped future repeats at most a read.
    async fn message(&mut self) -> StoreResult<WatchMessage> {
        loop {
            match self.feed.next(self.id)? {
                Next::Wait => self.wake.notified().await,
                Next::Progress(revision) => return Ok(WatchMessage::Progress { revision }),
                Next::Ring { revisions, through } => {
                    let events = self.select(&revisions);
                    if !events.is_empty() {
                        return Ok(WatchMessage::Events { events, revision: through });
                    }
                }
                Next::Disk { from, through } => {
                    let (from, filter) = (from.max(self.from), self.filter.clone());
                    let page = self.readers.run(move |c| replay::page(c, from, through, &filter)).await?;
                    self.feed.seen(self.id, page.through);
                    if !page.events.is_empty() {
                        return Ok(WatchMessage::Events { events: page.events, revision: page.through });
                    }
                }
            }
        }
    }

    fn select(&self, revisions: &[Arc<Published>]) -> Vec<Event> {
        let wanted = revisions.iter().filter(|published| published.revision >= self.from);
        wanted.flat_map(|published| &published.events).filter_map(|event| self.filter.select(event)).collect()
    }
}

impl WatchSource for Watcher {
    fn next(&mut self) -> BoxFuture<'_, StoreResult<WatchMessage>> {
        Box::pin(async move {
            if let Some(error) = &self.ended {
                return Err(error.clone());
            }
            let message = self.message().await;
            // The disk may be busy for a while; what it forgot stays forgotten.
            if let Err(error @ (StoreError::Compacted { .. } | StoreError::Closed)) = &message {
                self.ended = Some(error.clone());
            }
            message
        })
    }

    fn progress(&self) -> ProgressHandle {
        let (feed, id) = (Arc::clone(&self.feed), self.id);
        ProgressHandle::new(move || feed.ask_progress(id))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.feed.unregister(self.id);
    }
}
