//! The light client: HTTP/2 over TLS, a few connections shared by all clients, bodies counted and thrown away.

use crate::error::BenchError;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nauplius_base::lookup;
use nauplius_base::task::spawn;
use nauplius_base::time::timeout;
use nauplius_client::kubeconfig;
use nauplius_pki::TlsParts;
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::TcpStream;

/// Clients that share a connection: servers allow about this many streams.
pub const STREAMS: usize = 100;
/// How long an answer and each piece of its body may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Flow control windows as Go's client has them: a stream's and a connection's.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Bytes that a connection reads at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes of a refusal that are told.
const MAX_QUOTED: usize = 300;

/// The server and who we are there.
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    authority: String,
    server_name: ServerName<'static>,
    bearer: Option<HeaderValue>,
    tls: tokio_rustls::TlsConnector,
}

impl Target {
    /// Reads a kubeconfig and finds the server's address.
    pub async fn load(path: &Path, context: Option<&str>) -> Result<Self, BenchError> {
        let entry = kubeconfig::load(path, context)?;
        let credentials = |reason: String| BenchError::Credentials { path: path.to_owned(), reason };
        let authority = entry.server.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
        let authority =
            authority.ok_or_else(|| credentials(format!("{:?} is no https URL", entry.server)))?;
        let uri: http::Uri = entry.server.parse().map_err(|error| credentials(format!("{error}")))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let connect = |reason: String| BenchError::Connect { address: authority.to_owned(), reason };
        let port = uri.port_u16().unwrap_or(443);
        let found = lookup::resolve(&host).await.map_err(|error| connect(error.to_string()))?;
        let address = found.first().map(|ip| SocketAddr::new(*ip, port));
        let address = address.ok_or_else(|| connect("its name has no address".to_owned()))?;
        let tls = tls(&entry).map_err(credentials)?;
        let server_name = ServerName::try_from(host).map_err(|error| credentials(error.to_string()))?;
        let bearer = bearer(&entry.token).map_err(credentials)?;
        let tls = tokio_rustls::TlsConnector::from(Arc::new(tls));
        Ok(Self { address, authority: authority.to_owned(), server_name, bearer, tls })
    }

    async fn dial(&self, window: u32) -> Result<SendRequest<Full<Bytes>>, BenchError> {
        let failed = |reason: String| BenchError::Connect { address: self.authority.clone(), reason };
        let tcp = TcpStream::connect(self.address).await.map_err(|error| failed(error.to_string()))?;
        tcp.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        // TLS reads 4 KiB at a time; the system is asked for more.
        let tcp = BufReader::with_capacity(READ_BYTES, tcp);
        let tls = self.tls.connect(self.server_name.clone(), tcp).await;
        let tls = tls.map_err(|error| failed(error.to_string()))?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|error| failed(error.to_string()))?;
        // Its end shows in the requests that it carried.
        spawn("bench-connection", async move { drop(connection.await) });
        Ok(sender)
    }

    /// Connections for so many clients.
    pub async fn connect(&self, clients: usize) -> Result<Wire, BenchError> {
        self.connect_with(clients, STREAM_WINDOW).await
    }

    /// Connections whose streams take no more than `window` bytes before they are read.
    pub async fn connect_with(&self, clients: usize, window: u32) -> Result<Wire, BenchError> {
        let mut senders = Vec::new();
        for _ in 0..clients.div_ceil(STREAMS) {
            senders.push(self.dial(window).await?);
        }
        Ok(Wire { senders, authority: self.authority.clone(), bearer: self.bearer.clone() })
    }
}

fn tls(entry: &kubeconfig::Entry) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let bundle = TlsParts::certificates(&entry.certificate_authority).map_err(|error| error.to_string())?;
    for certificate in bundle {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let mut provider = rustls::crypto::ring::default_provider();
    // Go's order on processors that have AES; servers follow the client's.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = if entry.client_certificate.is_empty() {
        builder.with_no_client_auth()
    } else {
        let own = TlsParts::from_pem(&entry.client_certificate, &entry.client_key)
            .map_err(|error| error.to_string())?;
        builder.with_client_auth_cert(own.chain, own.key).map_err(|error| error.to_string())?
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn bearer(token: &str) -> Result<Option<HeaderValue>, String> {
    if token.is_empty() {
        return Ok(None);
    }
    HeaderValue::from_str(&format!("Bearer {token}")).map(Some).map_err(|error| error.to_string())
}

/// Open connections.
pub struct Wire {
    senders: Vec<SendRequest<Full<Bytes>>>,
    authority: String,
    bearer: Option<HeaderValue>,
}

/// A request in the making.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// `Accept`, if any.
    pub accept: Option<&'static str>,
    /// `Content-Type`, if any.
    pub content_type: Option<&'static str>,
    /// Whether the answer may be compressed.
    pub gzip: bool,
    /// The body; empty for none.
    pub body: String,
}

