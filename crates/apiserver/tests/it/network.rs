//! Over real sockets: TLS with and without client certificates, and the way through to a kubelet.

use crate::support::Fixture;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nauplius_apiserver::authn::{Authenticate, InvalidCredentials, PeerCertificates};
use nauplius_apiserver::authz::Union;
use nauplius_apiserver::proxy::KubeletDialer;
use nauplius_apiserver::{ApiServer, Config, UserInfo, serve};
use nauplius_base::task::{Group, spawn};
use nauplius_client::https::{Endpoint, Https};
use nauplius_pki::{Authority, LeafRequest, TlsParts};
use nauplius_store::Clock;
use nauplius_store::model::ModelStore;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The common name and the organizations of a client certificate.
pub struct Certificates;

impl Authenticate for Certificates {
    fn authenticate<'a>(
        &'a self,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Option<UserInfo>, InvalidCredentials>> {
        let user = request.extensions.get::<PeerCertificates>().map(|peer| {
            let peer = peer.leaf().unwrap().unwrap();
            let groups: Vec<&str> = peer.organizations.iter().map(String::as_str).collect();
            UserInfo::authenticated(peer.common_name.as_str(), &groups)
        });
        Box::pin(std::future::ready(Ok(user)))
    }
}

fn parts(authority: &Authority, request: &LeafRequest) -> TlsParts {
    let issued = authority.issue(request).unwrap();
    TlsParts::from_pem(&issued.certificate_pem, &issued.key_pem).unwrap()
}

pub fn client_roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in TlsParts::certificates(&authority.certificate_pem()).unwrap() {
        roots.add(certificate).unwrap();
    }
    roots
}

pub fn client_config(authority: &Authority, user: Option<(&str, &str)>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(client_roots(authority));
    match user {
        None => builder.with_no_client_auth(),
        Some((name, group)) => {
            let parts = parts(authority, &LeafRequest::client(name, vec![group.to_owned()]));
            builder.with_client_auth_cert(parts.chain, parts.key).unwrap()
        }
    }
}

pub fn server_tls(authority: &Authority) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(server_certificate(authority)))
}

fn server_certificate(authority: &Authority) -> CertifiedKey {
    let parts = parts(authority, &LeafRequest::server("server", Vec::new(), vec![LOOPBACK]));
    CertifiedKey::from_der(parts.chain, parts.key, &rustls::crypto::ring::default_provider()).unwrap()
}

/// Answers logs, and echoes what comes over an upgraded connection.
async fn kubelet(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.uri().to_string();
    if target.starts_with("/containerLogs/") {
        return Ok(Response::new(Full::from(format!("asked {target}\n"))));
    }
    if !request.headers().contains_key(header::UPGRADE) {
        return Ok(Response::builder().status(400).body(Full::from("no upgrade")).unwrap());
    }
    assert!(!request.headers().contains_key(header::AUTHORIZATION));
    spawn("echo", async move {
        let mut io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        io.write_all(target.as_bytes()).await.unwrap();
        let mut byte = [0];
        while io.read(&mut byte).await.unwrap() > 0 {
            io.write_all(&byte).await.unwrap();
            io.flush().await.unwrap();
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1");
    Ok(response.body(Full::default()).unwrap())
}

async fn start_kubelet(authority: &Authority) -> SocketAddr {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(server_certificate(authority))));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    spawn("kubelet", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            spawn("kubelet connection", async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let http = hyper::server::conn::http1::Builder::new();
                let served = http.serve_connection(TokioIo::new(stream), service_fn(kubelet)).with_upgrades();
                // Clients hang up as they like.
                let _ = served.await;
            });
        }
    });
    address
}

pub struct World {
    pub group: Group,
    pub server: Arc<ApiServer>,
    pub authority: Authority,
    pub address: SocketAddr,
    pub kubelet: SocketAddr,
}

impl Drop for World {
    fn drop(&mut self) {
        self.group.shut_down();
    }
}

pub async fn world() -> World {
    world_with(|_| {}).await
}

pub async fn world_with(change: impl FnOnce(&mut Config)) -> World {
    let authority = Authority::create("test").unwrap();
    let kubelet = start_kubelet(&authority).await;
    let store = Arc::new(ModelStore::new(Clock::system()));
    let mut config = Config::new(store, nauplius_kinds::builtin(), Arc::new(Union::default()));
    config.authenticators = vec![Arc::new(Certificates)];
    config.kubelets =
        Some(KubeletDialer { tls: Arc::new(client_config(&authority, Some(("apiserver", "kubelet")))) });
    change(&mut config);
    let group = Group::new();
    let server = ApiServer::start(config, &group).await.unwrap();
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = serve::tls_config(server_tls(&authority), client_roots(&authority)).unwrap();
    group.spawn("listener", serve::serve(Arc::clone(&server), listener, tls));
    World { group, server, authority, address, kubelet }
}

