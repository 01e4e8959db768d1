//! What controllers share: caches under the controller manager's identity, one client for each controller, and how they start.

use nauplius_base::task::{CancellationToken, Group};
use nauplius_client::{Client, ListOptions};
use nauplius_kinds::{ConfigMap, ServiceAccount};
use nauplius_kinds::{Namespace, Object};
use nauplius_reconcile::events::{Source, recorder};
use nauplius_reconcile::{Change, Controller, Driver, Informer, Key, Queue};
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use tokio::sync::watch;

/// What the cluster is configured to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The CA that pods verify the API server with, PEM.
    pub root_ca: String,
    /// The range that nodes get pod ranges from, for example `10.244.0.0/16`.
    pub cluster_cidr: String,
    /// The length of a node's prefix in it.
    pub node_prefix: u8,
}

/// Whether every cache is filled.
#[derive(Debug, Clone)]
pub struct ControllerHealth(watch::Receiver<bool>);

impl ControllerHealth {
    /// True once all caches are filled and the controllers work.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }
}

type Synced = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Passed to each controller's `start`.
pub struct Context {
    as_account: Box<dyn Fn(&str) -> Client + Send + Sync>,
    /// The configuration.
    pub settings: Settings,
    group: Group,
    /// One cache a kind, shared by all controllers.
    pub namespaces: Informer<Namespace>,
    /// Service accounts.
    pub service_accounts: Informer<ServiceAccount>,
    /// The root CA's config maps only: others are nobody's business here.
    pub root_cas: Informer<ConfigMap>,
    synced: RefCell<Vec<Synced>>,
    ready: watch::Sender<bool>,
}

impl Context {
    pub(crate) fn new(
        client: Client,
        as_account: Box<dyn Fn(&str) -> Client + Send + Sync>,
        settings: Settings,
        group: &Group,
    ) -> Self {
        let root_cas = ListOptions {
            field_selector: "metadata.name=kube-root-ca.crt".to_owned(),
            ..ListOptions::default()
        };
        Self {
            namespaces: Informer::new(client.all(), ListOptions::default()),
            service_accounts: Informer::new(client.all(), ListOptions::default()),
            root_cas: Informer::new(client.all(), root_cas),
            as_account,
            settings,
            group: group.clone(),
            synced: RefCell::new(Vec::new()),
            ready: watch::Sender::new(false),
        }
    }

    /// Fills a cache from now on; controllers start once all are full.
    fn follow<T: Object>(&self, informer: &Informer<T>) {
        self.group.spawn(format!("controllers: {}", T::PLURAL), informer.clone().run(self.group.token()));
        let informer = informer.clone();
        self.synced.borrow_mut().push(Box::pin(async move { informer.synced().await }));
    }

    /// Starts a controller as its own service account `NAME`, with `workers` workers, once all caches are filled. `finish` names
    /// the caches that show its writes.
    pub(crate) fn control<C: Controller>(
        &self,
        controller: C,
        queue: &Queue<Key>,
        workers: usize,
        finish: impl FnOnce(Driver<C>) -> Driver<C>,
    ) {
        let client = (self.as_account)(C::NAME);
        let (recorder, writer) = recorder(client.clone(), Source { component: C::NAME, host: String::new() });
        self.group.spawn(format!("{}: events", C::NAME), writer.run(self.group.token()));
        let driver = finish(Driver::new(controller, client, queue.clone(), recorder));
        let (mut ready, shutdown) = (self.ready.subscribe(), self.group.token());
        self.group.spawn(C::NAME, async move {
            let filled = shutdown.run_until_cancelled(wait_until(&mut ready)).await.is_some();
            if filled { driver.run(workers, shutdown).await } else { Ok(()) }
        });
    }

    /// Fills the caches, then lets the controllers work.
    pub(crate) fn start(self) -> ControllerHealth {
        self.follow(&self.namespaces);
        self.follow(&self.service_accounts);
        self.follow(&self.root_cas);
        let health = ControllerHealth(self.ready.subscribe());
        let (synced, ready, shutdown) = (self.synced.take(), self.ready, self.group.token());
        self.group.spawn("controllers", release(synced, ready, shutdown));
        health
    }
}

async fn wait_until(ready: &mut watch::Receiver<bool>) {
    // The sender lives until the shutdown, which ends this wait otherwise.
    if ready.wait_for(|ready| *ready).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn release(
    synced: Vec<Synced>,
    ready: watch::Sender<bool>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    for cache in synced {
        if shutdown.run_until_cancelled(cache).await.is_none() {
            return Ok(());
        }
    }
    ready.send_replace(true);
    shutdown.cancelled().await;
    Ok(())
}

/// Puts the key that `key_of` gives into `queue` at each change of `informer`.
pub(crate) fn enqueue<T: Object>(
    informer: &Informer<T>,
    queue: &Queue<Key>,
    key_of: impl Fn(&Change<T>) -> Option<Key> + Send + 'static,
) {
    let queue = queue.clone();
    informer.on_change(move |change| {
        if let Some(key) = key_of(change) {
            queue.add(key);
        }
    });
}
