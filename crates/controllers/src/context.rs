//! What controllers share: caches under the controller manager's identity, one client for each controller, and how they start.

use crate::graph::Graph;
use crate::graph::resources::Resources;
use nauplius_base::task::{CancellationToken, Group};
use nauplius_client::{Client, ListOptions};
use nauplius_kinds::{
    ClusterRole, ConfigMap, Deployment, EndpointSlice, Endpoints, Lease, Namespace, Node, Object, Pod,
    PodDisruptionBudget, ReplicaSet, Service, ServiceAccount,
};
use nauplius_kinds::{labels, pod};
use nauplius_reconcile::events::{Source, recorder};
use nauplius_reconcile::{Change, Controller, Driver, Informer, Key, Queue};
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
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

    /// Waits until [`Self::is_ready`].
    pub async fn ready(&self) {
        wait_until(&mut self.0.clone()).await;
    }
}

/// The index of objects by the uid of their controller; those without one are found under [`orphans`].
pub(crate) const CONTROLLER: &str = "controller";
/// The index of pods by node.
pub(crate) const NODE: &str = "node";
/// The index of endpoint slices by `namespace/service`.
pub(crate) const SERVICE: &str = "service";

/// The value of [`CONTROLLER`] for the objects of a namespace that nobody controls.
pub(crate) fn orphans(namespace: &str) -> String {
    format!("/{namespace}")
}

fn by_controller<T: Object>(object: &T) -> Vec<String> {
    let controller = labels::controller_of(object.meta()).map(|owner| owner.uid.clone());
    vec![controller.unwrap_or_else(|| orphans(object.namespace()))]
}

fn by_node(pod: &Pod) -> Vec<String> {
    let node = pod::node_name(pod);
    if node.is_empty() { Vec::new() } else { vec![node.to_owned()] }
}

fn by_service(slice: &EndpointSlice) -> Vec<String> {
    let service =
        slice.metadata.labels.iter().flatten().find(|(key, _)| *key == "kubernetes.io/service-name");
    service.map(|(_, name)| format!("{}/{name}", slice.namespace())).into_iter().collect()
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
    /// Nodes.
    pub nodes: Informer<Node>,
    /// The nodes' leases.
    pub leases: Informer<Lease>,
    /// Pods, by [`CONTROLLER`] and [`NODE`].
    pub pods: Informer<Pod>,
    /// Replica sets, by [`CONTROLLER`].
    pub replica_sets: Informer<ReplicaSet>,
    /// Deployments.
    pub deployments: Informer<Deployment>,
    /// Services.
    pub services: Informer<Service>,
    /// Endpoints.
    pub endpoints: Informer<Endpoints>,
    /// Endpoint slices, by [`SERVICE`].
    pub endpoint_slices: Informer<EndpointSlice>,
    /// Cluster roles.
    pub cluster_roles: Informer<ClusterRole>,
    /// Disruption budgets.
    pub disruption_budgets: Informer<PodDisruptionBudget>,
    /// Who owns what.
    pub(crate) graph: Arc<Graph>,
    client: Client,
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
        let controlled = || vec![(CONTROLLER, by_controller as fn(&_) -> _)];
        Self {
            leases: Informer::new(client.namespaced("kube-node-lease"), ListOptions::default()),
            pods: Informer::with_indexes(
                client.all(),
                ListOptions::default(),
                vec![(CONTROLLER, by_controller), (NODE, by_node)],
            ),
            replica_sets: Informer::with_indexes(client.all(), ListOptions::default(), controlled()),
            deployments: Informer::new(client.all(), ListOptions::default()),
            services: Informer::new(client.all(), ListOptions::default()),
            endpoints: Informer::new(client.all(), ListOptions::default()),
            endpoint_slices: Informer::with_indexes(
                client.all(),
                ListOptions::default(),
                vec![(SERVICE, by_service)],
            ),
            cluster_roles: Informer::new(client.all(), ListOptions::default()),
            disruption_budgets: Informer::new(client.all(), ListOptions::default()),
            namespaces: Informer::new(client.all(), ListOptions::default()),
            service_accounts: Informer::new(client.all(), ListOptions::default()),
            root_cas: Informer::new(client.all(), root_cas),
            nodes: Informer::new(client.all(), ListOptions::default()),
            graph: Graph::new(Resources::builtin()),
            client,
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
        let (recorder, writer) =
            recorder(client.clone(), Source { component: C::COMPONENT, host: String::new() });
        self.group.spawn(format!("{}: events", C::COMPONENT), writer.run(self.group.token()));
        let driver = finish(Driver::new(controller, client, queue.clone(), recorder));
        let (mut ready, shutdown) = (self.ready.subscribe(), self.group.token());
        self.group.spawn(C::COMPONENT, async move {
            let filled = shutdown.run_until_cancelled(wait_until(&mut ready)).await.is_some();
            if filled { driver.run(workers, shutdown).await } else { Ok(()) }
        });
    }

    /// Fills the caches, then lets the controllers work.
    pub(crate) fn start(self) -> ControllerHealth {
        self.follow(&self.namespaces);
        self.follow(&self.service_accounts);
        self.follow(&self.root_cas);
        self.follow(&self.nodes);
        self.follow(&self.leases);
        self.follow(&self.pods);
        self.follow(&self.replica_sets);
        self.follow(&self.deployments);
        self.follow(&self.services);
        self.follow(&self.endpoints);
        self.follow(&self.endpoint_slices);
        self.follow(&self.cluster_roles);
        self.follow(&self.disruption_budgets);
        self.graph.follow(&self.client, &self.group);
        let graph = Arc::clone(&self.graph);
        self.synced.borrow_mut().push(Box::pin(async move { graph.synced().await }));
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

/// Puts all keys that `keys_of` gives for the state before and after each change of `informer` into `queue`.
pub(crate) fn enqueue_all<T: Object>(
    informer: &Informer<T>,
    queue: &Queue<Key>,
    keys_of: impl Fn(&T) -> Vec<Key> + Send + 'static,
) {
    let queue = queue.clone();
    informer.on_change(move |change| {
        let before = match change {
            Change::Updated { old, .. } => keys_of(old),
            Change::Added(_) | Change::Deleted(_) => Vec::new(),
        };
        for key in before.into_iter().chain(keys_of(change.object())) {
            queue.add(key);
        }
    });
}