pub fn over_tls(world: &World, user: Option<(&str, &str)>) -> Fixture {
    let endpoint = Endpoint {
        address: world.address,
        server_name: LOOPBACK.into(),
        tls: client_config(&world.authority, user),
        bearer_token: None,
    };
    Fixture::over(Arc::clone(&world.server), Arc::new(Https::new(endpoint).unwrap()))
}

#[tokio::test]
async fn certificates_identify_over_http_2() {
    let world = world().await;
    let admin = over_tls(&world, Some(("admin", "system:masters")));
    let map = json!({"metadata": {"name": "a"}});
    admin.post("/api/v1/namespaces/default/configmaps", &map).await.expect(201);
    let mut events = admin.watch("/api/v1/configmaps?watch=1&resourceVersion=0").await;
    assert!(events.line().await.starts_with("ADDED a@"));
    let nobody = over_tls(&world, None);
    let refused = nobody.get("/api/v1/namespaces/default/configmaps/a").await;
    assert_eq!(
        refused.refusal(),
        "403 configmaps \"a\" is forbidden: User \"system:anonymous\" cannot get resource \"configmaps\" in API group \
         \"\" in the namespace \"default\""
    );
    world.group.shut_down();
    assert_eq!(events.line().await, "END");
}

#[tokio::test]
async fn plain_http_is_told_so() {
    let world = world().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
    world.group.shut_down();
}

/// An administrator's connection that can be upgraded.
pub async fn http_1(world: &World) -> hyper::client::conn::http1::SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let admin = Some(("admin", "system:masters"));
    let mut config = client_config(&world.authority, admin);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TlsConnector::from(Arc::new(config)).connect(LOOPBACK.into(), stream).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    spawn("client", connection.with_upgrades());
    sender
}

pub async fn pod_on_node(world: &World, client: &Fixture) {
    let node = json!({"metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": world.kubelet.ip().to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": world.kubelet.port()}},
    }});
    client.post("/api/v1/nodes", &node).await.expect(201);
    client.put("/api/v1/nodes/n/status", &node).await.expect(200);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    client.post("/api/v1/namespaces/default/pods", &pod).await.expect(201);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    client.post("/api/v1/namespaces/default/pods/p/binding", &binding).await.expect(201);
}

#[tokio::test]
async fn logs_and_streams_come_from_the_kubelet() {
    let world = world().await;
    let admin = over_tls(&world, Some(("admin", "system:masters")));
    pod_on_node(&world, &admin).await;
    let log = admin.get("/api/v1/namespaces/default/pods/p/log?tailLines=3").await;
    assert_eq!(String::from_utf8_lossy(&log.bytes), "asked /containerLogs/default/p/c?tailLines=3\n");
    let pod = json!({"metadata": {"name": "waits"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    admin.post("/api/v1/namespaces/default/pods", &pod).await.expect(201);
    let log = admin.get("/api/v1/namespaces/default/pods/waits/log").await;
    assert_eq!((log.code.as_u16(), log.bytes.len()), (204, 0), "nothing was logged yet");
    let exec = admin.post("/api/v1/namespaces/default/pods/waits/exec?command=x", &json!({})).await;
    assert_eq!(exec.refusal(), "400 pod waits does not have a host assigned");
    let plain = admin
        .with_headers(Method::POST, "/api/v1/namespaces/default/pods/p/exec?command=x&stdout=1", &[], "")
        .await;
    assert_eq!(plain.refusal(), "400 Upgrade request required");

    let mut sender = http_1(&world).await;
    let request = Request::post("/api/v1/namespaces/default/pods/p/exec?command=echo&stdin=1&stdout=1")
        .header(header::HOST, "server")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header(header::AUTHORIZATION, "Bearer secret");
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        panic!("{:?}", response.into_body().collect().await.unwrap().to_bytes());
    }
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let expected = "/exec/default/p/c?input=1&output=1&command=echo";
    let mut said = vec![0; expected.len()];
    io.read_exact(&mut said).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&said), expected);
    io.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    io.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}

#[tokio::test]
async fn a_kubelet_that_nobody_vouches_for_is_believed_when_the_client_says_so() {
    let stranger = Authority::create("stranger").unwrap();
    let tls = Arc::new(client_config(&stranger, Some(("apiserver", "kubelet"))));
    let world = world_with(|config| config.kubelets = Some(KubeletDialer { tls })).await;
    let admin = over_tls(&world, Some(("admin", "system:masters")));
    pod_on_node(&world, &admin).await;
    let path = "/api/v1/namespaces/default/pods/p/log";
    let refused = admin.get(path).await;
    let begin = format!("500 Get \"https://{}/containerLogs/default/p/c\": ", world.kubelet);
    assert!(refused.refusal().starts_with(&begin), "{}", refused.refusal());
    let log = admin.get(&format!("{path}?insecureSkipTLSVerifyBackend=true")).await;
    assert_eq!(String::from_utf8_lossy(&log.bytes), "asked /containerLogs/default/p/c\n");
}
