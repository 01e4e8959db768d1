//! The server's side: answers the upgrade, and pairs up the streams of each forwarded connection.

use super::{DATA, ERROR, PORT, PORT_FORWARD_V1, REQUEST_ID, STREAM_TYPE, TUNNELED_V1, V4, V4_BASE64};
use crate::byte_stream::{ByteWriter, Duplex};
use crate::spdy::{self, IncomingStream};
use crate::websocket::{self, Format, Open, Side};
use crate::{Accepted, MAX_STREAMS, Refusal, StreamError, Timeouts, upgrade};
use bytes::Bytes;
use http::Request;
use hyper_util::rt::TokioIo;
use nauplius_base::time::{Instant, monotonic, sleep_until};
use std::collections::{HashMap, VecDeque};
use tokio::io::{AsyncRead, AsyncWrite};

const WEBSOCKET_PROTOCOLS: &[&str] = &[TUNNELED_V1, V4, V4_BASE64, ""];
/// Each port of the old protocol takes two of 256 channels.
const MAX_PORTS: usize = 64;

/// What a server may be told besides the request.
#[derive(Debug, Clone, Default)]
pub struct PortForwardOptions {
    /// The ports of the old WebSocket protocol, when they were announced before; else the request's query names them.
    pub ports: Vec<u16>,
    /// What to wait for.
    pub timeouts: Timeouts,
}

/// Tells a client why a connection could not be forwarded. Dropped, it tells that nothing went wrong.
pub struct ErrorSender(ByteWriter);

impl ErrorSender {
    /// Tells the reason; clients print it and give up the connection.
    pub fn failure(mut self, message: impl Into<String>) {
        self.0.last_word(Bytes::from(message.into()));
    }
}

/// One connection to forward.
pub struct PortForwardStream {
    /// To which port.
    pub port: u16,
    /// What goes through.
    pub data: Duplex,
    /// For when it cannot.
    pub error: ErrorSender,
}

/// The connections that a client forwards.
pub struct PortForwardSession(Kind);

enum Kind {
    Paired(Pairs),
    /// The old protocol: all are there at once.
    Fixed(VecDeque<PortForwardStream>),
}

impl PortForwardSession {
    /// The next connection; `None` when there will be no more: the client has left, or, in the old protocol, has all its
    /// ports. Those handed out before go on. Safe to cancel.
    pub async fn next(&mut self) -> Option<PortForwardStream> {
        match &mut self.0 {
            Kind::Paired(pairs) => pairs.next().await,
            Kind::Fixed(streams) => streams.pop_front(),
        }
    }
}

/// Answers a request to forward ports: what to send at once, and the session that follows when it was sent.
///
/// # Errors
/// [`Refusal`] when the request asks for no upgrade, for no protocol that we speak, or for no valid port.
pub fn accept_port_forward<B>(
    request: &mut Request<B>,
    options: PortForwardOptions,
) -> Result<Accepted<impl Future<Output = Result<PortForwardSession, StreamError>> + Send + 'static>, Refusal>
{
    let PortForwardOptions { mut ports, timeouts } = options;
    let headers = request.headers();
    let is_websocket = upgrade::is_websocket_request(headers);
    let (protocol, response) = if is_websocket {
        let protocol = upgrade::negotiate_websocket(headers, WEBSOCKET_PROTOCOLS)?;
        (protocol, upgrade::websocket_response(headers, protocol))
    } else {
        let protocol = upgrade::negotiate_spdy(headers, &[PORT_FORWARD_V1])?;
        (protocol, upgrade::spdy_response(protocol))
    };
    let is_old = is_websocket && protocol != TUNNELED_V1;
    if is_old && ports.is_empty() {
        ports = ports_of_query(request.uri().query().unwrap_or_default())?;
    }
    if ports.len() > MAX_PORTS {
        return Err(Refusal::bad_request(format!("at most {MAX_PORTS} ports can be forwarded at once")));
    }
    let upgraded = hyper::upgrade::on(request);
    let session = async move {
        let io = TokioIo::new(upgraded.await?);
        let kind = if is_old {
            Kind::Fixed(over_channels(io, protocol, &ports, timeouts)?)
        } else if is_websocket {
            Kind::Paired(Pairs::start(in_websocket(io, timeouts)?, timeouts))
        } else {
            Kind::Paired(Pairs::start(io, timeouts))
        };
        Ok(PortForwardSession(kind))
    };
    Ok((response, session))
}

/// The ports that `port` (or `ports`, as the API names it) lists.
fn ports_of_query(query: &str) -> Result<Vec<u16>, Refusal> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let lists = pairs.filter(|(name, _)| matches!(*name, "port" | "ports")).map(|(_, value)| value);
    let mut ports = Vec::new();
    for list in lists {
        let list = percent_encoding::percent_decode_str(list).decode_utf8_lossy();
        if list.is_empty() {
            return Err(Refusal::bad_request("query parameter \"port\" cannot be empty"));
        }
        for text in list.split(',') {
            ports.push(parse_port(text).map_err(Refusal::bad_request)?);
        }
    }
    if ports.is_empty() {
        return Err(Refusal::bad_request("query parameter \"port\" is required"));
    }
    Ok(ports)
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) => Err(format!("port {text:?} must be > 0")),
        Ok(port) => Ok(port),
        Err(error) => Err(format!("unable to parse {text:?} as a port: {error}")),
    }
}

