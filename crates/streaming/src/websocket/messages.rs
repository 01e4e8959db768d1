//! A WebSocket over which whole messages go to a client that sends nothing of interest, as upstream streams watches and logs.

use super::frame::{BINARY, CLOSE, Event, FrameReader, PONG, TEXT, message};
use crate::upgrade::{negotiate_websocket, websocket_answer, websocket_response, words};
use crate::{Refusal, StreamError};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

const NORMAL_CLOSURE: u16 = 1000;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// For people and scripts.
    Text(Bytes),
    /// For programs.
    Binary(Bytes),
}

/// A connection that is about to become a WebSocket.
pub struct MessageSocket(OnUpgrade);

/// Accepts a WebSocket; the answer has to be sent before messages can go. A client may name one subprotocol, whichever it is.
///
/// # Errors
/// When the request asks for something else.
pub fn accept_messages<B>(
    request: &mut Request<B>,
) -> Result<(Response<Full<Bytes>>, MessageSocket), Refusal> {
    let headers = request.headers();
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::bad_request("unable to upgrade: Sec-WebSocket-Version must be 13"));
    }
    if headers.get(header::SEC_WEBSOCKET_KEY).is_none() {
        return Err(Refusal::bad_request("unable to upgrade: Sec-WebSocket-Key is required"));
    }
    let protocols: Vec<&str> = words(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    let protocol = match protocols[..] {
        [] => None,
        // A word of a header is a header's value.
        [protocol] => HeaderValue::from_str(protocol).ok(),
        _ => return Err(Refusal::bad_request("missing or bad WebSocket-Protocol")),
    };
    let answer = websocket_answer(headers, protocol);
    Ok((answer, MessageSocket(hyper::upgrade::on(request))))
}

/// Accepts a WebSocket whose client must name one of these subprotocols, the empty one if it names none, and says which it is.
///
/// # Errors
/// When the request asks for something else.
pub fn accept_messages_of<B>(
    request: &mut Request<B>,
    supported: &'static [&'static str],
) -> Result<(Response<Full<Bytes>>, MessageSocket, &'static str), Refusal> {
    let protocol = negotiate_websocket(request.headers(), supported)?;
    let answer = websocket_response(request.headers(), protocol);
    Ok((answer, MessageSocket(hyper::upgrade::on(request)), protocol))
}

impl MessageSocket {
    /// Sends messages until there are no more or the client has gone.
    ///
    /// # Errors
    /// When the connection breaks or the client breaks the protocol.
    pub async fn send_all(self, messages: impl Stream<Item = Message>) -> Result<(), StreamError> {
        let io = TokioIo::new(self.0.await?);
        let (read, write) = tokio::io::split(io);
        relay(read, write, messages).await
    }
}

async fn relay(
    read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    messages: impl Stream<Item = Message>,
) -> Result<(), StreamError> {
    let mut messages = std::pin::pin!(messages);
    let mut frames = FrameReader::new(read, true);
    let mut out = BytesMut::new();
    loop {
        let (opcode, payload) = tokio::select! {
            event = frames.next() => match event? {
                Some(Event::Ping(payload)) => (PONG, payload),
                Some(Event::Data { .. } | Event::Pong) => continue,
                Some(Event::Close(_)) | None => break,
            },
            sent = messages.next() => match sent {
                Some(Message::Text(bytes)) => (TEXT, bytes),
                Some(Message::Binary(bytes)) => (BINARY, bytes),
                None => break,
            },
        };
        out.clear();
        message(opcode, None, &[&payload], &mut out);
        write.write_all(&out).await?;
        write.flush().await?;
    }
    out.clear();
    message(CLOSE, None, &[&NORMAL_CLOSURE.to_be_bytes()], &mut out);
    write.write_all(&out).await?;
    Ok(write.shutdown().await?)
}

#[cfg(test)]
mod tests {
    use super::super::frame::PING;
    use super::*;
    use tokio::io::AsyncReadExt;

    fn client_frame(opcode: u8, payload: &[u8]) -> BytesMut {
        let mut frame = BytesMut::new();
        message(opcode, Some([1, 2, 3, 4]), &[payload], &mut frame);
        frame
    }

    #[tokio::test]
    async fn messages_go_out_whole_and_pings_are_answered() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(server);
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let messages = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (message, receiver))
        });
        let relay = nauplius_base::task::spawn("relay", relay(read, write, messages));
        client.write_all(&client_frame(TEXT, b"ignored")).await.unwrap();
        client.write_all(&client_frame(PING, b"p")).await.unwrap();
        let mut pong = [0; 3];
        client.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0x80 | PONG, 1, b'p']);
        sender.send(Message::Text(Bytes::from_static(b"{}\n"))).await.unwrap();
        sender.send(Message::Binary(Bytes::from_static(b"k8s"))).await.unwrap();
        drop(sender);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"\x81\x03{}\n\x82\x03k8s\x88\x02\x03\xe8");
        relay.await.unwrap().unwrap();
    }

    #[test]
    fn one_subprotocol_is_taken_whichever_it_is() {
        let ask = |protocols: &'static str| {
            let request = Request::get("/")
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            let request = if protocols.is_empty() {
                request
            } else {
                request.header("sec-websocket-protocol", protocols)
            };
            let accepted = accept_messages(&mut request.body(()).unwrap());
            let chosen =
                |response: Response<Full<Bytes>>| response.headers().get("sec-websocket-protocol").cloned();
            accepted.map(|(response, _)| chosen(response)).map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(ask(""), Ok(None));
        assert_eq!(ask("base64.binary.k8s.io"), Ok(Some(HeaderValue::from_static("base64.binary.k8s.io"))));
        assert_eq!(ask("a, b"), Err(400));
    }
}
