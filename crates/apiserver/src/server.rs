//! The assembled API server: what it is made of, how it starts, and the two doors into it. The chain that a request goes
//! through is in `chain`, what it does there in `dispatch`.

use crate::admission;
use crate::authn::Authenticate;
use crate::authz::Authorize;
use crate::bootstrap::{self, BootstrapError};
use crate::buffers::Buffers;
use crate::cache::Caches;
use crate::chain::{self, Identity, Limits};
use crate::compaction;
use crate::component_status::Component;
use crate::definitions::{Definitions, Seen};
use crate::discovery::{self, OpenIdDocuments};
use crate::health::Health;
use crate::hooks::token::TokenIssuer;
use crate::metrics::Metrics;
use crate::openapi::Documents;
use crate::proxy::{Dial, Direct, KubeletDialer};
use crate::registry::{Registry, Served};
use crate::request::UserInfo;
use crate::respond::Reply;
use crate::virtual_resources::VirtualResource;
use futures_util::future::BoxFuture;
use http::Request;
use nauplius_base::task::{CancellationToken, Group};
use nauplius_client::meter::Sent;
use nauplius_client::transport::{Body, Transport, TransportError};
use nauplius_kinds::Kind;
use nauplius_store::{Store, StoreError};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A range of service addresses, as `--service-cluster-ip-range` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// The network's address.
    pub address: IpAddr,
    /// The length of its prefix.
    pub prefix: u8,
}

/// What the server is made of.
pub struct Config {
    /// Where objects live.
    pub store: Arc<dyn Store>,
    /// The watch caches over that store and these kinds; authorizers and plugins may hold them, too.
    pub caches: Arc<Caches>,
    /// Every built-in kind that is served; custom resources join them.
    pub kinds: Vec<Arc<dyn Kind>>,
    /// Asked in order.
    pub authenticators: Vec<Arc<dyn Authenticate>>,
    /// Whether requests without credentials go on as `system:anonymous`.
    pub anonymous: bool,
    /// Decides what users may do.
    pub authorizer: Arc<dyn Authorize>,
    /// Admission plugins.
    pub admission: admission::Chain,
    /// Service addresses, one network per family, the primary first.
    pub service_networks: Vec<ServiceNetwork>,
    /// Ports for services of type NodePort.
    pub node_ports: RangeInclusive<u16>,
    /// Signs tokens of service accounts; without it the subresource is refused.
    pub token_issuer: Option<Arc<dyn TokenIssuer>>,
    /// How others check those tokens; without it their paths are not found.
    pub openid: Option<OpenIdDocuments>,
    /// How to reach kubelets; without it log, exec, attach and portforward are refused.
    pub kubelets: Option<KubeletDialer>,
    /// How the `proxy` subresources reach pods, services and nodes.
    pub backends: Arc<dyn Dial>,
    /// Reviews and other resources that store nothing.
    pub virtual_resources: Vec<Arc<dyn VirtualResource>>,
    /// What the cluster's own objects say of this server; without it none are written.
    pub bootstrap: Option<bootstrap::Settings>,
    /// Bounds of what is done at once.
    pub limits: Limits,
    /// How old superseded revisions may get.
    pub compaction_interval: Duration,
}

impl Config {
    /// Upstream's defaults, with nobody to authenticate: for tests, and as a base for wiring.
    pub fn new(store: Arc<dyn Store>, kinds: Vec<Arc<dyn Kind>>, authorizer: Arc<dyn Authorize>) -> Self {
        Self {
            caches: Caches::new(Arc::clone(&store), &kinds),
            store,
            kinds,
            authenticators: Vec::new(),
            anonymous: true,
            authorizer,
            admission: admission::Chain::default(),
            service_networks: vec![ServiceNetwork { address: IpAddr::from([10, 96, 0, 0]), prefix: 12 }],
            node_ports: 30000..=32767,
            token_issuer: None,
            openid: None,
            kubelets: None,
            backends: Arc::new(Direct),
            virtual_resources: Vec::new(),
            bootstrap: None,
            limits: Limits::default(),
            compaction_interval: Duration::from_secs(300),
        }
    }
}

/// The API server.
pub struct ApiServer {
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    pub(crate) in_flight: chain::InFlight,
    pub(crate) flows: chain::Flows,
    pub(crate) buffers: Buffers,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) openapi: Documents,
    pub(crate) discovery: discovery::Documents,
    pub(crate) definitions: Seen,
    /// Told once the other parts of the control plane are started.
    pub(crate) components: OnceLock<Vec<Component>>,
    pub(crate) shutdown: CancellationToken,
    /// Cancelled when the last request that does not last was answered after the shutdown.
    drained: CancellationToken,
}

