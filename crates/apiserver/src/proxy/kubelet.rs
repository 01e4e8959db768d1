//! Connections to kubelets: where they listen, TLS both ways, one request each.

use super::dial::believing;
use crate::error::{ApiResult, unreadable};
use crate::registry::Scope;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use nauplius_base::errno;
use nauplius_base::task::spawn;
use nauplius_base::time::timeout;
use nauplius_client::transport::Body;
use nauplius_meta::error::{ApiError, generic_server_response};
use nauplius_meta::gvk::GroupResource;
use nauplius_meta::object;
use nauplius_streaming::{ConnectError, Forwarded, forward_upgrade};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where a kubelet listens unless its node says otherwise.
const DEFAULT_PORT: u16 = 10250;
/// How long a connection with its handshake may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a kubelet's refusal is passed on.
const MAX_REFUSAL_BYTES: usize = 2_000;

/// Why a kubelet could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// No connection.
    #[error("dial tcp {address}: {reason}")]
    Connect { address: SocketAddr, reason: String },
    /// It broke.
    #[error("{0}")]
    Http(String),
    /// The client asked for a stream without an upgrade.
    #[error("Upgrade request required")]
    NotAnUpgrade,
}

/// How to reach kubelets: our client certificate and the CA of their serving certificates.
#[derive(Clone)]
pub struct KubeletDialer {
    /// Client authentication and trust. Replaced by the wiring when certificates are renewed live through its resolver.
    pub tls: Arc<ClientConfig>,
}

/// Where one kubelet listens.
pub(super) struct Address(SocketAddr);

impl Address {
    /// The same as a socket address.
    pub(super) fn socket(&self) -> SocketAddr {
        self.0
    }
}

/// The address of a node's kubelet: a numeric InternalIP, Hostname or ExternalIP, for names cannot be looked up here.
pub(super) fn address(scope: &Scope, node: &str) -> ApiResult<Address> {
    let entry = scope.resource.caches.get("", "nodes", "", node);
    let node_object = entry
        .ok_or_else(|| ApiError::not_found(&GroupResource::new("", "nodes"), node))?
        .object()
        .map_err(unreadable)?;
    let addresses = object::get_array(&node_object, &["status", "addresses"]);
    let of_type = |wanted: &str| {
        let matching = addresses.iter().filter(move |address| address["type"] == wanted);
        matching.filter_map(|address| address["address"].as_str()?.parse::<IpAddr>().ok()).next()
    };
    let ip = ["InternalIP", "Hostname", "ExternalIP"].into_iter().find_map(of_type);
    let ip = ip.ok_or_else(|| {
        ApiError::internal(format!("no preferred addresses found; known addresses: {}", known(addresses)))
    })?;
    let port = object::get_i64(&node_object, &["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
    let port =
        port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(DEFAULT_PORT);
    Ok(Address(SocketAddr::new(ip, port)))
}

fn known(addresses: &[Value]) -> String {
    let texts: Vec<String> =
        addresses.iter().filter_map(|a| Some(a["address"].as_str()?.to_owned())).collect();
    format!("[{}]", texts.join(" "))
}

impl KubeletDialer {
    async fn dial(&self, address: &Address, unverified: bool) -> Result<TlsStream<TcpStream>, DialError> {
        let address = address.0;
        let tls = if unverified { Arc::new(believing(&self.tls)) } else { Arc::clone(&self.tls) };
        let failed = |reason: String| DialError::Connect { address, reason };
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::IpAddress(address.ip().into());
            TlsConnector::from(tls).connect(name, stream).await
        };
        match timeout(DIAL_TIMEOUT, connect).await {
            Ok(connected) => connected.map_err(|error| failed(super::dial::in_words(&error))),
            Err(_) => Err(failed("i/o timeout".to_owned())),
        }
    }

    /// Asks for `target`, when it must be so of whoever answers there; the body streams for as long as its reader wants.
    pub(super) async fn get(
        &self,
        address: &Address,
        target: &str,
        unverified: bool,
    ) -> Result<Response<Incoming>, DialError> {
        let http = |error: &dyn std::fmt::Display| DialError::Http(errno::plain(&error.to_string()));
        let stream = TokioIo::new(self.dial(address, unverified).await?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(|error| http(&error))?;
        spawn("log of a kubelet", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a kubelet ended");
            }
        });
        let request = Request::get(target)
            .header(http::header::HOST, address.0.to_string())
            .body(Empty::<Bytes>::new())
            .map_err(|error| http(&error))?;
        sender.send_request(request).await.map_err(|error| http(&error))
    }

    /// Passes an upgrade on. The client's credentials stay here.
    pub(super) async fn upgrade(
        &self,
        client: &Parts,
        address: &Address,
        target: &str,
        body: Body,
    ) -> Result<Forwarded, DialError> {
        let uri: Uri =
            target.parse().map_err(|error: http::uri::InvalidUri| DialError::Http(error.to_string()))?;
        let mut request = Request::from_parts(client.clone(), body);
        for name in ["authorization", "cookie"] {
            request.headers_mut().remove(name);
        }
        if !nauplius_streaming::is_upgrade_request(request.headers()) {
            return Err(DialError::NotAnUpgrade);
        }
        let backend = self.dial(address, false).await?;
        let host = address.0.to_string();
        forward_upgrade(&mut request, backend, uri, &host, &HeaderMap::new()).await.map_err(|error| {
            match error {
                ConnectError::NotAnUpgrade => DialError::NotAnUpgrade,
                other => DialError::Http(other.to_string()),
            }
        })
    }
}

/// A kubelet's refusal of a log as upstream passes it on: without a verb.
pub(super) async fn refusal(response: Response<Incoming>, name: &str) -> ApiError {
    let resource = GroupResource::new("", "pods/log");
    let code = response.status().as_u16();
    let text = match Limited::new(response.into_body(), MAX_REFUSAL_BYTES).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        // The code says enough.
        Err(_) => String::new(),
    };
    match code {
        500 => ApiError::InternalError(text),
        400 => ApiError::BadRequest(text),
        code => ApiError::from(generic_server_response(code, "", &resource, name, &text, 0, false)),
    }
}
