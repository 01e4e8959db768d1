//! The server's side: answers the upgrade, waits for the streams that were announced, and hands them out.

use super::{
    ERROR, OutcomeSender, RESIZE, RemoteCommandOptions, ResizeReceiver, SPDY_PROTOCOLS, STDERR, STDIN,
    STDOUT, STREAM_TYPE, WEBSOCKET_PROTOCOLS, format, tells_sizes, tells_status,
};
use crate::byte_stream::{ByteReader, ByteWriter, Duplex};
use crate::websocket::{self, Open, Side};
use crate::{Accepted, Refusal, StreamError, Timeouts, spdy, upgrade};
use bytes::Bytes;
use http::Request;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncWrite};

/// A command's streams at the server.
///
/// The connection ends when all of it was dropped: output is shut down or dropped first, then the outcome is told.
pub struct RemoteCommandSession {
    /// From the client, when it sends input.
    pub stdin: Option<ByteReader>,
    /// To the client, when it wants output.
    pub stdout: Option<ByteWriter>,
    /// To the client, when it wants error output.
    pub stderr: Option<ByteWriter>,
    /// The terminal's sizes; ends at once without a terminal.
    pub resize: ResizeReceiver,
    /// Tells how the command ended.
    pub outcome: OutcomeSender,
}

/// Answers a request for exec or attach: what to send at once, and the session that follows when it was sent.
///
/// # Errors
/// [`Refusal`] when the request asks for no upgrade, or for no protocol that we speak.
pub fn accept_remote_command<B>(
    request: &mut Request<B>,
    options: RemoteCommandOptions,
    timeouts: Timeouts,
) -> Result<Accepted<impl Future<Output = Result<RemoteCommandSession, StreamError>> + Send + 'static>, Refusal>
{
    if !options.stdin && !options.stdout && !options.stderr {
        return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let headers = request.headers();
    let is_websocket = upgrade::is_websocket_request(headers);
    let (protocol, response) = if is_websocket {
        let protocol = upgrade::negotiate_websocket(headers, WEBSOCKET_PROTOCOLS)?;
        (protocol, upgrade::websocket_response(headers, protocol))
    } else {
        let protocol = upgrade::negotiate_spdy(headers, SPDY_PROTOCOLS)?;
        (protocol, upgrade::spdy_response(protocol))
    };
    let upgraded = hyper::upgrade::on(request);
    let session = async move {
        let io = TokioIo::new(upgraded.await?);
        if is_websocket {
            over_websocket(io, protocol, options, timeouts)
        } else {
            let streams = over_spdy(io, protocol, options, timeouts);
            let streams = nauplius_base::time::timeout(timeouts.stream_creation, streams).await;
            streams.map_err(|_| StreamError::StreamCreationTimeout)?
        }
    };
    Ok((response, session))
}

fn over_websocket<T>(
    io: T,
    protocol: &str,
    options: RemoteCommandOptions,
    timeouts: Timeouts,
) -> Result<RemoteCommandSession, StreamError>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let channels = [
        Open { channel: STDIN, read: options.stdin, write: false },
        Open { channel: STDOUT, read: false, write: options.stdout },
        Open { channel: STDERR, read: false, write: options.stderr() },
        Open { channel: ERROR, read: false, write: true },
        Open { channel: RESIZE, read: options.tty, write: false },
    ];
    let mut connection =
        websocket::Connection::start(io, Side::Server, format(protocol), &channels, timeouts);
    let error = connection.writer(ERROR).ok_or(StreamError::Closed)?;
    // As upstream: an empty message on the first channel that we write tells the client that it is connected.
    let first = [(options.stdout, STDOUT), (options.stderr(), STDERR), (true, ERROR)];
    if let Some((_, channel)) = first.into_iter().find(|(open, _)| *open) {
        connection.greet(channel, Bytes::new())?;
    }
    Ok(RemoteCommandSession {
        stdin: connection.reader(STDIN),
        stdout: connection.writer(STDOUT),
        stderr: connection.writer(STDERR),
        resize: ResizeReceiver::start(connection.reader(RESIZE)),
        outcome: OutcomeSender::new(error, tells_status(protocol)),
    })
}

async fn over_spdy<T>(
    io: T,
    protocol: &str,
    options: RemoteCommandOptions,
    timeouts: Timeouts,
) -> Result<RemoteCommandSession, StreamError>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut connection = spdy::Connection::start(io, spdy::Role::Server, timeouts);
    let with_sizes = options.tty && tells_sizes(protocol);
    let wanted = [
        ("error", true),
        ("stdin", options.stdin),
        ("stdout", options.stdout),
        ("stderr", options.stderr()),
        ("resize", with_sizes),
    ];
    let mut missing: Vec<&str> = wanted.iter().filter(|(_, open)| *open).map(|(kind, _)| *kind).collect();
    let mut streams: HashMap<&str, Duplex> = HashMap::new();
    while !missing.is_empty() {
        let stream = connection.accept().await.ok_or(StreamError::Closed)?;
        let kind = stream.header(STREAM_TYPE).unwrap_or_default();
        // Others are not wanted, and rejected by their drop.
        let Some(at) = missing.iter().position(|missing| *missing == kind) else { continue };
        streams.insert(missing.swap_remove(at), stream.accept()?.io);
    }
    let mut reader = |kind| streams.remove(kind).map(|stream| stream.reader.finishing(stream.writer));
    let (stdin, resize) = (reader("stdin"), reader("resize"));
    let mut writer = |kind| streams.remove(kind).map(|stream| stream.writer);
    let (stdout, stderr) = (writer("stdout"), writer("stderr"));
    let error = writer("error").ok_or(StreamError::Closed)?;
    Ok(RemoteCommandSession {
        stdin,
        stdout,
        stderr,
        resize: ResizeReceiver::start(resize),
        outcome: OutcomeSender::new(error, tells_status(protocol)),
    })
}
