//! What exists and who owns it: uid, place and owners of every object of every resource that can be watched. Garbage collection
//! and the end of namespaces read it. It keeps no spec and no status, and never acts.

pub(crate) mod definitions;
mod follow;
pub(crate) mod resources;
mod seen;

use follow::Follower;
use nauplius_base::task::Group;
use nauplius_client::Client;
use resources::{Resource, Resources};
pub(crate) use seen::Seen;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// An object's uid.
pub(crate) type Uid = Arc<str>;

/// A reference to an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub uid: Uid,
    pub api_version: Box<str>,
    pub kind: Box<str>,
    pub name: Box<str>,
    pub blocks: bool,
}

/// An object, as far as its ownership goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thing {
    pub uid: Uid,
    /// Index into [`Resources`].
    pub resource: usize,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub owners: Box<[Owner]>,
    pub finalizers: Box<[Box<str>]>,
    pub is_deleted: bool,
    pub resource_version: Box<str>,
}

impl Thing {
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|known| **known == *finalizer)
    }

    /// It goes once its dependents are gone.
    pub fn waits_for_dependents(&self) -> bool {
        self.is_deleted && self.has_finalizer(nauplius_meta::metadata::DELETE_DEPENDENTS)
    }

    /// It goes once its dependents no longer name it.
    pub fn orphans_dependents(&self) -> bool {
        self.is_deleted && self.has_finalizer(nauplius_meta::metadata::ORPHAN_DEPENDENTS)
    }

    fn is_same(&self, other: &Self) -> bool {
        let Self { owners, finalizers, is_deleted, resource, namespace, name, .. } = self;
        *owners == other.owners
            && *finalizers == other.finalizers
            && *is_deleted == other.is_deleted
            && (*resource, namespace, name) == (other.resource, &other.namespace, &other.name)
    }
}

/// What happened to a thing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub old: Option<&'a Arc<Thing>>,
    pub new: Option<&'a Arc<Thing>>,
}

type Handler = Box<dyn Fn(&State, Change<'_>) + Send>;

/// The things by their uids, with the ways back.
#[derive(Default)]
pub(crate) struct State {
    things: HashMap<Uid, Arc<Thing>>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
    namespaces: HashMap<Box<str>, BTreeSet<Uid>>,
    gone: VecDeque<Uid>,
}

/// So many uids of the recently deleted are remembered: their dependents need not ask the server for them.
const GONE_MAX: usize = 500;

impl State {
    pub fn get(&self, uid: &str) -> Option<&Arc<Thing>> {
        self.things.get(uid)
    }

    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<Thing>> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.things.get(uid))
    }

    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<Thing>> {
        self.namespaces.get(namespace).into_iter().flatten().filter_map(|uid| self.things.get(uid))
    }

    fn insert(&mut self, thing: &Arc<Thing>) -> Option<Arc<Thing>> {
        let old = self.things.insert(Arc::clone(&thing.uid), Arc::clone(thing));
        if let Some(old) = &old {
            self.unlink(old);
        }
        for owner in &thing.owners {
            self.dependents.entry(Arc::clone(&owner.uid)).or_default().insert(Arc::clone(&thing.uid));
        }
        if !thing.namespace.is_empty() {
            self.namespaces.entry(thing.namespace.clone()).or_default().insert(Arc::clone(&thing.uid));
        }
        old
    }

    fn remove(&mut self, uid: &str) -> Option<Arc<Thing>> {
        let old = self.things.remove(uid)?;
        self.unlink(&old);
        if self.dependents.contains_key(uid) {
            self.gone.truncate(GONE_MAX - 1);
            self.gone.push_front(Arc::clone(&old.uid));
        }
        Some(old)
    }

    /// Whether it was seen to go. A uid never comes back.
    pub fn is_gone(&self, uid: &str) -> bool {
        self.gone.iter().any(|known| **known == *uid)
    }

    fn unlink(&mut self, thing: &Thing) {
        for owner in &thing.owners {
            unlink_from(&mut self.dependents, &owner.uid, &thing.uid);
        }
        unlink_from(&mut self.namespaces, &thing.namespace, &thing.uid);
    }
}

