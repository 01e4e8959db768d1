//! The cache of one resource: its newest snapshot and its ring of changes, changed by the feed alone.

use super::held::{Entries, Held, Holders};
use super::pieces::{Pieces, Shelf};
use super::ring::{Batch, Change, Ring, TooOld};
use super::wakes::{Subscription, Wakes};
use super::{Entry, ROOT, Snapshot};
use nauplius_kinds::Kind;
use nauplius_meta::gvk::GroupResource;
use std::sync::{Arc, PoisonError, RwLock};

/// One resource.
pub struct ResourceCache {
    kind: Arc<dyn Kind>,
    prefix: String,
    state: RwLock<State>,
    wakes: Wakes,
    pieces: Pieces,
    objects: Pieces,
    holders: Holders,
}

#[derive(Default)]
struct State {
    snapshot: Snapshot,
    ring: Ring,
    /// The newest change or load that the snapshot has seen.
    revision: i64,
    /// The revision of the load.
    loaded: i64,
    /// Changes that came before the first load did.
    pending: Option<Vec<Update>>,
    /// The resource is gone or has another cache; watches end.
    closed: bool,
}

impl ResourceCache {
    /// An empty cache that keeps what it hears until [`Self::finish_loading`].
    pub(super) fn loading(kind: Arc<dyn Kind>, shelf: Arc<Shelf>) -> Self {
        let cache = Self::new(kind, shelf);
        cache.write(|state| state.pending = Some(Vec::new()));
        cache
    }

    pub(super) fn new(kind: Arc<dyn Kind>, shelf: Arc<Shelf>) -> Self {
        let descriptor = kind.descriptor();
        let prefix = if descriptor.group.is_empty() {
            format!("{ROOT}{}/", descriptor.plural)
        } else {
            format!("{ROOT}{}/{}/", descriptor.group, descriptor.plural)
        };
        Self {
            kind,
            prefix,
            state: RwLock::default(),
            wakes: Wakes::new(),
            pieces: Pieces::new(Arc::clone(&shelf)),
            objects: Pieces::of_objects(shelf),
            holders: Holders::default(),
        }
    }

    /// The kind.
    pub fn kind(&self) -> &Arc<dyn Kind> {
        &self.kind
    }

    /// Group and plural.
    pub fn group_resource(&self) -> GroupResource {
        let descriptor = self.kind.descriptor();
        GroupResource::new(descriptor.group.clone(), descriptor.plural.clone())
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn prefix_below_root(&self) -> &str {
        &self.prefix[ROOT.len()..]
    }

    /// The store key of an object; `namespace` is empty for cluster-scoped kinds.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if namespace.is_empty() {
            format!("{}{name}", self.prefix)
        } else {
            format!("{}{namespace}/{name}", self.prefix)
        }
    }

    /// What all keys of a namespace begin with; of all namespaces when it is empty.
    pub fn namespace_prefix(&self, namespace: &str) -> String {
        if namespace.is_empty() { self.prefix.clone() } else { format!("{}{namespace}/", self.prefix) }
    }

    /// One object as it is now.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let key = self.key(namespace, name);
        self.read(|state| state.snapshot.get(key.as_bytes()).cloned())
    }

    /// One object by its whole store key.
    pub fn get_key(&self, key: &str) -> Option<Arc<Entry>> {
        self.read(|state| state.snapshot.get(key.as_bytes()).cloned())
    }

    /// All objects as they are now, with the newest revision of this resource among them.
    pub fn snapshot(&self) -> (Snapshot, i64) {
        self.read(|state| (state.snapshot.clone(), state.revision))
    }

    /// Changes after `revision`.
    ///
    /// # Errors
    /// [`TooOld`] when they are not all kept.
    pub fn changes_after(&self, revision: i64) -> Result<Batch, TooOld> {
        self.read(|state| state.ring.after(revision))
    }

    /// Objects of a snapshot for a watch that goes on with the changes after `after`. They are taken away when these are no longer kept.
    pub(crate) fn hold(&self, entries: Entries, after: i64) -> Arc<Held> {
        let held = self.holders.hold(entries, after);
        self.release();
        held
    }

    fn release(&self) {
        self.holders.release_before(self.read(|state| state.ring.floor()));
    }

    /// To be woken by changes from now on.
    pub fn subscribe(&self) -> Subscription {
        self.wakes.subscribe()
    }

    /// Whether more than one hears of changes.
    pub(crate) fn has_many_watchers(&self) -> bool {
        self.wakes.watchers() > 1
    }

    /// What watchers were just sent.
    pub(crate) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// What single objects looked like to watchers just now, where that had to be made.
    pub(crate) fn objects(&self) -> &Pieces {
        &self.objects
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut State) -> T) -> T {
        write(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts over from a load at `revision`; watchers of older revisions will find that too old.
    pub(super) fn load(&self, entries: Vec<Arc<Entry>>, revision: i64) {
        let new = State { snapshot: Snapshot::from_sorted(entries), ..State::starting_at(revision) };
        let old = self.write(|state| {
            let closed = state.closed;
            std::mem::replace(state, State { closed, ..new })
        });
        drop(old);
        self.release();
        self.wakes.wake(revision);
    }

    /// The first load, at `revision`, of a cache that has heard of changes meanwhile. A load by the feed that came first wins.
    pub(super) fn finish_loading(&self, entries: Vec<Arc<Entry>>, revision: i64) {
        let snapshot = Snapshot::from_sorted(entries);
        let newest = self.write(|state| {
            let Some(pending) = state.pending.take() else { return state.revision };
            *state = State { snapshot, ..State::starting_at(revision) };
            pending.into_iter().for_each(|update| state.apply(update));
            state.revision
        });
        self.wakes.wake(newest);
    }

    /// Whether the resource is gone or has another cache by now.
    pub fn is_closed(&self) -> bool {
        self.read(|state| state.closed)
    }

    /// Ends watches.
    pub(super) fn close(&self) {
        self.write(|state| state.closed = true);
        self.wakes.wake_now();
    }

    /// Applies the changes of whole revisions at once, so that no reader sees half a transaction.
    pub(super) fn apply(&self, updates: Vec<Update>) {
        let mut newest = 0;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for update in updates {
                newest = update.revision();
                match &mut state.pending {
                    Some(pending) => pending.push(update),
                    None => state.apply(update),
                }
            }
        }
        self.release();
        self.wakes.wake(newest);
    }
}

/// One change on its way into the cache.
pub(super) enum Update {
    /// A new form of an object.
    Put(Arc<Entry>),
    /// An object that is gone: its key and the revision.
    Delete(bytes::Bytes, i64),
}

impl Update {
    fn revision(&self) -> i64 {
        match self {
            Self::Put(entry) => entry.revision(),
            Self::Delete(_, revision) => *revision,
        }
    }
}

impl State {
    fn starting_at(revision: i64) -> Self {
        Self { ring: Ring::starting_at(revision), revision, loaded: revision, ..Self::default() }
    }

    fn apply(&mut self, update: Update) {
        let revision = update.revision();
        if revision <= self.loaded {
            // The load has it already.
            return;
        }
        self.revision = revision;
        let change = match update {
            Update::Put(entry) => {
                let old = self.snapshot.insert(Arc::clone(&entry));
                Change { revision, new: Some(entry), old }
            }
            Update::Delete(key, _) => {
                let Some(old) = self.snapshot.remove(&key) else { return };
                Change { revision, new: None, old: Some(old) }
            }
        };
        self.ring.push(Arc::new(change));
    }
}
