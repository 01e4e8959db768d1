//! The HTTP client against a small registry on loopback: plain and TLS, basic and token authentication, redirects, ranges.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nauplius_base::task;
use nauplius_images::{Auth, Digest, HostConfig, ImageError, ImageStore, Registries, Retries};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use crate::fake::{FakeRegistry, quick};
use crate::fixture::{self, Compression, LayerBuilder, Made, image, reference};

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Login {
    #[default]
    None,
    Basic,
    Token,
}

#[derive(Default)]
struct Server {
    content: FakeRegistry,
    login: Login,
    address: Mutex<String>,
    scheme: &'static str,
    /// How many of the next requests fail with 503.
    unavailable: AtomicUsize,
    /// Blobs are elsewhere.
    redirects: bool,
    /// How many of the next blob answers stop in the middle.
    cuts: AtomicUsize,
    seen: Mutex<Vec<String>>,
}

fn take(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}

type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, body: impl Into<Bytes>) -> http::response::Builder {
    let _: Bytes = body.into();
    Response::builder().status(status)
}

fn refuse(status: StatusCode, code: &str) -> Answer {
    let body = serde_json::json!({"errors": [{"code": code, "message": "because"}]}).to_string();
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

impl Server {
    fn base(&self) -> String {
        format!("{}://{}", self.scheme, self.address.lock().unwrap())
    }

    fn is_allowed(&self, request: &Request<Incoming>) -> bool {
        let given =
            request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        match self.login {
            Login::None => true,
            Login::Basic => given == basic(),
            Login::Token => given == "Bearer good",
        }
    }

    fn challenge(&self) -> String {
        match self.login {
            Login::Token => {
                format!(r#"Bearer realm="{}/token",service="test",scope="repository:a/b:pull""#, self.base())
            }
            _ => r#"Basic realm="test""#.to_owned(),
        }
    }

    fn handle(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        self.seen.lock().unwrap().push(path.clone());
        if take(&self.unavailable) {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE");
        }
        if path == "/token" {
            return self.token(request);
        }
        let elsewhere = path.strip_prefix("/elsewhere/");
        if elsewhere.is_none() && !self.is_allowed(request) {
            let mut refused = refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
            refused.headers_mut().insert("www-authenticate", self.challenge().parse().unwrap());
            return refused;
        }
        if let Some(by) = path.strip_prefix("/v2/a/b/manifests/") {
            let Some((kind, body)) = self.content.manifest_bytes(by) else {
                return refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
            };
            return Response::builder().header("content-type", kind).body(Full::new(body)).unwrap();
        }
        match elsewhere.or_else(|| path.strip_prefix("/v2/a/b/blobs/")) {
            Some(digest) if self.redirects && elsewhere.is_none() => {
                // Another authority: the credentials must not come along.
                let location =
                    format!("{}/elsewhere/{digest}", self.base().replace("127.0.0.1", "localhost"));
                answer(StatusCode::TEMPORARY_REDIRECT, "")
                    .header("location", location)
                    .body(Full::default())
                    .unwrap()
            }
            Some(digest) => self.blob(request, &digest.parse().unwrap()),
            None => refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        }
    }

    fn token(&self, request: &Request<Incoming>) -> Answer {
        let query = request.uri().query().unwrap_or_default();
        let allowed = request.headers().get("authorization").is_some_and(|value| value == basic().as_str());
        if !allowed || !query.contains("service=test") || !query.contains("scope=repository%3Aa%2Fb%3Apull") {
            return refuse(StatusCode::UNAUTHORIZED, "DENIED");
        }
        Response::new(Full::new(Bytes::from_static(br#"{"token":"good"}"#)))
    }

    fn blob(&self, request: &Request<Incoming>, digest: &Digest) -> Answer {
        if self.redirects {
            assert!(!request.headers().contains_key("authorization"));
        }
        let Some(bytes) = self.content.blob_bytes(digest) else {
            return refuse(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
        };
        let range = request.headers().get("range").map(|value| value.to_str().unwrap().to_owned());
        if let Some(range) = range {
            let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
            let content_range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            self.seen.lock().unwrap().push(format!("range {from}"));
            let body = Full::new(bytes.slice(from..));
            return Response::builder()
                .status(206)
                .header("content-range", content_range)
                .body(body)
                .unwrap();
        }
        let mut body = bytes.clone();
        if bytes.len() > 2000 && take(&self.cuts) {
            body.truncate(2000);
        }
        Response::new(Full::new(body))
    }
}

fn basic() -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("user:pass"))
}

async fn serve(server: Arc<Server>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = server.handle(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    // Clients hang up when they have what they want.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

struct Running {
    server: Arc<Server>,
    task: tokio::task::JoinHandle<()>,
    ca_pem: String,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn tls() -> (tokio_rustls::TlsAcceptor, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config).into(), certified.cert.pem())
}

async fn start(mut server: Server, with_tls: bool, made: &Made) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    server.scheme = if with_tls { "https" } else { "http" };
    server.content.add(made);
    *server.address.lock().unwrap() = address.clone();
    let server = Arc::new(server);
    let (acceptor, ca_pem) = tls();
    let shared = Arc::clone(&server);
    let task = task::spawn("registry", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (server, acceptor) = (Arc::clone(&shared), acceptor.clone());
            task::spawn("registry client", async move {
                if !with_tls {
                    return serve(server, stream).await;
                }
                // A client that does not trust the certificate hangs up: that is a test.
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(server, stream).await;
                }
            });
        }
    });
    Running { server, task, ca_pem, address }
}

fn made() -> Made {
    let content = "0123456789abcdef".repeat(2000);
    image("1", &[LayerBuilder::new().file("a", &content).build()], Compression::Plain)
}

fn user(password: &str) -> Auth {
    Auth::Basic { username: "user".into(), password: password.into() }
}

async fn pull(
    running: &Running,
    tag: &str,
    auth: Option<&Auth>,
    config: HostConfig,
) -> Result<(), ImageError> {
    let root = fixture::directory();
    let store: ImageStore = fixture::store(root.path()).await;
    let hosts = BTreeMap::from([(running.address.clone(), config)]);
    // Nothing stalls here, and a busy machine is no stall.
    let retries = Retries { stall: Duration::from_secs(30), ..quick() };
    let registries = Registries::new(hosts, retries);
    let name = reference(&format!("{}/a/b:{tag}", running.address));
    let image = store.pull(&name, auth, &registries, |_| {}).await?;
    assert!(store.layers(&image.id).unwrap()[0].join("a").exists());
    fixture::assert_no_leftovers(root.path());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_on_loopback_needs_no_configuration() {
    let running = start(Server::default(), false, &made()).await;
    pull(&running, "1", None, HostConfig::default()).await.unwrap();
    pull(&running, "1", None, HostConfig { plain_http: true, ..HostConfig::default() }).await.unwrap();
    let missing = pull(&running, "none", None, HostConfig::default()).await.unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_needs_a_trusted_certificate() {
    let running = start(Server::default(), true, &made()).await;
    let trusted = HostConfig { ca_pem: Some(running.ca_pem.clone().into_bytes()), ..HostConfig::default() };
    pull(&running, "1", None, trusted).await.unwrap();
    let error = pull(&running, "1", None, HostConfig::default()).await.unwrap_err();
    assert!(error.is_registry_unavailable(), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    let nonsense = HostConfig { ca_pem: Some(b"x".to_vec()), ..HostConfig::default() };
    assert!(pull(&running, "1", None, nonsense).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_used_as_challenged() {
    for (login, with_tls) in
        [(Login::Basic, true), (Login::Token, true), (Login::Basic, false), (Login::Token, false)]
    {
        let running = start(Server { login, ..Server::default() }, with_tls, &made()).await;
        let ca_pem = with_tls.then(|| running.ca_pem.clone().into_bytes());
        let config = HostConfig { ca_pem, ..HostConfig::default() };
        pull(&running, "1", Some(&user("pass")), config.clone()).await.unwrap();
        let configured = HostConfig { auth: Some(user("pass")), ..config.clone() };
        pull(&running, "1", None, configured).await.unwrap();
        for wrong in [None, Some(user("wrong"))] {
            let error = pull(&running, "1", wrong.as_ref(), config.clone()).await.unwrap_err();
            assert!(error.is_unauthorized(), "{error}");
            assert!(
                error
                    .to_string()
                    .contains("pull access denied, repository does not exist or may require authorization: "),
                "{error}"
            );
            assert!(!error.to_string().contains("wrong"), "{error}");
        }
    }
    let running = start(Server { login: Login::Token, ..Server::default() }, false, &made()).await;
    pull(&running, "1", Some(&Auth::RegistryToken("good".into())), HostConfig::default()).await.unwrap();
    pull(&running, "1", Some(&user("pass")), HostConfig::default()).await.unwrap();
    let tokens = running.server.seen.lock().unwrap().iter().filter(|path| *path == "/token").count();
    assert_eq!(tokens, 1, "a token serves the whole pull");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_lose_credentials_and_failures_are_retried() {
    let server = Server { login: Login::Basic, redirects: true, cuts: 0.into(), ..Server::default() };
    let running = start(server, false, &made()).await;
    running.server.unavailable.store(2, Ordering::SeqCst);
    pull(&running, "1", Some(&user("pass")), HostConfig::default()).await.unwrap();
    running.server.unavailable.store(100, Ordering::SeqCst);
    let error = pull(&running, "1", Some(&user("pass")), HostConfig::default()).await.unwrap_err();
    assert!(error.is_registry_unavailable(), "{error}");
    let address = running.server.base();
    let expected = format!(
        "unexpected status from GET request to {address}/v2/a/b/manifests/1: 503 Service Unavailable: UNAVAILABLE: because"
    );
    assert!(error.to_string().ends_with(&expected), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_answer_is_completed_by_a_range() {
    let running = start(Server { cuts: 1.into(), ..Server::default() }, false, &made()).await;
    pull(&running, "1", None, HostConfig::default()).await.unwrap();
    assert!(running.server.seen.lock().unwrap().contains(&"range 2000".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_plainly() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let registries = Registries::new(BTreeMap::new(), quick());
    let error =
        store.pull(&reference(&format!("{address}/a:1")), None, &registries, |_| {}).await.unwrap_err();
    assert!(error.is_registry_unavailable());
    let name = format!("{address}/a:1");
    let expected = format!(
        "failed to pull and unpack image {name:?}: failed to resolve reference {name:?}: failed to do request: \
         Get \"https://{address}/v2/a/manifests/1\": dial tcp {address}: connect: connection refused"
    );
    assert_eq!(error.to_string(), expected);
}
