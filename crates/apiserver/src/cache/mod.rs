//! The watch cache: what every read is served from. One feed follows the whole store in revision order and keeps a snapshot and
//! a ring of recent events per resource. It knows entries and revisions, not requests.

mod entry;
mod feed;
mod held;
mod pieces;
mod prefetch;
mod remains;
mod resource;
mod ring;
mod snapshot;
mod wakes;

#[cfg(test)]
pub(crate) use entry::tests_support;
pub use entry::{Entry, UnreadableObject};
pub(crate) use held::{Entries, Held};
pub(crate) use pieces::{Piece, Pieces, Place};
pub(crate) use remains::{Remainder, Remains};
pub use resource::ResourceCache;
pub use ring::{Batch, Change, TooOld};
pub use snapshot::{Position, Snapshot};
pub use wakes::Subscription;

use nauplius_base::time::timeout;
use nauplius_kinds::Kind;
use nauplius_meta::gvk::GroupResource;
use nauplius_store::{ProgressHandle, Store, StoreError};
use pieces::Shelf;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Everything the API server stores lies below this key.
pub(crate) const ROOT: &str = "/registry/";
/// How long a read waits for the cache to see a revision; upstream's limit.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// How long the feed may be silent before it is asked how far it is.
const MAX_QUIET: Duration = Duration::from_millis(50);

/// The cache did not reach a revision in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Too large resource version: {wanted}, current: {current}")]
pub struct NotReached {
    /// What was waited for.
    pub wanted: i64,
    /// What is there.
    pub current: i64,
}

