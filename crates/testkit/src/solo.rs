//! An API server alone in a directory: store, TLS listener, certificates, RBAC, admission and bootstrap objects as a cluster has
//! them, and no other component. What is asked of it is not known here.

use nauplius_apiserver::authn::Authenticate;
use nauplius_apiserver::authn::certificate::ClientCertificate;
use nauplius_apiserver::authn::service_account::ServiceAccountTokens;
use nauplius_apiserver::authz::loopback::Loopback;
use nauplius_apiserver::authz::node::NodeAuthorizer;
use nauplius_apiserver::authz::rbac::Rbac;
use nauplius_apiserver::authz::{Authorize, Union};
use nauplius_apiserver::cache::Caches;
use nauplius_apiserver::hooks::token::TokenIssuer;
use nauplius_apiserver::{ApiServer, Config, admission, bootstrap, reviews, serve};
use nauplius_base::task::Group;
use nauplius_client::https::{Endpoint, Https};
use nauplius_client::kubeconfig;
use nauplius_pki::{Authority, CertificateFiles, LeafRequest, PrivateKey, TlsParts};
use nauplius_store::Store;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What goes wrong in setting up a test's server ends the test: it is told, not handled.
pub type SetupError = Box<dyn Error + Send + Sync>;

/// A running server.
pub struct Solo {
    /// The server, for clients in process.
    pub server: Arc<ApiServer>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its tasks.
    pub group: Group,
    directory: PathBuf,
}

impl Drop for Solo {
    fn drop(&mut self) {
        self.group.shut_down();
    }
}

/// The administrator's kubeconfig in a server's directory.
pub fn kubeconfig_in(directory: &Path) -> PathBuf {
    directory.join("kubeconfig")
}

impl Solo {
    /// Starts a server over `store` on a port of the loopback address (0: any). Its authority lives in `directory`, so that clients
    /// know the next server there, too.
    ///
    /// # Errors
    /// When anything of it cannot be made.
    pub async fn start(directory: &Path, store: Arc<dyn Store>, port: u16) -> Result<Self, SetupError> {
        Self::configured(directory, store, port, |_| {}).await
    }

    /// The same with another configuration.
    ///
    /// # Errors
    /// When anything of it cannot be made.
    pub async fn configured(
        directory: &Path,
        store: Arc<dyn Store>,
        port: u16,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, SetupError> {
        let authority = CertificateFiles::in_directory(directory, "ca").load_or_create_authority("solo")?;
        let listener = TcpListener::bind((LOOPBACK, port)).await?;
        let address = listener.local_addr()?;
        let mut config = config(store, &authority)?;
        change(&mut config);
        let group = Group::new();
        let server = ApiServer::start(config, &group).await?;
        let tls = serve::tls_config(serving_key(&authority)?, roots(&authority.certificate_pem())?)?;
        group.spawn("listener", serve::serve(Arc::clone(&server), listener, tls));
        let solo = Self { server, address, group, directory: directory.to_owned() };
        solo.write_kubeconfig(&authority)?;
        Ok(solo)
    }

    fn write_kubeconfig(&self, authority: &Authority) -> Result<(), SetupError> {
        let files = CertificateFiles::in_directory(&self.directory, "admin");
        let wanted = LeafRequest::client("kubernetes-admin", vec!["system:masters".to_owned()]);
        let (issued, _) = files.load_or_issue(authority, &wanted)?;
        let entry = kubeconfig::Entry {
            name: "solo".to_owned(),
            server: format!("https://{}", self.address),
            certificate_authority: authority.certificate_pem(),
            client_certificate: issued.certificate_pem,
            client_key: issued.key_pem,
            token: String::new(),
        };
        Ok(kubeconfig::merge(&kubeconfig_in(&self.directory), &entry)?)
    }
}

/// A connection as the user of a kubeconfig file.
///
/// # Errors
/// When the file cannot be used.
pub fn connect(kubeconfig: &Path) -> Result<Https, SetupError> {
    let entry = kubeconfig::load(kubeconfig, None)?;
    let own = TlsParts::from_pem(&entry.client_certificate, &entry.client_key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots(&entry.certificate_authority)?);
    let tls = builder.with_client_auth_cert(own.chain, own.key)?;
    let address: SocketAddr = entry.server.trim_start_matches("https://").parse()?;
    Ok(Https::new(Endpoint { address, server_name: address.ip().into(), tls, bearer_token: None })?)
}

fn config(store: Arc<dyn Store>, authority: &Authority) -> Result<Config, SetupError> {
    let kinds = nauplius_kinds::builtin();
    let caches = Caches::new(Arc::clone(&store), &kinds);
    let tokens = ServiceAccountTokens::new(
        ISSUER,
        vec![ISSUER.to_owned()],
        PrivateKey::generate()?,
        Arc::clone(&caches),
    );
    let tokens = Arc::new(tokens);
    let loopback = Loopback::new();
    let rules = bootstrap::rbac::rules_of_cluster_role("system:node");
    let authorizer: Arc<dyn Authorize> = Arc::new(Union(vec![
        Arc::new(loopback.clone()),
        Arc::new(NodeAuthorizer::new(Arc::clone(&caches), rules)),
        Arc::new(Rbac::new(Arc::clone(&caches))),
    ]));
    let mut config = Config::new(store, kinds, authorizer);
    config.admission = admission::Chain::standard(&caches, &config.authorizer);
    config.authenticators = vec![Arc::new(ClientCertificate), Arc::clone(&tokens) as Arc<dyn Authenticate>];
    config.virtual_resources = reviews::all(&tokens);
    config.token_issuer = Some(tokens as Arc<dyn TokenIssuer>);
    config.caches = caches;
    config.bootstrap = Some(bootstrap::Settings {
        loopback,
        advertise_address: IpAddr::from([192, 0, 2, 1]),
        port: 6443,
        client_ca: authority.certificate_pem(),
        request_header_ca: authority.certificate_pem(),
        host_name: "solo".to_owned(),
    });
    Ok(config)
}

fn serving_key(authority: &Authority) -> Result<Arc<SingleCertAndKey>, SetupError> {
    let issued = authority.issue(&LeafRequest::server("kube-apiserver", Vec::new(), vec![LOOPBACK]))?;
    let parts = TlsParts::from_pem(&issued.certificate_pem, &issued.key_pem)?;
    let key = rustls::crypto::ring::sign::any_supported_type(&parts.key)?;
    Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(parts.chain, key))))
}

fn roots(bundle: &str) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in TlsParts::certificates(bundle)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}
