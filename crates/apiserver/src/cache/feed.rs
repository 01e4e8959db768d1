//! Fills the caches: one consistent load, then one watch of everything, applied in revision order. A watch that breaks is resumed;
//! when that is impossible it loads anew, and the ring tells watchers that they cannot go on.

use super::resource::{ResourceCache, Update};
use super::{Caches, Entry, ROOT};
use crate::metrics::storage;
use nauplius_base::backoff::Backoff;
use nauplius_base::task::CancellationToken;
use nauplius_base::time::sleep;
use nauplius_store::{Event, KeyValue, RangeRequest, Revision, StoreError, WatchMessage, WatchRequest};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Key values read from the store at once while loading.
const LOAD_PAGE: usize = 1_000;

impl Caches {
    /// Fills the caches for the first time. A store that does not answer is tried again; one that is damaged is not: nobody is served a
    /// part of a cluster.
    ///
    /// # Errors
    /// `Corrupt`, and `Closed`.
    pub async fn load(&self) -> Result<(), StoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5)).with_jitter(0.5);
        loop {
            match self.load_all().await {
                Ok(_) => return Ok(()),
                Err(error @ (StoreError::Corrupt { .. } | StoreError::Closed)) => return Err(error),
                Err(error) => tracing::warn!(%error, "the watch cache cannot be filled yet"),
            }
            sleep(backoff.next_delay()).await;
        }
    }

    /// Keeps the caches filled until `shutdown`.
    ///
    /// # Errors
    /// Never; a store that fails is tried again.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), Infallible> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5)).with_jitter(0.5);
        loop {
            let followed = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                followed = self.load_and_follow(&mut backoff) => followed,
            };
            if matches!(followed, Err(StoreError::Closed)) {
                shutdown.cancelled().await;
                return Ok(());
            }
            if let Err(error) = followed {
                tracing::warn!(%error, "the watch cache starts over");
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = sleep(backoff.next_delay()) => {}
            }
        }
    }

    /// Goes on where the last watch broke off, so that watchers notice nothing; loads anew when that was compacted meanwhile.
    async fn load_and_follow(&self, backoff: &mut Backoff) -> Result<(), StoreError> {
        let seen = Revision(self.revision());
        if seen > Revision::ZERO {
            match self.follow(seen, backoff).await {
                Err(StoreError::Compacted { .. }) => {}
                ended => return ended,
            }
        }
        let revision = self.load_all().await?;
        self.follow(revision, backoff).await
    }

    /// Everything at one revision.
    async fn load_all(&self) -> Result<Revision, StoreError> {
        let revision = self.store().revision().await?;
        for cache in self.all() {
            let entries = self.load_resource(&cache, revision).await?;
            cache.load(entries, revision.0);
        }
        self.progress.send_replace(revision.0);
        Ok(revision)
    }

    async fn follow(&self, seen: Revision, backoff: &mut Backoff) -> Result<(), StoreError> {
        let request = WatchRequest { previous: false, ..WatchRequest::prefix(ROOT, Some(seen.next())) };
        let mut watch = self.store().watch(request).await?;
        *self.ask.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch.progress());
        self.progress.send_replace(seen.0);
        backoff.reset();
        loop {
            match watch.next().await? {
                WatchMessage::Events { events, revision } => {
                    self.apply(events);
                    self.progress.send_replace(revision.0);
                }
                WatchMessage::Progress { revision } => {
                    self.progress.send_replace(revision.0);
                }
            }
        }
    }

    pub(super) async fn load_resource(
        &self,
        cache: &ResourceCache,
        at: Revision,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        let mut entries = Vec::new();
        let mut request = RangeRequest {
            limit: LOAD_PAGE,
            uncounted: true,
            at: Some(at),
            ..RangeRequest::prefix(cache.prefix().as_bytes().to_vec())
        };
        loop {
            let page = self.store().range(request.clone()).await?;
            let next = page.kvs.last().map(|kv| after(&kv.key));
            entries.extend(page.kvs.into_iter().filter_map(|kv| read(cache, kv)));
            match next {
                Some(next) if page.more => request.start = next.into(),
                _ => return Ok(entries),
            }
        }
    }

    fn apply(&self, events: Vec<Event>) {
        let mut updates: HashMap<*const ResourceCache, (Arc<ResourceCache>, Vec<Update>)> = HashMap::new();
        for event in events {
            for cache in self.of_key(event.key()) {
                let update = match &event {
                    Event::Put { kv, .. } => read(&cache, kv.clone()).map(Update::Put),
                    Event::Delete { key, revision, .. } => Some(Update::Delete(key.clone(), revision.0)),
                };
                let slot = updates.entry(Arc::as_ptr(&cache)).or_insert_with(|| (cache, Vec::new()));
                slot.1.extend(update);
            }
        }
        for (cache, updates) in updates.into_values().filter(|(_, updates)| !updates.is_empty()) {
            let descriptor = cache.kind().descriptor();
            storage::received(&descriptor.group, &descriptor.plural, updates.len());
            cache.apply(updates);
        }
    }
}

/// The smallest key after `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, b"\0"].concat()
}

/// An object that cannot be read is left out and reported: the others must stay served.
fn read(cache: &ResourceCache, kv: KeyValue) -> Option<Arc<Entry>> {
    match Entry::from_stored(&**cache.kind(), cache.prefix().len(), kv) {
        Ok(entry) => Some(Arc::new(entry)),
        Err(error) => {
            tracing::error!(%error, "an object is not served");
            None
        }
    }
}
