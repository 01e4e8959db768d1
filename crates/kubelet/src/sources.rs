//! The config maps and secrets that pods of this node use: each watched by its own name while a pod uses it, as a node may watch no
//! others. One task owns the watches; pods hold handles. It knows nothing of what the objects are for.

use crate::waker::Waker;
use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_client::{Client, ListOptions};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{ConfigMap, Secret};
use nauplius_reconcile::Informer;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Requests and changes that wait for the owner. A change beyond it is caught by the next slow look at all pods.
const QUEUE: usize = 1024;
/// How long a pod waits for the first list of an object.
const SYNC_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ConfigMap,
    Secret,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    kind: Kind,
    namespace: String,
    name: String,
}

#[derive(Clone)]
enum Cache {
    ConfigMap(Informer<ConfigMap>),
    Secret(Informer<Secret>),
}

enum Message {
    Follow { target: Target, uid: String, waker: Waker, reply: oneshot::Sender<Cache> },
    Changed(Target),
    Release(String),
}

/// Asks the owner. Clones share it.
#[derive(Clone)]
pub struct Sources(mpsc::Sender<Message>);

struct Watched {
    cache: Cache,
    users: BTreeMap<String, Waker>,
    stop: CancellationToken,
}

/// The owner of all watches.
pub struct Owner {
    receiver: mpsc::Receiver<Message>,
    sender: mpsc::Sender<Message>,
    client: Client,
    watched: BTreeMap<Target, Watched>,
}

/// A handle and the owner that the caller runs as a task.
pub fn sources(client: Client) -> (Sources, Owner) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Sources(sender.clone()), Owner { receiver, sender, client, watched: BTreeMap::new() })
}

impl Owner {
    /// Serves until shutdown.
    ///
    /// # Errors
    /// Never.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), std::convert::Infallible> {
        while let Some(Some(message)) = shutdown.run_until_cancelled(self.receiver.recv()).await {
            match message {
                Message::Follow { target, uid, waker, reply } => {
                    let watched = self
                        .watched
                        .entry(target.clone())
                        .or_insert_with(|| watch(&self.client, &self.sender, target, shutdown.child_token()));
                    watched.users.insert(uid, waker);
                    // Whoever asked may be gone.
                    let _ = reply.send(watched.cache.clone());
                }
                Message::Changed(target) => {
                    for waker in
                        self.watched.get(&target).into_iter().flat_map(|watched| watched.users.values())
                    {
                        waker.wake_content();
                    }
                }
                Message::Release(uid) => self.watched.retain(|_, watched| {
                    watched.users.remove(&uid);
                    if watched.users.is_empty() {
                        watched.stop.cancel();
                    }
                    !watched.users.is_empty()
                }),
            }
        }
        Ok(())
    }
}

fn watch(
    client: &Client,
    changes: &mpsc::Sender<Message>,
    target: Target,
    stop: CancellationToken,
) -> Watched {
    let cache = match target.kind {
        Kind::ConfigMap => Cache::ConfigMap(follow(client, changes, &target, &stop)),
        Kind::Secret => Cache::Secret(follow(client, changes, &target, &stop)),
    };
    Watched { cache, users: BTreeMap::new(), stop }
}

fn follow<T: Object>(
    client: &Client,
    changes: &mpsc::Sender<Message>,
    target: &Target,
    stop: &CancellationToken,
) -> Informer<T> {
    let selector =
        ListOptions { field_selector: format!("metadata.name={}", target.name), ..ListOptions::default() };
    let informer = Informer::new(client.namespaced::<T>(&target.namespace), selector);
    let (changes, target) = (changes.clone(), target.clone());
    informer.on_change(move |_| {
        if changes.try_send(Message::Changed(target.clone())).is_err() {
            tracing::warn!(name = target.name, "a change waits for the next look at all pods");
        }
    });
    nauplius_base::task::spawn("kubelet-source", informer.clone().run(stop.clone()));
    informer
}

/// What one pod follows. A clone shares the watches.
#[derive(Clone)]
pub struct Followed {
    sources: Sources,
    namespace: String,
    uid: String,
    waker: Waker,
    caches: BTreeMap<(Kind, String), Cache>,
}

impl Sources {
    /// For one pod; `waker` is woken when something that it follows changes.
    pub fn for_pod(&self, namespace: &str, uid: &str, waker: Waker) -> Followed {
        Followed {
            sources: self.clone(),
            namespace: namespace.to_owned(),
            uid: uid.to_owned(),
            waker,
            caches: BTreeMap::new(),
        }
    }
}

const TIMED_OUT: &str = "timed out waiting for the condition";

async fn find<T: Object>(cache: &Informer<T>, namespace: &str, name: &str) -> Option<Option<Arc<T>>> {
    time::timeout(SYNC_TIMEOUT, cache.synced()).await.ok()?; // The caller says that it timed out.
    Some(cache.snapshot().find(namespace, name).cloned())
}

impl Followed {
    async fn cache(&mut self, kind: Kind, name: &str) -> Option<Cache> {
        if let Some(cache) = self.caches.get(&(kind, name.to_owned())) {
            return Some(cache.clone());
        }
        let (reply, answer) = oneshot::channel();
        let target = Target { kind, namespace: self.namespace.clone(), name: name.to_owned() };
        let message = Message::Follow { target, uid: self.uid.clone(), waker: self.waker.clone(), reply };
        self.sources.0.send(message).await.ok()?; // The owner ends with the kubelet.
        let cache = answer.await.ok()?; // As above.
        self.caches.insert((kind, name.to_owned()), cache.clone());
        Some(cache)
    }

    /// A config map of the pod's namespace; none when it does not exist.
    ///
    /// # Errors
    /// In upstream's words, when the cache did not fill in time.
    pub async fn config_map(&mut self, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        let found = match self.cache(Kind::ConfigMap, name).await {
            Some(Cache::ConfigMap(cache)) => find(&cache, &self.namespace, name).await,
            _ => None,
        };
        found.ok_or_else(|| format!("failed to sync configmap cache: {TIMED_OUT}"))
    }

    /// A secret of the pod's namespace; none when it does not exist.
    ///
    /// # Errors
    /// As [`Followed::config_map`].
    pub async fn secret(&mut self, name: &str) -> Result<Option<Arc<Secret>>, String> {
        let found = match self.cache(Kind::Secret, name).await {
            Some(Cache::Secret(cache)) => find(&cache, &self.namespace, name).await,
            _ => None,
        };
        found.ok_or_else(|| format!("failed to sync secret cache: {TIMED_OUT}"))
    }

    /// Follows nothing more.
    pub async fn release(&mut self) {
        self.caches.clear();
        // The owner ends with the kubelet, and its watches with it.
        let _ = self.sources.0.send(Message::Release(self.uid.clone())).await;
    }
}