/// Why a consistent read cannot be served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StaleRead {
    /// The cache lags behind.
    #[error(transparent)]
    Lagging(#[from] NotReached),
    /// The store cannot tell its revision.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The caches of all resources. Authorizers, admission plugins and hooks read other objects through it.
pub struct Caches {
    store: Arc<dyn Store>,
    resources: RwLock<Resources>,
    /// Every change up to this revision is in the caches; 0 until the first load.
    progress: watch::Sender<i64>,
    /// Asks the feed's watch how far it is; a store that others write to moves on without events of ours.
    ask: Mutex<Option<ProgressHandle>>,
    shelf: Arc<Shelf>,
}

#[derive(Default)]
struct Resources {
    by_name: HashMap<GroupResource, Arc<ResourceCache>>,
    by_prefix: HashMap<String, Followed>,
}

/// Who hears of changes below one prefix.
#[derive(Default)]
struct Followed {
    current: Option<Arc<ResourceCache>>,
    /// Caches that were replaced, as long as a request still holds them.
    retired: Vec<Weak<ResourceCache>>,
}

impl Followed {
    fn all(&self) -> impl Iterator<Item = Arc<ResourceCache>> {
        self.current.iter().cloned().chain(self.retired.iter().filter_map(Weak::upgrade))
    }

    /// The current cache ends, its watches with it; requests that read it already still see what they wait for.
    fn retire(&mut self) {
        self.retired.retain(|cache| cache.strong_count() > 0);
        if let Some(old) = self.current.take() {
            old.close();
            self.retired.push(Arc::downgrade(&old));
        }
    }

    fn is_unused(&self) -> bool {
        self.current.is_none() && self.retired.iter().all(|cache| cache.strong_count() == 0)
    }
}

impl Caches {
    /// Empty caches of stored kinds; [`Caches::run`] fills them.
    pub fn new(store: Arc<dyn Store>, kinds: &[Arc<dyn Kind>]) -> Arc<Self> {
        let (mut resources, shelf) = (Resources::default(), Arc::<Shelf>::default());
        let stored = |kind: &&Arc<dyn Kind>| kind.descriptor().verbs.stored;
        let (views, own): (Vec<_>, Vec<_>) =
            kinds.iter().filter(stored).partition(|kind| kind.descriptor().stored_as.is_some());
        for kind in own {
            let cache = Arc::new(ResourceCache::new(Arc::clone(kind), Arc::clone(&shelf)));
            let followed = Followed { current: Some(Arc::clone(&cache)), retired: Vec::new() };
            resources.by_prefix.insert(cache.prefix_below_root().to_owned(), followed);
            resources.by_name.insert(cache.group_resource(), cache);
        }
        for kind in views {
            let descriptor = kind.descriptor();
            let Some((group, plural)) = &descriptor.stored_as else { continue };
            let shared = resources.by_name.get(&GroupResource::new(group.clone(), plural.clone())).cloned();
            let name = GroupResource::new(descriptor.group.clone(), descriptor.plural.clone());
            resources.by_name.extend(shared.map(|shared| (name, shared)));
        }
        let progress = watch::Sender::new(0);
        Arc::new(Self { store, resources: RwLock::new(resources), progress, ask: Mutex::new(None), shelf })
    }

    /// The cache of a resource, if its kind is stored here.
    pub fn resource(&self, group: &str, plural: &str) -> Option<Arc<ResourceCache>> {
        let resources = self.resources.read().unwrap_or_else(PoisonError::into_inner);
        resources.by_name.get(&GroupResource::new(group, plural)).cloned()
    }

    /// One object as the cache has it now; `namespace` is empty for cluster-scoped resources.
    pub fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.resource(group, plural)?.get(namespace, name)
    }

    /// Starts to follow a resource that was not there at the start, or follows it with another kind: the new cache is
    /// filled when this returns, and takes the place of the old one, whose watches end.
    ///
    /// # Errors
    /// When the store cannot be read; the old cache stays then.
    pub async fn follow_resource(&self, kind: Arc<dyn Kind>) -> Result<Arc<ResourceCache>, StoreError> {
        let cache = Arc::new(ResourceCache::loading(kind, Arc::clone(&self.shelf)));
        let prefix = cache.prefix_below_root().to_owned();
        {
            // It hears of every change from here on; what happened before is in the load, whose revision is read later.
            let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
            let followed = resources.by_prefix.entry(prefix.clone()).or_default();
            followed.retired.push(Arc::downgrade(&cache));
        }
        let revision = self.store.revision().await?;
        let entries = self.load_resource(&cache, revision).await?;
        cache.finish_loading(entries, revision.0);
        let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
        let followed = resources.by_prefix.entry(prefix).or_default();
        followed.retire();
        followed.retired.retain(|known| !std::ptr::eq(known.as_ptr(), Arc::as_ptr(&cache)));
        followed.current = Some(Arc::clone(&cache));
        resources.by_name.insert(cache.group_resource(), Arc::clone(&cache));
        Ok(cache)
    }

    /// Stops following a resource. Watches of it end.
    pub fn forget_resource(&self, name: &GroupResource) {
        let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
        let Some(cache) = resources.by_name.remove(name) else { return };
        if let Some(followed) = resources.by_prefix.get_mut(cache.prefix_below_root()) {
            followed.retire();
        }
        drop(cache);
        resources.by_prefix.retain(|_, followed| !followed.is_unused());
    }

    fn all(&self) -> Vec<Arc<ResourceCache>> {
        let resources = self.resources.read().unwrap_or_else(PoisonError::into_inner);
        resources.by_prefix.values().flat_map(Followed::all).collect()
    }

    /// The caches that a store key belongs to: `/registry/pods/...` or `/registry/apps/deployments/...`. More than one while a
    /// resource changes its kind.
    fn of_key(&self, key: &[u8]) -> Vec<Arc<ResourceCache>> {
        let resources = self.resources.read().unwrap_or_else(PoisonError::into_inner);
        let followed = followed(&resources, key);
        followed.map(|followed| followed.all().collect()).unwrap_or_default()
    }

    /// The revision up to which the caches are complete.
    pub fn revision(&self) -> i64 {
        *self.progress.borrow()
    }

    /// Whether the first load is done.
    pub fn is_loaded(&self) -> bool {
        self.revision() > 0
    }

    /// Waits for the first load.
    pub async fn loaded(&self) {
        let mut progress = self.progress.subscribe();
        // The sender lives in `self`, so the channel cannot close.
        let _ = progress.wait_for(|revision| *revision > 0).await;
    }

    /// Waits until the caches have seen `revision`.
    ///
    /// # Errors
    /// [`NotReached`] after three seconds.
    pub async fn reach(&self, revision: i64) -> Result<(), NotReached> {
        if self.revision() >= revision {
            return Ok(());
        }
        let mut progress = self.progress.subscribe();
        let soon = timeout(MAX_QUIET, progress.wait_for(|current| *current >= revision)).await.is_ok();
        if soon {
            return Ok(());
        }
        if let Some(ask) = &*self.ask.lock().unwrap_or_else(PoisonError::into_inner) {
            ask.request();
        }
        let reached = timeout(MAX_WAIT, progress.wait_for(|current| *current >= revision)).await;
        match reached {
            Ok(_) => Ok(()),
            Err(_) => Err(NotReached { wanted: revision, current: self.revision() }),
        }
    }

    /// Waits until the caches have seen everything that was acknowledged before this call.
    ///
    /// # Errors
    /// When the store or the feed does not answer in time.
    pub async fn catch_up(&self) -> Result<(), StaleRead> {
        let revision = self.store.revision().await?;
        Ok(self.reach(revision.0).await?)
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

fn followed<'a>(resources: &'a Resources, key: &[u8]) -> Option<&'a Followed> {
    let below = std::str::from_utf8(key.strip_prefix(ROOT.as_bytes())?).ok()?; // Other keys are not ours.
    let first = below.find('/')? + 1;
    if let Some(found) = resources.by_prefix.get(&below[..first]) {
        return Some(found);
    }
    let second = first + below[first..].find('/')? + 1;
    resources.by_prefix.get(&below[..second])
}
