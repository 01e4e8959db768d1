//! The control plane: the store, the API server with its doors, the scheduler and the controllers.

use super::Site;
use crate::failure::{Doing, Failure};
use crate::identity::Identities;
use crate::machine;
use crate::storage::{self, Opened};
use nauplius_apiserver::authn::Authenticate;
use nauplius_apiserver::authn::certificate::ClientCertificate;
use nauplius_apiserver::authn::service_account::ServiceAccountTokens;
use nauplius_apiserver::authz::loopback::Loopback;
use nauplius_apiserver::authz::node::NodeAuthorizer;
use nauplius_apiserver::authz::rbac::Rbac;
use nauplius_apiserver::authz::{Authorize, Union};
use nauplius_apiserver::cache::Caches;
use nauplius_apiserver::component_status::Component;
use nauplius_apiserver::discovery::OpenIdDocuments;
use nauplius_apiserver::hooks::token::TokenIssuer;
use nauplius_apiserver::proxy::KubeletDialer;
use nauplius_apiserver::{
    ApiServer, Config, ServiceNetwork, StartError, admission, bootstrap, reviews, serve,
};
use nauplius_base::task::Group;
use nauplius_controllers::ControllerHealth;
use nauplius_pki::PrivateKey;
use nauplius_scheduler::SchedulerHealth;
use nauplius_store::StoreError;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::net::TcpListener;

const NODE_PREFIX: u8 = 24;

/// The running API server.
pub struct Plane {
    /// The server.
    pub server: Arc<ApiServer>,
    /// Clients with identities.
    pub identities: Identities,
}

/// Starts the API server and its listener.
///
/// # Errors
/// When the store is damaged, bootstrap objects cannot be written or the port is taken.
pub async fn start(site: &Arc<Site>, store: &Opened, group: &Group) -> Result<Arc<Plane>, Failure> {
    let store = store.store();
    let served = nauplius_kinds::RuntimeConfig::parse(&site.cluster.runtime_config);
    let kinds = nauplius_kinds::serving(&served.doing("read the runtime configuration")?);
    let caches = Caches::new(Arc::clone(&store), &kinds);
    let key = PrivateKey::from_pem(&site.credentials.token_key.to_pem()).doing("read the token key")?;
    let issuers = site.cluster.issuers();
    let tokens = Arc::new(
        ServiceAccountTokens::new(&issuers[0], issuers.clone(), key, Arc::clone(&caches)).accepting(&issuers),
    );
    let loopback = Loopback::new();
    let authorizer = authorizer(&caches, &loopback);
    let mut config = Config::new(store, kinds, authorizer);
    config.admission = admission::Chain::standard(&caches, &config.authorizer);
    config.authenticators = vec![Arc::new(ClientCertificate), Arc::clone(&tokens) as Arc<dyn Authenticate>];
    config.virtual_resources = reviews::all(&tokens);
    config.token_issuer = Some(Arc::clone(&tokens) as Arc<dyn TokenIssuer>);
    let keys = site
        .cluster
        .jwks_uri
        .clone()
        .unwrap_or_else(|| format!("https://{}:{}/openid/v1/jwks", site.node_ip, site.cluster.port));
    config.openid = Some(OpenIdDocuments::new(tokens.issuer(), &keys, &[*tokens.public_key()]));
    config.caches = caches;
    let range = site.cluster.service_cidr;
    config.service_networks =
        vec![ServiceNetwork { address: IpAddr::V4(range.network()), prefix: range.prefix_len() }];
    config.node_ports = site.cluster.node_ports.range();
    config.kubelets = Some(KubeletDialer { tls: Arc::new(kubelet_client(site)?) });
    config.bootstrap = Some(bootstrap_settings(site, loopback));
    let listener = listen(site).await?;
    let server = ApiServer::start(config, group).await.map_err(|error| match error {
        StartError::Store(error @ StoreError::Corrupt { .. }) => storage::damaged(&site.cluster, &error),
        error => Failure::new(format!("cannot start the API server: {error}")),
    })?;
    let tls =
        serve::tls_config(Arc::clone(&site.credentials.api_server) as Arc<_>, site.credentials.roots()?);
    let tls = tls.doing("prepare TLS")?;
    group.spawn("listener", serve::serve(Arc::clone(&server), listener, tls));
    Ok(Arc::new(Plane { identities: Identities::new(Arc::clone(&server)), server }))
}

fn authorizer(caches: &Arc<Caches>, loopback: &Loopback) -> Arc<dyn Authorize> {
    let rules = bootstrap::rbac::rules_of_cluster_role("system:node");
    Arc::new(Union(vec![
        Arc::new(loopback.clone()),
        Arc::new(NodeAuthorizer::new(Arc::clone(caches), rules)),
        Arc::new(Rbac::new(Arc::clone(caches))),
    ]))
}

fn bootstrap_settings(site: &Site, loopback: Loopback) -> bootstrap::Settings {
    bootstrap::Settings {
        loopback,
        advertise_address: IpAddr::V4(site.node_ip),
        port: site.cluster.port,
        client_ca: site.credentials.authority.certificate_pem(),
        request_header_ca: site.credentials.front_proxy_authority.certificate_pem(),
        host_name: site.cluster.node_name.clone(),
    }
}

async fn listen(site: &Site) -> Result<TcpListener, Failure> {
    let port = site.cluster.port;
    let bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    bound.map_err(|error| machine::cannot_listen(port, &error))
}

/// Shows kubelets the certificate of [`crate::credentials::KUBELET_CLIENT_USER`].
fn kubelet_client(site: &Site) -> Result<rustls::ClientConfig, Failure> {
    let roots = site.credentials.roots()?;
    let own = Arc::clone(&site.credentials.kubelet_client);
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_client_cert_resolver(own))
}

/// The control plane's other half.
pub struct Components {
    /// The scheduler.
    pub scheduler: SchedulerHealth,
    /// The controllers.
    pub controllers: ControllerHealth,
}

/// Starts scheduler and controllers, each as itself.
pub fn start_components(site: &Site, plane: &Plane, group: &Group) -> Components {
    let settings = nauplius_controllers::Settings {
        root_ca: site.credentials.authority.certificate_pem(),
        cluster_cidr: site.cluster.pod_cidr.to_string(),
        node_prefix: NODE_PREFIX,
    };
    let identities = plane.identities.clone();
    let as_account = move |name: &str| identities.controller(name);
    let scheduler = nauplius_scheduler::run(&plane.identities.scheduler(), group);
    let manager = plane.identities.controller_manager();
    let controllers = nauplius_controllers::run(manager, as_account, settings, group);
    let (scheduler_health, controller_health) = (scheduler.clone(), controllers.clone());
    plane.server.tell_components(vec![
        component("scheduler", move || scheduler_health.is_ready()),
        component("controller-manager", move || controller_health.is_ready()),
    ]);
    Components { scheduler, controllers }
}

fn component(name: &'static str, is_ready: impl Fn() -> bool + Send + Sync + 'static) -> Component {
    let probe = move || if is_ready() { Ok(()) } else { Err("its caches are not filled yet".to_owned()) };
    Component { name, probe: Box::new(probe) }
}
