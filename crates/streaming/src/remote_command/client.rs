//! The client's side, over a transport that it is given.

use super::{
    ERROR, OutcomeReader, RESIZE, RemoteCommandOptions, ResizeSender, SPDY_PROTOCOLS, STDERR, STDIN, STDOUT,
    STREAM_TYPE, V1, V1_BASE64, V2, V3, V4, V4_BASE64, V5, format, tells_sizes, tells_status,
};
use crate::byte_stream::{ByteReader, ByteWriter};
use crate::spdy::{self, Headers, Opener};
use crate::websocket::{self, Open, Side};
use crate::{ConnectError, StreamError, Target, connect};
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite};

/// What carries the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteCommandTransport {
    /// A WebSocket in the one version in which input can end: v5.
    WebSocket,
    /// A WebSocket in older versions, newest first.
    OldWebSocket,
    /// A WebSocket with messages in base64.
    Base64WebSocket,
    /// A WebSocket in exactly this version, 1 to 5.
    WebSocketVersion(u8),
    /// SPDY in any version.
    Spdy,
    /// SPDY in exactly this version, 1 to 4.
    SpdyVersion(u8),
}

impl RemoteCommandTransport {
    fn protocols(self) -> Vec<&'static str> {
        let version = |version| match version {
            5 => V5,
            4 => V4,
            3 => V3,
            2 => V2,
            _ => V1,
        };
        match self {
            Self::WebSocket => vec![V5],
            Self::OldWebSocket => vec![V4, V3, V2, V1],
            Self::Base64WebSocket => vec![V4_BASE64, V1_BASE64],
            Self::WebSocketVersion(number) | Self::SpdyVersion(number) => vec![version(number)],
            Self::Spdy => SPDY_PROTOCOLS.to_vec(),
        }
    }

    fn is_spdy(self) -> bool {
        matches!(self, Self::Spdy | Self::SpdyVersion(_))
    }
}

/// A command's streams at the client. The connection ends when all of it was dropped.
pub struct RemoteCommandClient {
    /// To the command. Shut down, its input ends (not over WebSocket before v5).
    pub stdin: Option<ByteWriter>,
    /// From the command.
    pub stdout: Option<ByteReader>,
    /// From the command.
    pub stderr: Option<ByteReader>,
    /// Tells the terminal's size, when there is a terminal and the version can.
    pub resize: Option<ResizeSender>,
    /// Learns how the command ended.
    pub outcome: OutcomeReader,
}

/// Runs or attaches to a command over a transport. The target's query says which streams there are, as `options` must.
///
/// # Errors
/// [`ConnectError`] when the server refuses or the connection fails.
pub async fn connect_remote_command<T>(
    io: T,
    target: Target,
    transport: RemoteCommandTransport,
    options: RemoteCommandOptions,
) -> Result<RemoteCommandClient, ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let protocols = transport.protocols();
    if transport.is_spdy() {
        let (io, chosen) = connect::spdy(io, target, Method::POST, &protocols).await?;
        let connection = spdy::Connection::start(io, spdy::Role::Client, connect::timeouts());
        Ok(over_spdy(&connection.opener(), &chosen, options).await?)
    } else {
        let (io, chosen) = connect::websocket(io, target, &protocols).await?;
        Ok(over_websocket(io, &chosen, options)?)
    }
}

async fn over_spdy(
    opener: &Opener,
    protocol: &str,
    options: RemoteCommandOptions,
) -> Result<RemoteCommandClient, StreamError> {
    let open = async |kind: &str, wanted: bool| -> Result<_, StreamError> {
        if !wanted {
            return Ok(None);
        }
        let stream = opener.open(Headers::new(&[(STREAM_TYPE, kind)])).await?;
        Ok(Some(stream.io))
    };
    // The order of upstream's clients.
    let error = open("error", true).await?.ok_or(StreamError::Closed)?;
    let stdin = open("stdin", options.stdin).await?;
    let stdout = open("stdout", options.stdout).await?;
    let stderr = open("stderr", options.stderr()).await?;
    let resize = open("resize", options.tty && tells_sizes(protocol)).await?;
    Ok(RemoteCommandClient {
        stdin: stdin.map(|stream| stream.writer),
        stdout: stdout.map(|stream| stream.reader),
        stderr: stderr.map(|stream| stream.reader),
        resize: resize.map(|stream| ResizeSender(stream.writer)),
        outcome: OutcomeReader::new(error.reader, tells_status(protocol)),
    })
}

fn over_websocket<T>(
    io: T,
    protocol: &str,
    options: RemoteCommandOptions,
) -> Result<RemoteCommandClient, StreamError>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let channels = [
        Open { channel: STDIN, read: false, write: options.stdin },
        Open { channel: STDOUT, read: options.stdout, write: false },
        Open { channel: STDERR, read: options.stderr(), write: false },
        Open { channel: ERROR, read: true, write: false },
        Open { channel: RESIZE, read: false, write: options.tty },
    ];
    let format = format(protocol);
    let mut connection =
        websocket::Connection::start(io, Side::Client, format, &channels, connect::timeouts());
    let error = connection.reader(ERROR).ok_or(StreamError::Closed)?;
    Ok(RemoteCommandClient {
        stdin: connection.writer(STDIN),
        stdout: connection.reader(STDOUT),
        stderr: connection.reader(STDERR),
        resize: connection.writer(RESIZE).map(ResizeSender),
        outcome: OutcomeReader::new(error, tells_status(protocol)),
    })
}
