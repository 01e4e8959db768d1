//! A WebSocket whose messages belong to channels, or are one byte stream: one task deals out what comes, the outbox's task
//! writes what goes. Which channel is for what is unknown here.

use super::frame::{BINARY, CLOSE, Event, FrameReader, PING, PONG, TEXT, message};
use crate::byte_stream::{ByteReader, ByteWriter, Inbox};
use crate::outbox::{self, Encode, Outbox, Outgoing, Way};
use crate::{StreamError, Timeouts, quiet};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncWrite};

/// The channel of v5 on which the other channels' ends are told.
const CLOSE_CHANNEL: u8 = 255;
const NORMAL_CLOSURE: u16 = 1000;
const CLOSED_FOR_PROTOCOL_ERROR: u16 = 1002;

/// How messages carry channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A byte names the channel; data as it is.
    Binary {
        /// Channels may be closed one by one (v5).
        close: bool,
    },
    /// A digit names the channel; data in base64.
    Base64,
    /// No channels: messages are one byte stream, channel 0.
    Stream,
}

/// Which end we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Which directions of a channel are used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    pub(crate) channel: u8,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// The open channels of a connection.
pub(crate) struct Connection {
    readers: BTreeMap<u8, ByteReader>,
    writers: BTreeMap<u8, ByteWriter>,
    outbox: Outbox,
}

impl Connection {
    /// Starts to speak over a transport.
    pub(crate) fn start<T>(io: T, side: Side, format: Format, channels: &[Open], timeouts: Timeouts) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let encoder = MessageWriter { side, format };
        let (way, user) = outbox::start(write, encoder, timeouts.ping);
        let mut inboxes = BTreeMap::new();
        let mut connection =
            Self { readers: BTreeMap::new(), writers: BTreeMap::new(), outbox: user.clone() };
        for open in channels {
            let stream = u32::from(open.channel);
            if open.read {
                let (inbox, reader) = ByteReader::new(user.clone(), stream, None);
                inboxes.insert(open.channel, inbox);
                connection.readers.insert(open.channel, reader);
            }
            if open.write {
                let writer = ByteWriter::new(user.clone(), stream, None);
                connection.writers.insert(open.channel, writer);
            }
        }
        let reader = Reader { way, timeouts, format, inboxes, channel: None, partial: Vec::new() };
        let frames = FrameReader::new(read, side == Side::Server);
        nauplius_base::task::spawn("websocket-reader", reader.run(frames));
        connection
    }

    /// Takes a channel's reader; each is there once.
    pub(crate) fn reader(&mut self, channel: u8) -> Option<ByteReader> {
        self.readers.remove(&channel)
    }

    /// Takes a channel's writer; each is there once.
    pub(crate) fn writer(&mut self, channel: u8) -> Option<ByteWriter> {
        self.writers.remove(&channel)
    }

    /// Sends one short message before anything else is sent.
    pub(crate) fn greet(&self, channel: u8, bytes: Bytes) -> Result<(), StreamError> {
        self.outbox.now(Outgoing::Data(u32::from(channel), bytes))
    }
}

struct Reader {
    way: Way,
    timeouts: Timeouts,
    format: Format,
    inboxes: BTreeMap<u8, Inbox>,
    /// Of the message that is being read, once its first byte is known.
    channel: Option<u8>,
    /// Base64 characters that do not make up a group of four yet.
    partial: Vec<u8>,
}

impl Reader {
    async fn run<R: AsyncRead + Unpin>(mut self, mut frames: FrameReader<R>) {
        match self.read_all(&mut frames).await {
            Ok(()) => {}
            Err(error @ (StreamError::Protocol(_) | StreamError::Limit(_))) => {
                tracing::debug!(%error, "a WebSocket is closed");
                self.inboxes.clear();
                self.refuse(&mut frames).await;
            }
            Err(error) => tracing::debug!(%error, "a WebSocket ended"),
        }
        self.way.closed.cancel();
    }

    /// Tells the peer that it broke the protocol, and waits a little for it to hang up.
    async fn refuse<R: AsyncRead + Unpin>(&mut self, frames: &mut FrameReader<R>) {
        if self.way.outbox.answer(Outgoing::Close(CLOSED_FOR_PROTOCOL_ERROR)).is_ok() {
            let patience = self.timeouts.linger.min(std::time::Duration::from_secs(1));
            // Whatever comes of it, the connection ends.
            let _ = nauplius_base::time::timeout(patience, frames.next()).await;
        }
    }

    async fn read_all<R: AsyncRead + Unpin>(
        &mut self,
        frames: &mut FrameReader<R>,
    ) -> Result<(), StreamError> {
        loop {
            match quiet::within(&self.way, &self.timeouts, frames.next()).await? {
                None => return Ok(()),
                Some(Event::Data { first, last, bytes }) => self.data(first, last, bytes).await?,
                Some(Event::Ping(payload)) => self.way.outbox.answer(Outgoing::Pong(payload))?,
                Some(Event::Pong) => {}
                Some(Event::Close(code)) => return self.closed_by_peer(code).await,
            }
        }
    }

