//! A server as a cluster has it: every authenticator, authorizer and plugin, the bootstrap objects, and a listener.

use crate::network::{LOOPBACK, client_roots, server_tls};
use crate::support::Fixture;
use nauplius_apiserver::authn::Authenticate;
use nauplius_apiserver::authn::certificate::ClientCertificate;
use nauplius_apiserver::authn::service_account::ServiceAccountTokens;
use nauplius_apiserver::authz::loopback::Loopback;
use nauplius_apiserver::authz::node::NodeAuthorizer;
use nauplius_apiserver::authz::rbac::Rbac;
use nauplius_apiserver::authz::{Authorize, Union};
use nauplius_apiserver::cache::Caches;
use nauplius_apiserver::hooks::token::TokenIssuer;
use nauplius_apiserver::{ApiServer, Config, UserInfo, admission, bootstrap, reviews, serve};
use nauplius_base::task::Group;
use nauplius_client::https::{Endpoint, Https};
use nauplius_pki::{Authority, LeafRequest, PrivateKey, TlsParts};
use nauplius_store::model::ModelStore;
use nauplius_store::{Clock, Store};
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;

pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A running cluster of one API server.
pub struct Secured {
    pub server: Arc<ApiServer>,
    pub authority: Authority,
    pub address: SocketAddr,
    group: Group,
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.group.shut_down();
    }
}

/// Everything but the listener.
pub async fn start(store: Arc<dyn Store>, authority: &Authority, group: &Group) -> Arc<ApiServer> {
    start_at(IpAddr::from([192, 0, 2, 1]), store, authority, group).await
}

/// The same, reached at an address of its own.
pub async fn start_at(
    advertise_address: IpAddr,
    store: Arc<dyn Store>,
    authority: &Authority,
    group: &Group,
) -> Arc<ApiServer> {
    let kinds = nauplius_kinds::builtin();
    let caches = Caches::new(Arc::clone(&store), &kinds);
    let key = PrivateKey::generate().unwrap();
    let tokens =
        Arc::new(ServiceAccountTokens::new(ISSUER, vec![ISSUER.to_owned()], key, Arc::clone(&caches)));
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
        advertise_address,
        port: 6443,
        client_ca: authority.certificate_pem(),
        request_header_ca: authority.certificate_pem(),
        host_name: format!("host-{advertise_address}"),
    });
    ApiServer::start(config, group).await.unwrap()
}

pub async fn secured() -> Secured {
    let authority = Authority::create("test").unwrap();
    let group = Group::new();
    let server = start(Arc::new(ModelStore::new(Clock::system())), &authority, &group).await;
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = serve::tls_config(server_tls(&authority), client_roots(&authority)).unwrap();
    group.spawn("listener", serve::serve(Arc::clone(&server), listener, tls));
    Secured { server, authority, address, group }
}

impl Secured {
    /// In process, as the wiring lets components in.
    pub fn local(&self, name: &str, groups: &[&str]) -> Fixture {
        self.as_user(UserInfo::authenticated(name, groups))
    }

    pub fn as_user(&self, user: UserInfo) -> Fixture {
        Fixture::over(Arc::clone(&self.server), self.server.transport(user))
    }

    pub fn admin(&self) -> Fixture {
        self.local("kubernetes-admin", &["system:masters"])
    }

    /// Over TLS, with a client certificate or a token or neither.
    pub fn remote(&self, certificate: Option<(&str, &[&str])>, token: Option<&str>) -> Fixture {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(client_roots(&self.authority));
        let tls = match certificate {
            None => builder.with_no_client_auth(),
            Some((name, groups)) => {
                let groups = groups.iter().map(|group| (*group).to_owned()).collect();
                let issued = self.authority.issue(&LeafRequest::client(name, groups)).unwrap();
                let parts = TlsParts::from_pem(&issued.certificate_pem, &issued.key_pem).unwrap();
                builder.with_client_auth_cert(parts.chain, parts.key).unwrap()
            }
        };
        let endpoint = Endpoint {
            address: self.address,
            server_name: LOOPBACK.into(),
            tls,
            bearer_token: token.map(str::to_owned),
        };
        Fixture::over(Arc::clone(&self.server), Arc::new(Https::new(endpoint).unwrap()))
    }

    /// A token of a service account, which is made when it is not there.
    pub async fn token(&self, namespace: &str, name: &str, spec: Value) -> String {
        let admin = self.admin();
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        admin.post(&accounts, &json!({"metadata": {"name": name}})).await;
        let request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
        let answer = admin.post(&format!("{accounts}/{name}/token"), &request).await.expect(201);
        answer["status"]["token"].as_str().unwrap().to_owned()
    }
}

/// A pod that runs as the default account, on `node` unless that is empty.
pub fn pod(name: &str, node: &str) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    if !node.is_empty() {
        pod["spec"]["nodeName"] = Value::from(node);
    }
    pod
}
