//! The listener: TLS with client certificates that are verified when they are sent, HTTP/1.1 with upgrades, bounds on connections and
//! patience. What a request means is not known here.

use super::{Peer, Server};
use crate::config::Config;
use crate::error::KubeletError;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nauplius_base::task::{CancellationToken, spawn};
use nauplius_base::time::{sleep, timeout};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

/// Connections at once; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take for its headers, idle time before them included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A socket that listens and does not serve yet.
pub struct Listener {
    socket: TcpListener,
    acceptor: TlsAcceptor,
    /// The port it got.
    pub port: u16,
}

fn tls(config: &Config) -> Result<ServerConfig, KubeletError> {
    let said = |error: &dyn std::fmt::Display| KubeletError::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    for authority in &config.client_ca {
        roots.add(authority.clone()).map_err(|error| said(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| said(&error))?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| said(&error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&config.serving));
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// Takes the port, on every address.
///
/// # Errors
/// When it is taken, or the certificate is no good.
pub async fn listen(config: &Config) -> Result<Listener, KubeletError> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(config)?));
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), config.port);
    let failed = |source| KubeletError::Listen { port: config.port, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let port = socket.local_addr().map_err(failed)?.port();
    Ok(Listener { socket, acceptor, port })
}

impl Listener {
    /// Serves until shutdown.
    ///
    /// # Errors
    /// Never; a connection that cannot be accepted is tried again.
    pub async fn serve(self, server: Arc<Server>, shutdown: CancellationToken) -> Result<(), Infallible> {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Some(permit) = shutdown.run_until_cancelled(Arc::clone(&connections).acquire_owned()).await
        {
            let Some(accepted) = shutdown.run_until_cancelled(self.socket.accept()).await else { break };
            match (accepted, permit) {
                (Ok((stream, _)), Ok(permit)) => {
                    let connection = connection(Arc::clone(&server), self.acceptor.clone(), stream, permit);
                    let token = shutdown.clone();
                    spawn("kubelet-connection", async move { token.run_until_cancelled(connection).await });
                }
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection to the kubelet could not be accepted");
                    sleep(ACCEPT_RETRY).await;
                }
                (_, Err(_)) => break, // The semaphore is never closed.
            }
        }
        Ok(())
    }
}

async fn connection(
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
) {
    // Small writes of terminals must not wait; a socket that refuses the option is only slower.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake with the kubelet failed"),
        Err(_) => return,
    };
    let certificate =
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
    let peer = Peer { certificate };
    let service = service_fn(move |request| {
        let (server, peer) = (Arc::clone(&server), peer.clone());
        async move { Ok::<_, Infallible>(server.answer(&peer, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection to the kubelet ended");
    }
}