    /// Ends what is read, answers with the peer's own code, and leaves the writer a moment to send the answer.
    async fn closed_by_peer(&mut self, code: Option<u16>) -> Result<(), StreamError> {
        self.inboxes.clear();
        if !self.way.drained.is_cancelled() {
            let written = self.way.activity.count();
            self.way.outbox.answer(Outgoing::Close(code.unwrap_or(NORMAL_CLOSURE)))?;
            let patience = self.timeouts.linger.min(std::time::Duration::from_secs(1));
            // A peer that does not take the answer is not waited for.
            let _ = nauplius_base::time::timeout(patience, self.way.activity.after(written)).await;
        }
        Ok(())
    }

    async fn data(&mut self, first: bool, last: bool, mut bytes: Bytes) -> Result<(), StreamError> {
        if self.format == Format::Stream {
            return self.deliver(0, bytes).await;
        }
        if first {
            self.channel = None;
            self.partial.clear();
        }
        if self.channel.is_none() && !bytes.is_empty() {
            let name = bytes.get_u8();
            self.channel = Some(if self.format == Format::Base64 { name.wrapping_sub(b'0') } else { name });
        }
        let Some(channel) = self.channel else { return Ok(()) };
        match self.format {
            Format::Binary { close: true } if channel == CLOSE_CHANNEL => {
                bytes.iter().for_each(|closed| drop(self.inboxes.remove(closed)));
                Ok(())
            }
            Format::Base64 => {
                let decoded = self.decode(&bytes, last)?;
                self.deliver(channel, decoded).await
            }
            _ => self.deliver(channel, bytes).await,
        }
    }

    fn decode(&mut self, bytes: &[u8], last: bool) -> Result<Bytes, StreamError> {
        self.partial.extend_from_slice(bytes);
        let whole = if last { self.partial.len() } else { self.partial.len() / 4 * 4 };
        let groups: Vec<u8> = self.partial.drain(..whole).collect();
        let decoded = STANDARD.decode(groups).map_err(|_| StreamError::Protocol("damaged base64"))?;
        Ok(Bytes::from(decoded))
    }

    async fn deliver(&mut self, channel: u8, bytes: Bytes) -> Result<(), StreamError> {
        let inbox = self.inboxes.get_mut(&channel).filter(|_| !bytes.is_empty());
        let Some(inbox) = inbox else { return Ok(()) };
        tokio::select! {
            () = self.way.closed.cancelled() => Err(StreamError::Closed),
            () = inbox.put(&bytes) => Ok(()),
        }
    }
}

struct MessageWriter {
    side: Side,
    format: Format,
}

impl MessageWriter {
    fn message(&self, opcode: u8, parts: &[&[u8]], buffer: &mut BytesMut) {
        // Masks keep proxies from taking data for requests; they are no secret.
        let mask = (self.side == Side::Client).then(|| {
            let [a, b, c, d, ..] = nauplius_base::id::random_u64().to_ne_bytes();
            [a, b, c, d]
        });
        message(opcode, mask, parts, buffer);
    }

    fn data(&self, channel: u32, bytes: &[u8], buffer: &mut BytesMut) {
        let channel = channel as u8; // Channels are named by bytes.
        match self.format {
            Format::Binary { .. } => self.message(BINARY, &[&[channel], bytes], buffer),
            Format::Base64 => {
                let text = STANDARD.encode(bytes);
                self.message(TEXT, &[&[channel.wrapping_add(b'0')], text.as_bytes()], buffer);
            }
            Format::Stream => self.message(BINARY, &[bytes], buffer),
        }
    }
}

impl Encode for MessageWriter {
    fn encode(&mut self, item: Outgoing, buffer: &mut BytesMut) {
        match item {
            Outgoing::Data(channel, bytes) => self.data(channel, &bytes, buffer),
            // Only clients tell: upstream's servers end a channel by ending the connection.
            Outgoing::Finish(channel) => {
                if self.side == Side::Client && self.format == (Format::Binary { close: true }) {
                    self.message(BINARY, &[&[CLOSE_CHANNEL, channel as u8]], buffer); // Named by bytes.
                }
            }
            Outgoing::Ping => self.message(PING, &[], buffer),
            Outgoing::Pong(payload) => self.message(PONG, &[&payload], buffer),
            Outgoing::Close(code) => self.message(CLOSE, &[&code.to_be_bytes()], buffer),
            // SPDY's own; nobody queues them here.
            Outgoing::Open(..)
            | Outgoing::Reply(_)
            | Outgoing::Reset(..)
            | Outgoing::Credit(..)
            | Outgoing::Settings(_) => {}
        }
    }

    fn goodbye(&mut self, buffer: &mut BytesMut) {
        self.message(CLOSE, &[&NORMAL_CLOSURE.to_be_bytes()], buffer);
    }
}
