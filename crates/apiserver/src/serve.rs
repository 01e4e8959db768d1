//! The listener: TLS with client certificates that are verified when they are sent, HTTP/2 and HTTP/1.1 with upgrades, bounds on
//! connections, headers and patience, and an end that lets requests finish. What a request means is not known here.

mod activity;
mod remainder;
mod streams;

use crate::authn::PeerCertificates;
use crate::respond::Reply;
use crate::server::ApiServer;
use crate::tls_stream::{Driven, TlsStream};
use activity::{Activity, Answer, Noted};
use http::header::CONTENT_LENGTH;
use http::{Method, Request};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use nauplius_base::task::spawn;
use nauplius_base::time::{sleep, timeout};
use nauplius_client::transport::{Body, empty};
use remainder::Unhurried;
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
pub(crate) use streams::Follows;
use streams::{Followers, Starter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Bounds of what clients may hold without a request of theirs being answered.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; the next one waits in the kernel's queue until one of them ends.
    pub connections: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long the headers of a request may take from their first byte on; upstream's `ReadHeaderTimeout`.
    pub headers: Duration,
    /// How long a connection may be idle; upstream's `IdleTimeout`.
    pub idle: Duration,
    /// The same when there are as many connections as there may be.
    pub pressed: Duration,
    /// How long answers may take to reach their clients after the last request was answered, when the server ends.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 4_096,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            pressed: Duration::from_secs(3),
            drain: Duration::from_secs(10),
        }
    }
}

/// How long a connection that must end may take to say so.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes of all headers of a request; upstream's limit.
const MAX_HEADER_BYTES: u32 = 1 << 20;
/// Headers of one HTTP/1.1 request: enough for someone who acts for the member of a thousand groups.
const MAX_HEADERS: usize = 2_048;
/// Requests at once on one HTTP/2 connection; upstream's limit.
const MAX_STREAMS: u32 = 250;
/// Bytes of an answer that wait in a stream whose client does not read, besides the piece that comes next.
const MAX_SEND_BYTES: usize = 32 << 10;
/// Bytes of bodies that a client may send before they are read, on a stream and on a connection.
const RECEIVE_WINDOW: u32 = 256 << 10;
/// How often a quiet HTTP/2 connection is probed, and how long an answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// What clients of plain HTTP are told; the words are those of Go's server.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
/// What requests without TLS begin with; what is looked for by Go's server.
const METHODS: [&[u8; 5]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];

/// Where a request came from; in the extensions of requests from listeners.
#[derive(Debug, Clone, Copy)]
pub struct RemoteAddress(pub SocketAddr);

/// TLS for the listener: the certificate comes from `resolver`, client certificates must be of `client_roots` when one is sent.
///
/// # Errors
/// When there are no usable roots.
pub fn tls_config(
    resolver: Arc<dyn ResolvesServerCert>,
    client_roots: RootCertStore,
) -> Result<ServerConfig, rustls::server::VerifierBuilderError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(client_roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts connections until the server's shutdown, then lets requests finish.
///
/// # Errors
/// Never; a connection that cannot be accepted is tried again.
pub async fn serve(
    server: Arc<ApiServer>,
    listener: TcpListener,
    tls: ServerConfig,
) -> Result<(), Infallible> {
    serve_within(server, listener, tls, Bounds::default()).await
}

/// The same within other bounds.
///
/// # Errors
/// Never.
pub async fn serve_within(
    server: Arc<ApiServer>,
    listener: TcpListener,
    tls: ServerConfig,
    bounds: Bounds,
) -> Result<(), Infallible> {
    let shared = Arc::new(Shared {
        acceptor: TlsAcceptor::from(Arc::new(tls)),
        connections: Arc::new(Semaphore::new(bounds.connections)),
        pressed: watch::Sender::new(false),
        server,
        bounds,
    });
    let shutdown = shared.server.shutdown_token().clone();
    loop {
        let (permit, stream, address) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &shared) => accepted,
        };
        let shared = Arc::clone(&shared);
        spawn("connection", async move {
            if let Some((stream, session)) = handshake(&shared, stream).await {
                talk(&shared, stream, session, address).await;
            }
            drop(permit);
        });
    }
    drop(listener);
    shared.server.drained().cancelled().await;
    let all = u32::try_from(bounds.connections).unwrap_or(u32::MAX);
    // Connections that do not end in time end with the process.
    let _ = timeout(bounds.drain, Arc::clone(&shared.connections).acquire_many_owned(all)).await;
    Ok(())
}

/// What all connections of a listener share.
struct Shared {
    server: Arc<ApiServer>,
    acceptor: TlsAcceptor,
    connections: Arc<Semaphore>,
    /// Whether there are as many connections as there may be.
    pressed: watch::Sender<bool>,
    bounds: Bounds,
}

