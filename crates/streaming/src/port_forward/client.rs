//! The client's side, over a transport that it is given: each forwarded connection is a pair of streams.

use super::server::carried;
use super::{DATA, ERROR, PORT, PORT_FORWARD_V1, REQUEST_ID, STREAM_TYPE, TUNNELED_V1};
use crate::byte_stream::{ByteReader, Duplex};
use crate::spdy::{Connection, Headers, Opener, Role};
use crate::websocket::Side;
use crate::{ConnectError, StreamError, Target, Timeouts, connect};
use http::Method;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// How much of a server's reason is read.
const MAX_ERROR_BYTES: u64 = 16 * 1024;

/// What carries the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortForwardTransport {
    /// SPDY inside a WebSocket.
    WebSocket,
    /// SPDY.
    Spdy,
}

/// Forwards connections.
pub struct PortForwardClient {
    opener: Opener,
    next_request: AtomicU32,
}

/// One forwarded connection.
pub struct ForwardedPort {
    /// What goes through.
    pub data: Duplex,
    error: ByteReader,
}

impl ForwardedPort {
    /// Waits for the server's word on the connection: a reason when it failed, nothing when all is well.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn error(&mut self) -> Result<Option<String>, StreamError> {
        let mut reason = Vec::new();
        (&mut self.error).take(MAX_ERROR_BYTES).read_to_end(&mut reason).await?;
        Ok((!reason.is_empty()).then(|| String::from_utf8_lossy(&reason).into_owned()))
    }
}

/// Asks a server to forward ports over a transport.
///
/// # Errors
/// [`ConnectError`] when the server refuses or the connection fails.
pub async fn connect_port_forward<T>(
    io: T,
    target: Target,
    transport: PortForwardTransport,
) -> Result<PortForwardClient, ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let timeouts = connect::timeouts();
    let connection = match transport {
        PortForwardTransport::Spdy => {
            let (io, _) = connect::spdy(io, target, Method::POST, &[PORT_FORWARD_V1]).await?;
            Connection::start(io, Role::Client, timeouts)
        }
        PortForwardTransport::WebSocket => {
            let (io, _) = connect::websocket(io, target, &[TUNNELED_V1]).await?;
            let carrier = carried(io, Side::Client, timeouts)?;
            Connection::start(carrier, Role::Client, Timeouts { ping: None, ..timeouts })
        }
    };
    Ok(PortForwardClient { opener: connection.opener(), next_request: AtomicU32::new(0) })
}

impl PortForwardClient {
    /// Opens a connection to a port.
    ///
    /// # Errors
    /// [`StreamError`] when the server rejects it or the connection has ended.
    pub async fn open(&self, port: u16) -> Result<ForwardedPort, StreamError> {
        let (request, port) =
            (self.next_request.fetch_add(1, Ordering::Relaxed).to_string(), port.to_string());
        let open = |kind| {
            let headers = Headers::new(&[(STREAM_TYPE, kind), (PORT, &port), (REQUEST_ID, &request)]);
            self.opener.open(headers)
        };
        let error = open(ERROR).await?;
        // Nothing is ever sent on the error stream: it is finished by the drop of its writer, as upstream's clients do.
        let error = error.io.reader;
        let data = open(DATA).await?;
        Ok(ForwardedPort { data: data.io, error })
    }
}
