//! The components: caches that follow the API, and the dataplane and the zone that follow the caches. Both look at the whole of
//! what is cached after each change, batched over a moment that grows with the work.

use crate::dns::{Resolver, Server, Zone, ZoneSpec};
use crate::health::HealthChecks;
use crate::proxy::{Dataplane, Network, RuleSet, plan};
use crate::snapshot::{by_service, names, services};
use nauplius_base::backoff::Backoff;
use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_client::{Client, ListOptions};
use nauplius_kinds::{EndpointSlice, Namespace, Node, Object, Service};
use nauplius_reconcile::Informer;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Services and slices that another proxy serves, or that have no address to serve.
const OURS: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Changes within this time become one.
const BATCH_MIN: Duration = Duration::from_millis(5);
const BATCH_MAX: Duration = Duration::from_secs(1);
/// How often rules are looked for that somebody else removed; upstream's `--iptables-sync-period`.
const LOOK: Duration = Duration::from_secs(30);

/// What the service proxy of a node follows.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// This node and its ranges; the zone is learned from the node's labels.
    pub network: Network,
    /// Which address family the dataplane is for.
    pub ipv6: bool,
}

/// The service proxy of a node.
pub struct Proxy {
    config: ProxyConfig,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    node: Informer<Node>,
    applied: watch::Sender<u64>,
}

impl Proxy {
    /// A proxy that follows the API through `client`.
    pub fn new(client: &Client, config: ProxyConfig) -> Self {
        let ours = ListOptions { label_selector: OURS.into(), ..ListOptions::default() };
        let field_selector = format!("metadata.name={}", config.network.node);
        let this_node = ListOptions { field_selector, ..ListOptions::default() };
        Self {
            services: Informer::new(client.all(), ours.clone()),
            slices: Informer::new(client.all(), ours),
            node: Informer::new(client.all(), this_node),
            applied: watch::Sender::new(0),
            config,
        }
    }

    /// How often rules were applied: from 1 on, services work.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Keeps `dataplane` as the API has it, until `shutdown`. What was applied stays then.
    ///
    /// # Errors
    /// The dataplane's thread panicked.
    pub async fn run(self, dataplane: Box<dyn Dataplane>, shutdown: CancellationToken) -> io::Result<()> {
        let following = async {
            tokio::join!(
                self.services.clone().run(shutdown.clone()),
                self.slices.clone().run(shutdown.clone()),
                self.node.clone().run(shutdown.clone()),
            )
        };
        let applying = async { shutdown.run_until_cancelled(self.follow(dataplane)).await.unwrap_or(Ok(())) };
        tokio::select! {
            outcome = applying => outcome,
            _ = following => Ok(()),
        }
    }

    async fn follow(&self, mut dataplane: Box<dyn Dataplane>) -> io::Result<()> {
        tokio::join!(self.services.synced(), self.slices.synced(), self.node.synced());
        let mut services = self.services.subscribe();
        let mut slices = self.slices.subscribe();
        let mut node = self.node.subscribe();
        let mut health = HealthChecks::default();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).with_jitter(0.5);
        loop {
            services.mark_unchanged();
            slices.mark_unchanged();
            node.mark_unchanged();
            let started = time::monotonic();
            let rules = self.rules();
            health.update(&rules.health_checks, self.config.ipv6).await;
            let applying = tokio::task::spawn_blocking(move || {
                let outcome = dataplane.apply(&rules);
                (dataplane, outcome)
            });
            let outcome;
            (dataplane, outcome) = applying.await.map_err(io::Error::other)?;
            if let Err(error) = outcome {
                tracing::warn!(%error, "the service rules could not be applied, trying again");
                time::sleep(backoff.next_delay()).await;
                continue;
            }
            backoff.reset();
            self.applied.send_modify(|applied| *applied += 1);
            pause(started.elapsed()).await;
            loop {
                tokio::select! {
                    _ = services.changed() => break,
                    _ = slices.changed() => break,
                    _ = node.changed() => break,
                    () = time::sleep(LOOK) => {}
                }
                let whole;
                (dataplane, whole) = look(dataplane).await?;
                if !whole {
                    tracing::info!("somebody removed the service rules, they are put back");
                    break;
                }
            }
            time::sleep(BATCH_MIN).await;
        }
    }

    /// The plan for what is cached now.
    fn rules(&self) -> RuleSet {
        let mut network = self.config.network.clone();
        let node = self.node.snapshot();
        let labels = node.iter().next().and_then(|node| node.meta().labels.clone()).unwrap_or_default();
        network.zone = labels.get(ZONE_LABEL).cloned().unwrap_or_default();
        let (cached, slices) = (self.services.snapshot(), by_service(self.slices.snapshot().iter()));
        let ports = services::service_ports(cached.iter(), &slices, &network.node, self.config.ipv6);
        let rules = plan(network, &ports);
        for conflict in &rules.conflicts {
            tracing::warn!(service = %conflict.service, port = conflict.port, "another service has this address already");
        }
        rules
    }
}

