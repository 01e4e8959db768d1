//! Streams over one connection, for servers and clients: SPDY/3.1, the WebSocket channel protocols, SPDY inside WebSocket,
//! and plain tunnels; on top of them the two things that Kubernetes streams: remote commands and forwarded ports.
//!
//! This crate never knows what flows through, who may ask for it, or which container is at the other end. It opens no
//! sockets: it is given an HTTP request to upgrade, or bytes to speak over.

mod byte_stream;
mod connect;
mod error;
mod outbox;
mod port_forward;
mod quiet;
mod remote_command;
mod spdy;
mod tunnel;
mod upgrade;
mod websocket;

pub use byte_stream::{ByteReader, ByteWriter, Duplex};
pub use connect::Target;
pub use error::{ConnectError, Refusal, StreamError};
pub use port_forward::{
    ErrorSender, ForwardedPort, PortForwardClient, PortForwardOptions, PortForwardSession, PortForwardStream,
    PortForwardTransport, accept_port_forward, connect_port_forward,
};
pub use remote_command::{
    Outcome, OutcomeReader, OutcomeSender, RemoteCommandClient, RemoteCommandOptions, RemoteCommandSession,
    RemoteCommandTransport, ResizeReceiver, ResizeSender, TerminalSize, accept_remote_command,
    connect_remote_command,
};
pub use spdy::fuzz_frames;
pub use tunnel::{Forwarded, Splice, end_to_end, forward_upgrade, splice};
pub use upgrade::{is_upgrade_request, is_websocket_request};
pub use websocket::{Message, MessageSocket, accept_messages, accept_messages_of, fuzz_messages};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::time::Duration;

/// What to answer an accepted request with at once, and the session that can be awaited when it was sent.
pub type Accepted<S> = (Response<Full<Bytes>>, S);

/// The largest piece of data that is queued or sent at once.
pub const CHUNK_BYTES: usize = 16 * 1024;
/// How much a stream holds that its reader has not taken. When it is full, the connection is not read on.
pub const INBOX_BYTES: usize = 64 * 1024;
/// How many pieces all writers of a connection together may have queued. The next writer waits.
pub const OUTBOX_CHUNKS: usize = 8;
/// How many answers to pings and refusals may wait to be sent before the peer is taken for hostile.
pub const CONTROL_QUEUE: usize = 64;
/// How many streams one connection may have open.
pub const MAX_STREAMS: usize = 256;

/// What a connection waits for, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Ends a connection over which nothing went either way for so long; never when `None`.
    pub idle: Option<Duration>,
    /// Sends a ping this often; never when `None`.
    pub ping: Option<Duration>,
    /// How long a client may take to open the streams it announced.
    pub stream_creation: Duration,
    /// When everything was sent, how long to wait in silence for the peer to hang up: hanging up first would make Go clients
    /// drop data they have not handed on.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_secs(4 * 3600)),
            ping: None,
            stream_creation: Duration::from_secs(30),
            linger: Duration::from_secs(30),
        }
    }
}