fn unlink_from<K, Q>(map: &mut HashMap<K, BTreeSet<Uid>>, key: &Q, uid: &Uid)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(set) = map.get_mut(key) {
        set.remove(uid);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

/// The graph; clones of its `Arc` share it. Followers write, one for each resource; readers hold the lock for a lookup only.
pub(crate) struct Graph {
    pub resources: Resources,
    state: Mutex<State>,
    handlers: Mutex<Vec<Handler>>,
    unsynced: watch::Sender<usize>,
}

impl Graph {
    pub fn new(resources: Resources) -> Arc<Self> {
        let watched = resources.watched().len();
        Arc::new(Self {
            resources,
            state: Mutex::default(),
            handlers: Mutex::default(),
            unsynced: watch::Sender::new(watched),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `handler` at each change that matters to ownership, with the lock held: it only puts keys into queues.
    pub fn on_change(&self, handler: impl Fn(&State, Change<'_>) + Send + 'static) {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    /// Follows every resource from now on.
    pub fn follow(self: &Arc<Self>, client: &Client, group: &Group) {
        for (index, resource) in self.resources.watched() {
            let follower = Follower::new(Arc::clone(self), client.clone(), index);
            group.spawn(format!("garbage collector: {}", resource.plural), follower.run(group.token()));
        }
        definitions::follow(self, client, group);
    }

    /// Waits until every resource was listed.
    pub async fn synced(&self) {
        // The sender lives in `self`, so the channel cannot close under us.
        if self.unsynced.subscribe().wait_for(|unsynced| *unsynced == 0).await.is_err() {
            tracing::error!("the graph's channel closed under its owner");
        }
    }

    fn resource(&self, index: usize) -> Arc<Resource> {
        self.resources.get(index)
    }

    fn upsert(&self, thing: Thing) {
        let new = Arc::new(thing);
        let mut state = self.state();
        let old = state.insert(&new);
        if old.as_ref().is_none_or(|old| !old.is_same(&new)) {
            self.tell(&state, Change { old: old.as_ref(), new: Some(&new) });
        }
    }

    fn remove(&self, uid: &str) {
        let mut state = self.state();
        if let Some(old) = state.remove(uid) {
            self.tell(&state, Change { old: Some(&old), new: None });
        }
    }

    /// Everything of one resource, after a list.
    fn replace(&self, resource: usize, things: Vec<Thing>) {
        let fresh: BTreeSet<Uid> = things.iter().map(|thing| Arc::clone(&thing.uid)).collect();
        let gone: Vec<Uid> = {
            let state = self.state();
            let known = state.things.values().filter(|thing| thing.resource == resource);
            known.map(|thing| Arc::clone(&thing.uid)).filter(|uid| !fresh.contains(uid)).collect()
        };
        gone.iter().for_each(|uid| self.remove(uid));
        things.into_iter().for_each(|thing| self.upsert(thing));
    }

    /// Everything of a resource that is no longer served. Nothing says that the objects are gone, so that their dependents stay.
    fn forget(&self, resource: usize) {
        let mut state = self.state();
        let own = state.things.values().filter(|thing| thing.resource == resource);
        let uids: Vec<Uid> = own.map(|thing| Arc::clone(&thing.uid)).collect();
        for uid in uids {
            if let Some(old) = state.things.remove(&uid) {
                state.unlink(&old);
                self.tell(&state, Change { old: Some(&old), new: None });
            }
        }
    }

    fn first_list_is_through(&self) {
        self.unsynced.send_modify(|unsynced| *unsynced -= 1);
    }

    fn tell(&self, state: &State, change: Change<'_>) {
        for handler in self.handlers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            handler(state, change);
        }
    }
}
