//! A cache that follows one kind: a list, then a watch from its revision, for ever. Its task owns the state and publishes
//! immutable snapshots; readers never wait for it and it never waits for readers.

use crate::Key;
use imbl::{OrdMap, OrdSet};
use nauplius_base::backoff::Backoff;
use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_client::{Api, ClientError, ListOptions, WatchEvent, WatchOptions};
use nauplius_kinds::Object;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A watch is renewed after 5 to 10 minutes, as client-go does, so that watches spread over servers.
const WATCH_MIN_S: u64 = 300;

/// What happened to one object, for handlers. Handlers run in the informer's task: they only put keys into queues.
#[derive(Debug, Clone)]
pub enum Change<T> {
    /// Came into view.
    Added(Arc<T>),
    /// Changed.
    Updated {
        /// Before.
        old: Arc<T>,
        /// After.
        new: Arc<T>,
    },
    /// Left the view; its last known state.
    Deleted(Arc<T>),
}

impl<T> Change<T> {
    /// The newest known state.
    pub fn object(&self) -> &Arc<T> {
        match self {
            Change::Added(object) | Change::Deleted(object) | Change::Updated { new: object, .. } => object,
        }
    }
}

type IndexFunction<T> = fn(&T) -> Vec<String>;

/// The whole cache at one revision. Cheap to clone.
#[derive(Debug)]
pub struct Snapshot<T> {
    objects: OrdMap<Key, Arc<T>>,
    indexes: BTreeMap<&'static str, OrdMap<String, OrdSet<Key>>>,
    revision: u64,
    synced: bool,
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            indexes: self.indexes.clone(),
            revision: self.revision,
            synced: self.synced,
        }
    }
}

impl<T> Default for Snapshot<T> {
    fn default() -> Self {
        Self { objects: OrdMap::new(), indexes: BTreeMap::new(), revision: 0, synced: false }
    }
}

impl<T> Snapshot<T> {
    /// The object with this key.
    pub fn get(&self, key: &Key) -> Option<&Arc<T>> {
        self.objects.get(key)
    }

    /// The object with this namespace and name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.objects.get(&Key::new(namespace, name))
    }

    /// All objects in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.objects.values()
    }

    /// The objects of one namespace.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<T>> {
        self.objects
            .range(Key::new(namespace, "")..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, object)| object)
    }

    /// The objects for which the index called `index` gave `value`.
    pub fn indexed<'a>(&'a self, index: &str, value: &str) -> impl Iterator<Item = &'a Arc<T>> {
        let keys = self.indexes.get(index).and_then(|index| index.get(value));
        keys.into_iter().flat_map(|keys| keys.iter()).filter_map(|key| self.objects.get(key))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The newest revision that the cache reflects.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

type Handler<T> = Box<dyn Fn(&Change<T>) + Send>;

struct Shared<T> {
    api: Api<T>,
    selector: ListOptions,
    indexes: Vec<(&'static str, IndexFunction<T>)>,
    handlers: Mutex<Vec<Handler<T>>>,
    published: watch::Sender<Snapshot<T>>,
}

/// A cache of one kind. Clones share it.
pub struct Informer<T>(Arc<Shared<T>>);

impl<T> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Object> Informer<T> {
    /// Prepares a cache of what `api` lists, with the selectors of `selector`. It fills once [`Informer::run`] runs.
    pub fn new(api: Api<T>, selector: ListOptions) -> Self {
        Self::with_indexes(api, selector, Vec::new())
    }

    /// As [`Informer::new`], with named indexes: each function gives the values under which an object is found.
    pub fn with_indexes(
        api: Api<T>,
        selector: ListOptions,
        indexes: Vec<(&'static str, IndexFunction<T>)>,
    ) -> Self {
        let published = watch::Sender::new(Snapshot::default());
        Self(Arc::new(Shared { api, selector, indexes, handlers: Mutex::new(Vec::new()), published }))
    }

    /// Calls `handler` for each change from now on, in order, in the informer's task. Register before [`Informer::run`], or
    /// the first list is missed.
    pub fn on_change(&self, handler: impl Fn(&Change<T>) + Send + 'static) {
        self.0.handlers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    /// The cache as it is now.
    pub fn snapshot(&self) -> Snapshot<T> {
        self.0.published.borrow().clone()
    }

    /// Waits for the first list.
    pub async fn synced(&self) {
        self.wait(|snapshot| snapshot.synced).await;
    }

    /// Waits until the cache reflects `revision`: read your own writes.
    pub async fn reached(&self, revision: u64) {
        self.wait(|snapshot| snapshot.revision >= revision).await;
    }

    /// Waits until the cache satisfies `condition`.
    pub async fn wait(&self, condition: impl FnMut(&Snapshot<T>) -> bool) {
        // The sender lives in `self`, so the channel cannot close under us.
        if self.0.published.subscribe().wait_for(condition).await.is_err() {
            tracing::error!(kind = T::KIND, "an informer's channel closed under its owner");
        }
    }

    /// A receiver that wakes at every change.
    pub fn subscribe(&self) -> watch::Receiver<Snapshot<T>> {
        self.0.published.subscribe()
    }

    /// Follows the kind until `shutdown`.
    ///
    /// # Errors
    /// Never: refusals and broken connections are retried with backoff, and logged when they last.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut follower = Follower::new(Arc::clone(&self.0));
        shutdown.run_until_cancelled(follower.follow()).await;
        Ok(())
    }
}

/// The task's side: the state, and where the watch stands.
struct Follower<T> {
    shared: Arc<Shared<T>>,
    state: Snapshot<T>,
    backoff: Backoff,
    failures: u32,
}

impl<T: Object> Follower<T> {
    fn new(shared: Arc<Shared<T>>) -> Self {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(30)).with_jitter(0.5);
        Self { shared, state: Snapshot::default(), backoff, failures: 0 }
    }