/// Whether what was applied is there. One that cannot be read is taken for whole: the next change says more.
async fn look(mut dataplane: Box<dyn Dataplane>) -> io::Result<(Box<dyn Dataplane>, bool)> {
    let looking = tokio::task::spawn_blocking(move || {
        let whole = dataplane.is_whole();
        (dataplane, whole)
    });
    let (dataplane, whole) = looking.await.map_err(io::Error::other)?;
    let whole = whole.unwrap_or_else(|error| {
        tracing::debug!(%error, "the service rules cannot be read");
        true
    });
    Ok((dataplane, whole))
}

/// Leaves most of the time to others, however large the cluster is.
async fn pause(worked: Duration) {
    time::sleep((worked * 4).clamp(BATCH_MIN, BATCH_MAX)).await;
}

/// Cluster DNS: the zone that follows the API. The resolver is made from it by [`ClusterDns::zone`].
pub struct ClusterDns {
    spec: ZoneSpec,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    namespaces: Informer<Namespace>,
    zone: watch::Sender<Arc<Zone>>,
}

impl ClusterDns {
    /// A zone that follows the API through `client`.
    pub fn new(client: &Client, spec: ZoneSpec) -> Self {
        let zone = watch::Sender::new(Arc::new(Zone::unready(&spec)));
        Self {
            services: Informer::new(client.all(), ListOptions::default()),
            slices: Informer::new(client.all(), ListOptions::default()),
            namespaces: Informer::new(client.all(), ListOptions::default()),
            zone,
            spec,
        }
    }

    /// The zone, for a [`Resolver`]; ready once the API has been read.
    pub fn zone(&self) -> watch::Receiver<Arc<Zone>> {
        self.zone.subscribe()
    }

    /// Follows the API and answers on `server`, until `shutdown`.
    ///
    /// # Errors
    /// A socket fails for good.
    pub async fn run(
        self,
        server: Server,
        resolver: Arc<Resolver>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let following = async {
            tokio::join!(
                self.services.clone().run(shutdown.clone()),
                self.slices.clone().run(shutdown.clone()),
                self.namespaces.clone().run(shutdown.clone()),
            )
        };
        let publishing = shutdown.run_until_cancelled(self.follow());
        let (answered, ..) = tokio::join!(server.run(resolver, shutdown.clone()), following, publishing);
        answered
    }

    async fn follow(&self) {
        tokio::join!(self.services.synced(), self.slices.synced(), self.namespaces.synced());
        let mut services = self.services.subscribe();
        let mut slices = self.slices.subscribe();
        let mut namespaces = self.namespaces.subscribe();
        for serial in 1.. {
            services.mark_unchanged();
            slices.mark_unchanged();
            namespaces.mark_unchanged();
            let started = time::monotonic();
            self.zone.send_replace(Arc::new(self.build(serial)));
            pause(started.elapsed()).await;
            tokio::select! {
                _ = services.changed() => {}
                _ = slices.changed() => {}
                _ = namespaces.changed() => {}
            }
        }
    }

    fn build(&self, serial: u32) -> Zone {
        let namespaces = self.namespaces.snapshot();
        let existing = namespaces.iter().map(|namespace| namespace.name().to_owned());
        let slices = by_service(self.slices.snapshot().iter());
        let records = names::service_records(self.services.snapshot().iter(), &slices);
        Zone::build(&self.spec, serial, existing, records)
    }
}