impl Ask {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, "")
    }

    /// A request with a JSON body.
    pub fn new(method: Method, path: impl Into<String>, body: impl Into<String>) -> Self {
        let body = body.into();
        let content_type = (!body.is_empty()).then_some("application/json");
        Self { method, path: path.into(), accept: None, content_type, gzip: false, body }
    }

    fn described(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Wire {
    /// Sends a request as `client` and returns the answer's head, whatever it says.
    pub async fn send(&self, client: usize, ask: &Ask) -> Result<Response<Incoming>, BenchError> {
        let broken = |reason: String| BenchError::Broken { request: ask.described(), reason };
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(format!("https://{}{}", self.authority, ask.path))
            .header(header::USER_AGENT, "nauplius-bench");
        let text = [(header::ACCEPT, ask.accept), (header::CONTENT_TYPE, ask.content_type)];
        for (name, value) in text.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            request = request.header(name, value);
        }
        if ask.gzip {
            request = request.header(header::ACCEPT_ENCODING, "gzip");
        }
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer.clone());
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(ask.body.as_bytes())))
            .map_err(|error| broken(error.to_string()))?;
        let mut sender = self.senders[(client / STREAMS) % self.senders.len()].clone();
        let answer = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        match timeout(PATIENCE, answer).await {
            Ok(answer) => answer.map_err(|error| broken(error.to_string())),
            Err(_) => Err(broken("no answer in time".to_owned())),
        }
    }

    /// Sends a request that must succeed; its body is counted and thrown away.
    pub async fn ok(&self, client: usize, ask: &Ask) -> Result<u64, BenchError> {
        let answer = self.good(client, ask).await?;
        let mut body = answer.into_body();
        let mut received = 0;
        while let Some(data) = piece(&mut body, ask).await? {
            received += data.len() as u64;
        }
        Ok(received)
    }

    /// Sends a request that must succeed; its body is read whole.
    pub async fn text(&self, client: usize, ask: &Ask) -> Result<String, BenchError> {
        let answer = self.good(client, ask).await?;
        let (mut body, mut text) = (answer.into_body(), Vec::new());
        while let Some(data) = piece(&mut body, ask).await? {
            text.extend_from_slice(&data);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The answer's head, if it is a good one.
    pub async fn good(&self, client: usize, ask: &Ask) -> Result<Response<Incoming>, BenchError> {
        let answer = self.send(client, ask).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let code = answer.status().as_u16();
        let (mut body, mut text) = (answer.into_body(), Vec::new());
        while let Some(data) = piece(&mut body, ask).await? {
            text.extend_from_slice(&data[..data.len().min(MAX_QUOTED.saturating_sub(text.len()))]);
        }
        let message = String::from_utf8_lossy(&text).into_owned();
        Err(BenchError::Refused { request: ask.described(), code, message })
    }
}

/// The next piece of a body.
pub async fn piece(body: &mut Incoming, ask: &Ask) -> Result<Option<Bytes>, BenchError> {
    let late =
        || BenchError::Broken { request: ask.described(), reason: "its body does not go on".to_owned() };
    timeout(PATIENCE, patient_piece(body, ask)).await.unwrap_or_else(|_| Err(late()))
}

/// The same for who has a deadline for all pieces together: a timer for each costs more than a small piece.
pub async fn patient_piece(body: &mut Incoming, ask: &Ask) -> Result<Option<Bytes>, BenchError> {
    loop {
        let Some(frame) = body.frame().await else { return Ok(None) };
        let broken = |reason: String| BenchError::Broken { request: ask.described(), reason };
        // Trailers carry nothing that is measured.
        if let Ok(data) = frame.map_err(|error| broken(error.to_string()))?.into_data() {
            return Ok(Some(data));
        }
    }
}