impl Shared {
    /// Room for a connection. While there is little, those that are idle have less patience.
    async fn room(&self) -> OwnedSemaphorePermit {
        let free = self.connections.available_permits();
        let pressed = free == 0 || (*self.pressed.borrow() && free <= self.bounds.connections / 8);
        self.pressed.send_if_modified(|was| std::mem::replace(was, pressed) != pressed);
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }
}

async fn accept(listener: &TcpListener, shared: &Shared) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    let permit = shared.room().await;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (permit, stream, address),
            Err(error) => {
                // Out of descriptors, or the peer was gone already: neither is a reason to stop listening.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn handshake(shared: &Shared, stream: TcpStream) -> Option<(TcpStream, ServerConnection)> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no delay could not be set");
    }
    let error = match timeout(shared.bounds.handshake, encrypt(&shared.acceptor, stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    tracing::debug!(%error, "a TLS handshake failed");
    shared.server.metrics.handshake_errors.increment();
    None
}

/// A client that speaks plain HTTP is told so, which is a failure, too.
async fn encrypt(
    acceptor: &TlsAcceptor,
    mut stream: TcpStream,
) -> std::io::Result<(TcpStream, ServerConnection)> {
    let mut first = [0; 5];
    let length = stream.peek(&mut first).await?;
    if length == first.len() && METHODS.contains(&&first) {
        stream.write_all(PLAIN_HTTP).await?;
        stream.shutdown().await?;
        // Closing with the request unread would reset the connection before the client has read the answer.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        return Err(std::io::Error::other("client sent an HTTP request to an HTTPS server"));
    }
    Ok(acceptor.accept(stream).await?.into_inner())
}

fn builder(starter: Starter) -> Builder<Starter> {
    let mut builder = Builder::new(starter);
    builder
        .http1()
        .timer(TokioTimer::new())
        // What is slow or idle is ended here, not there.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES as usize)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(MAX_SEND_BYTES)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn talk(shared: &Arc<Shared>, stream: TcpStream, session: ServerConnection, address: SocketAddr) {
    let peer = peer_certificates(&session);
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let activity = Activity::new(!is_http2);
    let service = service_fn(|request: Request<Incoming>| {
        let (server, busy) = (Arc::clone(&shared.server), activity.begin());
        let head_only = is_http2 && request.method() == Method::HEAD;
        let request = prepare(request, is_http2, address, peer.clone());
        async move {
            let mut reply = server.handle(request).await;
            if head_only {
                reply = without_body(reply);
            }
            if reply.extensions().get::<Follows>().is_some() {
                streams::follow();
            }
            Ok::<_, Infallible>(reply.map(|body| Answer::new(body, busy)))
        }
    });
    let (mut followers, starter) = Followers::new();
    let builder = builder(starter);
    let (stream, cork) = TlsStream::new(stream, session);
    let stream = TokioIo::new(Noted::new(stream, Arc::clone(&activity)));
    let turn = move |cx: &mut Context<'_>| followers.poll(cx);
    let mut driven = Driven::new(cork, turn, builder.serve_connection_with_upgrades(stream, service));
    let shutdown = shared.server.shutdown_token();
    let ended = tokio::select! {
        ended = &mut driven => Some(ended),
        () = shutdown.cancelled() => None,
        () = activity.spent(&shared.bounds, shared.pressed.subscribe()) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            if let Some(connection) = driven.connection() {
                connection.graceful_shutdown();
            }
            tokio::select! {
                ended = driven => ended,
                // A client that does not take the farewell is left.
                () = left(&activity, &shared.bounds) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Waits until a connection that is to end has had its time.
async fn left(activity: &Activity, bounds: &Bounds) {
    let (_, pressed) = watch::channel(true);
    activity.spent(bounds, pressed).await;
    sleep(FAREWELL).await;
}

/// The answer to a HEAD: over HTTP/2 nobody else takes the body away, and clients take one for a breach of the protocol.
fn without_body(reply: Reply) -> Reply {
    let length = reply.body().size_hint().exact();
    let mut reply = reply.map(|_| empty());
    if let Some(length) = length {
        reply.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    reply
}

fn peer_certificates(session: &ServerConnection) -> Option<PeerCertificates> {
    let chain = session.peer_certificates()?;
    Some(PeerCertificates::new(chain.iter().map(|certificate| certificate.to_vec()).collect()))
}

fn prepare(
    request: Request<Incoming>,
    is_http2: bool,
    address: SocketAddr,
    peer: Option<PeerCertificates>,
) -> Request<Body> {
    let mut request = request.map(|body| match is_http2 {
        true if !body.is_end_stream() => Unhurried::new(body).boxed_unsync(),
        _ => body.map_err(Into::into).boxed_unsync(),
    });
    request.extensions_mut().insert(RemoteAddress(address));
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    request
}
