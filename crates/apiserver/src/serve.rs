//! The listener: TLS with client certificates that are verified when they are sent, HTTP/2 and HTTP/1.1 with upgrades, bounds on
//! connections, headers and patience, and an end that lets requests finish. What a request means is not known here.

use crate::authn::PeerCertificates;
use crate::server::ApiServer;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use nauplius_base::task::{CancellationToken, spawn};
use nauplius_base::time::{sleep, timeout};
use nauplius_client::transport::Body;
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections at once; the next one waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 4_096;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take for the headers of a request, idle time before it included; upstream keeps idle connections so long.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);
/// Bytes of all headers of a request; upstream's limit.
const MAX_HEADER_BYTES: u32 = 1 << 20;
/// Requests at once on one HTTP/2 connection; upstream's limit.
const MAX_STREAMS: u32 = 250;
/// Bytes of an answer that wait in a stream whose client does not read, besides the piece that comes next.
const MAX_SEND_BYTES: usize = 32 << 10;
/// Bytes of bodies that a client may send before they are read, on a stream and on a connection.
const RECEIVE_WINDOW: u32 = 256 << 10;
/// Bytes of encrypted answers that wait in a connection whose client does not read.
const MAX_TLS_BYTES: usize = 32 << 10;
/// How often a quiet HTTP/2 connection is probed, and how long an answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How long requests may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(10);

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
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let shutdown = server.shutdown_token().clone();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let (permit, stream, address) = accepted;
        let (server, acceptor, shutdown) = (Arc::clone(&server), acceptor.clone(), shutdown.clone());
        spawn("connection", async move {
            if let Some(stream) = handshake(&acceptor, stream).await {
                talk(server, stream, address, &shutdown).await;
            }
            drop(permit);
        });
    }
    drop(listener);
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    // Connections that do not end in time end with the process.
    let _ = timeout(DRAIN, connections.acquire_many(all)).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    let permit = Arc::clone(connections).acquire_owned().await.expect("the semaphore is never closed");
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

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no delay could not be set");
    }
    match timeout(HANDSHAKE_TIMEOUT, encrypt(acceptor, stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// `None` for a client that speaks plain HTTP: it is told so.
async fn encrypt(
    acceptor: &TlsAcceptor,
    mut stream: TcpStream,
) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0; 5];
    let length = stream.peek(&mut first).await?;
    if length == first.len() && METHODS.contains(&&first) {
        stream.write_all(PLAIN_HTTP).await?;
        stream.shutdown().await?;
        // Closing with the request unread would reset the connection before the client has read the answer.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        return Ok(None);
    }
    let bounded = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(MAX_TLS_BYTES));
    acceptor.accept_with(stream, bounded).await.map(Some)
}

#[derive(Clone)]
struct Spawner;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, work: F) {
        spawn("http stream", work);
    }
}

fn builder() -> Builder<Spawner> {
    let mut builder = Builder::new(Spawner);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
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

async fn talk(
    server: Arc<ApiServer>,
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    shutdown: &CancellationToken,
) {
    let peer = peer_certificates(&stream);
    let service = service_fn(move |request: Request<Incoming>| {
        let server = Arc::clone(&server);
        let request = prepare(request, address, peer.clone());
        async move { Ok::<_, Infallible>(server.handle(request).await) }
    });
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

fn peer_certificates(stream: &TlsStream<TcpStream>) -> Option<PeerCertificates> {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates()?;
    Some(PeerCertificates(Arc::new(chain.iter().map(|certificate| certificate.to_vec()).collect())))
}

fn prepare(request: Request<Incoming>, address: SocketAddr, peer: Option<PeerCertificates>) -> Request<Body> {
    let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    request.extensions_mut().insert(RemoteAddress(address));
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    request
}