/// Why an API server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What is in the store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object that every cluster has could not be written.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
}

impl ApiServer {
    /// Fills the caches, writes the bootstrap objects and answers requests from then on. Its tasks belong to `group`.
    ///
    /// # Errors
    /// When the store is damaged, or a bootstrap object cannot be written.
    pub async fn start(config: Config, group: &Group) -> Result<Arc<Self>, StartError> {
        let shutdown = group.token();
        let caches = Arc::clone(&config.caches);
        let server = Arc::new(Self {
            registry: Registry::new(&config),
            in_flight: chain::InFlight::new(config.limits),
            flows: chain::Flows::default(),
            buffers: Buffers::default(),
            health: Health::default(),
            metrics: Metrics::default(),
            openapi: Documents::default(),
            discovery: discovery::Documents::default(),
            definitions: Seen::default(),
            components: OnceLock::new(),
            shutdown: shutdown.clone(),
            drained: CancellationToken::new(),
            config,
        });
        caches.load().await?;
        server.health.caches_loaded();
        group.spawn("requests under way", chain::drain(Arc::clone(&server)));
        // Requests under way at the shutdown still need it.
        group.spawn("watch cache", Arc::clone(&caches).run(server.drained.clone()));
        let store = Arc::clone(&server.config.store);
        group.spawn("compaction", compaction::run(store, server.config.compaction_interval, shutdown));
        if let Some(definitions) = Definitions::start(&server).await {
            group.spawn("definitions", definitions.run(server.drained.clone()));
        }
        if let Some(settings) = &server.config.bootstrap {
            let seat = bootstrap::run(&server, settings).await?;
            let lease = bootstrap::lease::run(Arc::clone(&server), settings.clone(), group.token());
            group.spawn("identity lease", lease);
            let masters = bootstrap::masters::run(Arc::clone(&server), settings.clone(), seat, group.token());
            group.spawn("kubernetes endpoints", masters);
            let keeper = bootstrap::keep::run(Arc::clone(&server), settings.clone(), group.token());
            group.spawn("kept objects", keeper);
        }
        server.health.ready();
        Ok(server)
    }

    /// The in-process door: requests act as `user`, and nothing else about them differs from requests over TLS.
    pub fn transport(self: &Arc<Self>, user: UserInfo) -> Arc<dyn Transport> {
        Arc::new(InProcess { server: Arc::clone(self), identity: Identity::new(user) })
    }

    /// The door for listeners: identity comes from the request's credentials.
    pub async fn handle(self: Arc<Self>, mut request: Request<Body>) -> Reply {
        request.extensions_mut().remove::<Identity>();
        chain::run(self, request).await
    }

    /// The watch caches.
    pub fn caches(&self) -> &Arc<Caches> {
        &self.config.caches
    }

    /// Says what `componentstatuses` shows beside the store. What was told first stays.
    pub fn tell_components(&self, components: Vec<Component>) {
        self.components.get_or_init(|| components);
    }

    /// What is served now: built-in and custom kinds.
    pub fn served(&self) -> Arc<Served> {
        self.registry.served()
    }

    /// Who decides what users may do.
    pub fn authorizer(&self) -> &Arc<dyn Authorize> {
        &self.config.authorizer
    }

    /// Cancelled when the server is to end.
    pub fn shutdown_token(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Cancelled when, after the shutdown began, the last request was answered that is not meant to last.
    pub fn drained(&self) -> &CancellationToken {
        &self.drained
    }
}

/// What metrics of clients call the server in their process.
const IN_PROCESS: &str = "in-process";

struct InProcess {
    server: Arc<ApiServer>,
    identity: Identity,
}

impl Transport for InProcess {
    fn call(
        &self,
        mut request: Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, TransportError>> {
        let server = Arc::clone(&self.server);
        request.extensions_mut().insert(self.identity.clone());
        Box::pin(async move {
            let sent = Sent::now(&request);
            let outcome = if server.shutdown.is_cancelled() {
                Err(TransportError::Stopped)
            } else {
                Ok(chain::run(server, request).await)
            };
            sent.answered(IN_PROCESS, &outcome);
            outcome
        })
    }
}