    async fn follow(&mut self) {
        let mut resume: Option<String> = None;
        loop {
            let outcome = match resume.take() {
                None => self.list().await,
                Some(revision) => self.watch(revision).await,
            };
            match outcome {
                Ok(revision) => resume = Some(revision),
                Err(error) => resume = self.after_failure(&error).await,
            }
        }
    }

    /// Lists anew only where the revision is lost; a broken watch resumes from where it stood.
    async fn after_failure(&mut self, error: &ClientError) -> Option<String> {
        if error.is_expired() {
            tracing::debug!(kind = T::KIND, "the watch's revision is compacted, listing again");
            return None;
        }
        self.failures += 1;
        if self.failures > 3 {
            tracing::warn!(kind = T::KIND, %error, failures = self.failures, "cannot follow a kind, retrying");
        } else {
            tracing::debug!(kind = T::KIND, %error, "cannot follow a kind, retrying");
        }
        time::sleep(self.backoff.next_delay()).await;
        self.state.synced.then(|| self.state.revision.to_string()).filter(|_| self.state.revision > 0)
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.backoff.reset();
    }

    async fn list(&mut self) -> Result<String, ClientError> {
        let mut options = ListOptions { resource_version: "0".to_owned(), ..self.shared.selector.clone() };
        let mut fresh = BTreeMap::new();
        loop {
            let page = self.shared.api.list(&options).await?;
            fresh.extend(page.items.into_iter().map(|object| (Key::of(&object), Arc::new(object))));
            if page.continue_token.is_empty() {
                self.replace(fresh, &page.resource_version);
                self.succeeded();
                return Ok(page.resource_version);
            }
            options.resource_version = String::new();
            options.continue_ = page.continue_token;
        }
    }

    async fn watch(&mut self, revision: String) -> Result<String, ClientError> {
        let options = WatchOptions {
            label_selector: self.shared.selector.label_selector.clone(),
            field_selector: self.shared.selector.field_selector.clone(),
            resource_version: revision,
            timeout_s: WATCH_MIN_S + nauplius_base::id::below(WATCH_MIN_S),
        };
        let mut stream = self.shared.api.watch(&options).await?;
        while let Some(event) = stream.next().await? {
            self.apply(event);
            self.succeeded();
        }
        Ok(self.state.revision.to_string())
    }

    fn apply(&mut self, event: WatchEvent<T>) {
        let change = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.moved_to(object.resource_version());
                Some(self.upsert(Arc::new(object)))
            }
            WatchEvent::Deleted(object) => {
                self.moved_to(object.resource_version());
                self.delete(&Key::of(&object), Some(Arc::new(object)))
            }
            WatchEvent::Bookmark { resource_version } => {
                self.moved_to(&resource_version);
                None
            }
        };
        self.publish();
        if let Some(change) = change {
            self.notify(&change);
        }
    }

    /// Revisions are opaque to clients elsewhere; our caches order them, as upstream allows since v1.35.
    fn moved_to(&mut self, resource_version: &str) {
        if let Ok(revision) = resource_version.parse() {
            self.state.revision = revision;
        }
    }

    fn replace(&mut self, fresh: BTreeMap<Key, Arc<T>>, resource_version: &str) {
        let gone: Vec<Key> =
            self.state.objects.keys().filter(|key| !fresh.contains_key(key)).cloned().collect();
        let mut changes: Vec<Change<T>> = gone.iter().filter_map(|key| self.delete(key, None)).collect();
        for object in fresh.into_values() {
            let known = self.state.objects.get(&Key::of(&*object));
            if known.is_none_or(|known| known.resource_version() != object.resource_version()) {
                changes.push(self.upsert(object));
            }
        }
        self.moved_to(resource_version);
        self.state.synced = true;
        self.publish();
        for change in &changes {
            self.notify(change);
        }
    }

    fn upsert(&mut self, new: Arc<T>) -> Change<T> {
        let key = Key::of(&*new);
        let old = self.state.objects.insert(key.clone(), Arc::clone(&new));
        if let Some(old) = &old {
            self.unindex(&key, old);
        }
        self.index(&key, &new);
        match old {
            Some(old) => Change::Updated { old, new },
            None => Change::Added(new),
        }
    }

    fn delete(&mut self, key: &Key, last: Option<Arc<T>>) -> Option<Change<T>> {
        let old = self.state.objects.remove(key)?;
        self.unindex(key, &old);
        Some(Change::Deleted(last.unwrap_or(old)))
    }

    fn index(&mut self, key: &Key, object: &T) {
        for (name, values_of) in &self.shared.indexes {
            let index = self.state.indexes.entry(name).or_default();
            for value in values_of(object) {
                index.entry(value).or_default().insert(key.clone());
            }
        }
    }

    fn unindex(&mut self, key: &Key, object: &T) {
        for (name, values_of) in &self.shared.indexes {
            let Some(index) = self.state.indexes.get_mut(name) else { continue };
            for value in values_of(object) {
                let is_empty = index.get_mut(&value).is_some_and(|keys| {
                    keys.remove(key);
                    keys.is_empty()
                });
                if is_empty {
                    index.remove(&value);
                }
            }
        }
    }

    fn publish(&self) {
        self.shared.published.send_replace(self.state.clone());
    }

    fn notify(&self, change: &Change<T>) {
        let handlers = self.shared.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        for handler in handlers.iter() {
            handler(change);
        }
    }
}