/// SPDY's transport when it is carried by a WebSocket's messages.
pub(super) fn in_websocket<T>(io: T, timeouts: Timeouts) -> Result<Duplex, StreamError>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    carried(io, Side::Server, timeouts)
}

pub(super) fn carried<T>(io: T, side: Side, timeouts: Timeouts) -> Result<Duplex, StreamError>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let channel = [Open { channel: 0, read: true, write: true }];
    let mut connection = websocket::Connection::start(io, side, Format::Stream, &channel, timeouts);
    let reader = connection.reader(0).ok_or(StreamError::Closed)?;
    let writer = connection.writer(0).ok_or(StreamError::Closed)?;
    Ok(Duplex { reader, writer })
}

fn over_channels<T>(
    io: T,
    protocol: &str,
    ports: &[u16],
    timeouts: Timeouts,
) -> Result<VecDeque<PortForwardStream>, StreamError>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let format = if protocol == V4_BASE64 { Format::Base64 } else { Format::Binary { close: false } };
    let channels: Vec<(u8, u16)> = (0u8..=254).step_by(2).zip(ports.iter().copied()).collect();
    let open: Vec<Open> = channels
        .iter()
        .flat_map(|(channel, _)| {
            let data = Open { channel: *channel, read: true, write: true };
            [data, Open { channel: channel + 1, read: false, write: true }]
        })
        .collect();
    let mut connection = websocket::Connection::start(io, Side::Server, format, &open, timeouts);
    let mut streams = VecDeque::with_capacity(channels.len());
    for (channel, port) in channels {
        // Both channels begin with their port, so that the client knows them.
        let named = Bytes::copy_from_slice(&port.to_le_bytes());
        connection.greet(channel, named.clone())?;
        connection.greet(channel + 1, named)?;
        let reader = connection.reader(channel).ok_or(StreamError::Closed)?;
        let writer = connection.writer(channel).ok_or(StreamError::Closed)?;
        let error = connection.writer(channel + 1).ok_or(StreamError::Closed)?;
        streams.push_back(PortForwardStream {
            port,
            data: Duplex { reader, writer },
            error: ErrorSender(error),
        });
    }
    Ok(streams)
}

/// One of a pair, waiting for the other.
struct Half {
    stream: spdy::SpdyStream,
    is_error: bool,
    until: Instant,
}

struct Pairs {
    connection: spdy::Connection,
    waiting: HashMap<String, Half>,
    timeouts: Timeouts,
}

impl Pairs {
    fn start<T>(io: T, timeouts: Timeouts) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let connection = spdy::Connection::start(io, spdy::Role::Server, timeouts);
        Self { connection, waiting: HashMap::new(), timeouts }
    }

    async fn next(&mut self) -> Option<PortForwardStream> {
        loop {
            let first_end = self.waiting.values().map(|half| half.until).min();
            tokio::select! {
                stream = self.connection.accept() => {
                    if let Some(pair) = self.take(stream?) {
                        return Some(pair);
                    }
                }
                () = sleep_until(first_end.unwrap_or_else(monotonic)), if first_end.is_some() => self.expire(),
            }
        }
    }

    fn expire(&mut self) {
        let now = monotonic();
        let late = self.waiting.extract_if(|_, half| half.until <= now);
        for (request, half) in late {
            tracing::debug!(request, "a forwarded connection has only one stream");
            if half.is_error {
                let message = format!("(request={request}) timed out waiting for streams");
                ErrorSender(half.stream.io.writer).failure(message);
            }
        }
    }

    /// Streams that make no sense are rejected by their drop.
    fn take(&mut self, stream: IncomingStream) -> Option<PortForwardStream> {
        let port = parse_port(stream.header(PORT)?).ok()?; // As upstream, the reason is not told.
        let is_error = match stream.header(STREAM_TYPE)? {
            ERROR => true,
            DATA => false,
            _ => return None,
        };
        let request = request_id(&stream, is_error);
        match self.waiting.get(&request) {
            None if self.waiting.len() >= MAX_STREAMS => return None,
            Some(other) if other.is_error == is_error => return None,
            _ => {}
        }
        // A connection that has just closed has no further pairs.
        let stream = stream.accept().ok()?;
        let Some(other) = self.waiting.remove(&request) else {
            let until = monotonic() + self.timeouts.stream_creation;
            self.waiting.insert(request, Half { stream, is_error, until });
            return None;
        };
        let (data, error) = if is_error { (other.stream, stream) } else { (stream, other.stream) };
        Some(PortForwardStream { port, data: data.io, error: ErrorSender(error.io.writer) })
    }
}

/// Clients that give no id open the error stream right before the data stream.
fn request_id(stream: &IncomingStream, is_error: bool) -> String {
    match stream.header(REQUEST_ID) {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ if is_error => stream.id().to_string(),
        _ => stream.id().saturating_sub(2).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_from_the_query() {
        assert_eq!(ports_of_query("port=80&port=443,8080"), Ok(vec![80, 443, 8080]));
        assert_eq!(ports_of_query("x=1&ports=80%2C81"), Ok(vec![80, 81]));
        let message = |query| ports_of_query(query).unwrap_err().message;
        assert_eq!(message(""), "query parameter \"port\" is required");
        assert_eq!(message("port="), "query parameter \"port\" cannot be empty");
        assert_eq!(message("port=0"), "port \"0\" must be > 0");
        assert!(message("port=70000").starts_with("unable to parse \"70000\" as a port"));
    }
}
