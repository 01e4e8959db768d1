//! Frames as bytes: reading with every length bounded, and writing. What frames do to streams is the connection's business.

use super::headers::{HeaderDeflater, HeaderInflater, Headers};
use crate::outbox::{Encode, Outgoing};
use crate::{CHUNK_BYTES, StreamError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a control frame may be; ours and upstream's have a few hundred bytes.
const MAX_CONTROL_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 8;
const VERSION: u16 = 3;
const CONTROL: u8 = 0x80;
const FLAG_FIN: u8 = 0x01;
const FLAG_UNIDIRECTIONAL: u8 = 0x02;
const STREAM_MASK: u32 = 0x7fff_ffff;
const INITIAL_WINDOW_SIZE: u32 = 7;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Status of a RST_STREAM.
pub(super) const PROTOCOL_ERROR: u32 = 1;
/// Status of a RST_STREAM.
pub(super) const REFUSED_STREAM: u32 = 3;
/// Status of a RST_STREAM.
pub(super) const CANCEL: u32 = 5;

/// What a peer sent. Long data frames come in several pieces.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        stream: u32,
        headers: Headers,
        fin: bool,
        unidirectional: bool,
    },
    SynReply {
        stream: u32,
        fin: bool,
    },
    RstStream {
        stream: u32,
    },
    InitialWindow(u32),
    Ping(u32),
    GoAway,
    Headers {
        stream: u32,
        fin: bool,
    },
    WindowUpdate {
        stream: u32,
        credit: u32,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        fin: bool,
    },
    /// Known to be of no concern: other settings, frame types that came later.
    Ignored,
}

struct Payload {
    stream: u32,
    left: usize,
    fin: bool,
}

/// Reads frames from a transport. Safe to cancel between and within frames.
pub(super) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    data: Option<Payload>,
    inflater: HeaderInflater,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new(), data: None, inflater: HeaderInflater::new() }
    }

    /// The next frame or piece of data; `None` when the peer has hung up.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(CHUNK_BYTES);
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                let whole = self.buffer.is_empty() && self.data.is_none();
                return if whole { Ok(None) } else { Err(StreamError::Protocol("truncated frame")) };
            }
        }
    }

    fn take(&mut self) -> Result<Option<Frame>, StreamError> {
        if self.data.is_none() {
            let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
            let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
            if header[0] & CONTROL != 0 {
                return self.take_control(length);
            }
            let stream = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
            self.data = Some(Payload { stream, left: length, fin: header[4] & FLAG_FIN != 0 });
            self.buffer.advance(HEADER_BYTES);
        }
        Ok(self.take_data())
    }

    fn take_data(&mut self) -> Option<Frame> {
        let payload = self.data.as_mut()?;
        let length = payload.left.min(self.buffer.len()).min(CHUNK_BYTES);
        if length == 0 && payload.left > 0 {
            return None;
        }
        payload.left -= length;
        let (stream, fin) = (payload.stream, payload.fin && payload.left == 0);
        if payload.left == 0 {
            self.data = None;
        }
        Some(Frame::Data { stream, bytes: self.buffer.split_to(length).freeze(), fin })
    }

    fn take_control(&mut self, length: usize) -> Result<Option<Frame>, StreamError> {
        if length > MAX_CONTROL_BYTES {
            return Err(StreamError::Limit("SPDY control frame"));
        }
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let mut header = self.buffer.split_to(HEADER_BYTES);
        let body = self.buffer.split_to(length);
        let version = header.get_u16() & !(u16::from(CONTROL) << 8);
        if version != VERSION {
            return Err(StreamError::Protocol("unsupported SPDY version"));
        }
        let kind = header.get_u16();
        self.control(kind, header.get_u8(), &body).map(Some)
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> Result<Frame, StreamError> {
        let fin = flags & FLAG_FIN != 0;
        let stream = || Ok::<u32, StreamError>(word(body, 0)? & STREAM_MASK);
        Ok(match kind {
            SYN_STREAM => {
                let block = body.get(10..).ok_or(StreamError::Protocol("short SYN_STREAM"))?;
                let headers = self.inflater.inflate(block)?;
                let unidirectional = flags & FLAG_UNIDIRECTIONAL != 0;
                Frame::SynStream { stream: stream()?, headers, fin, unidirectional }
            }
            SYN_REPLY | HEADERS => {
                let block = body.get(4..).ok_or(StreamError::Protocol("short header frame"))?;
                self.inflater.inflate(block)?; // To keep the compression in step; nobody asks for these headers.
                let stream = stream()?;
                if kind == SYN_REPLY {
                    Frame::SynReply { stream, fin }
                } else {
                    Frame::Headers { stream, fin }
                }
            }
            RST_STREAM => Frame::RstStream { stream: stream()? },
            SETTINGS => initial_window(body)?,
            PING => Frame::Ping(word(body, 0)?),
            GOAWAY => Frame::GoAway,
            WINDOW_UPDATE => Frame::WindowUpdate { stream: stream()?, credit: word(body, 4)? & STREAM_MASK },
            _ => Frame::Ignored,
        })
    }
}

fn word(body: &[u8], at: usize) -> Result<u32, StreamError> {
    let bytes = body.get(at..).and_then(<[u8]>::first_chunk::<4>);
    Ok(u32::from_be_bytes(*bytes.ok_or(StreamError::Protocol("short control frame"))?))
}

fn initial_window(body: &[u8]) -> Result<Frame, StreamError> {
    let count = word(body, 0)? as usize;
    let entries = body[4..].chunks_exact(8).take(count);
    let mut windows = entries.filter_map(|entry| {
        let id = u32::from_be_bytes([0, entry[1], entry[2], entry[3]]);
        let value = u32::from_be_bytes([entry[4], entry[5], entry[6], entry[7]]);
        (id == INITIAL_WINDOW_SIZE).then_some(value & STREAM_MASK)
    });
    Ok(windows.next_back().map_or(Frame::Ignored, Frame::InitialWindow))
}

/// Writes frames.
pub(super) struct FrameWriter {
    deflater: HeaderDeflater,
    next_ping: u32,
    last_received: std::sync::Arc<std::sync::atomic::AtomicU32>,
}

impl FrameWriter {
    /// `first_ping` is odd for clients and even for servers; `last_received` is what GOAWAY will name.
    pub(super) fn new(first_ping: u32, last_received: std::sync::Arc<std::sync::atomic::AtomicU32>) -> Self {
        Self { deflater: HeaderDeflater::default(), next_ping: first_ping, last_received }
    }

    fn with_headers(&mut self, kind: u16, fixed: &[u8], headers: &Headers, buffer: &mut BytesMut) {
        let at = buffer.len();
        control_header(kind, 0, buffer);
        buffer.put_slice(fixed);
        self.deflater.append(headers, buffer);
        let length = (buffer.len() - at - HEADER_BYTES) as u32; // Our own headers are short.
        buffer[at + 4..at + 8].copy_from_slice(&length.to_be_bytes());
    }
}

fn control_header(kind: u16, length: u32, buffer: &mut BytesMut) {
    buffer.put_u16(u16::from(CONTROL) << 8 | VERSION);
    buffer.put_u16(kind);
    buffer.put_u32(length); // The flags are in its top byte, and ours are 0.
}

fn control_words(kind: u16, words: &[u32], buffer: &mut BytesMut) {
    control_header(kind, words.len() as u32 * 4, buffer); // A handful of words.
    words.iter().for_each(|word| buffer.put_u32(*word));
}

fn data(stream: u32, flags: u8, bytes: &[u8], buffer: &mut BytesMut) {
    buffer.put_u32(stream);
    buffer.put_u32(u32::from(flags) << 24 | bytes.len() as u32); // At most a chunk.
    buffer.put_slice(bytes);
}

impl Encode for FrameWriter {
    fn encode(&mut self, item: Outgoing, buffer: &mut BytesMut) {
        match item {
            Outgoing::Open(stream, headers) => {
                let mut fixed = [0; 10]; // No associated stream, highest priority, no credential slot.
                fixed[..4].copy_from_slice(&stream.to_be_bytes());
                self.with_headers(SYN_STREAM, &fixed, &headers, buffer);
            }
            Outgoing::Reply(stream) => {
                self.with_headers(SYN_REPLY, &stream.to_be_bytes(), &Headers::default(), buffer);
            }
            Outgoing::Data(stream, bytes) => data(stream, 0, &bytes, buffer),
            Outgoing::Finish(stream) => data(stream, FLAG_FIN, &[], buffer),
            Outgoing::Reset(stream, status) => control_words(RST_STREAM, &[stream, status], buffer),
            Outgoing::Credit(stream, bytes) => control_words(WINDOW_UPDATE, &[stream, bytes], buffer),
            Outgoing::Settings(window) => control_words(SETTINGS, &[1, INITIAL_WINDOW_SIZE, window], buffer),
            Outgoing::Ping => {
                control_words(PING, &[self.next_ping], buffer);
                self.next_ping = (self.next_ping + 2) & STREAM_MASK;
            }
            Outgoing::Pong(id) => {
                control_header(PING, id.len() as u32, buffer); // Four bytes, as received.
                buffer.put_slice(&id);
            }
            Outgoing::Close(_) => self.goodbye(buffer),
        }
    }

    fn goodbye(&mut self, buffer: &mut BytesMut) {
        let last = self.last_received.load(std::sync::atomic::Ordering::Relaxed);
        control_words(GOAWAY, &[last, 0], buffer);
    }
}

/// Reads bytes as frames until they end or are refused; says how many frames there were. For fuzzing.
pub async fn fuzz_frames(bytes: &[u8]) -> usize {
    let mut reader = FrameReader::new(bytes);
    let mut count = 0;
    while let Ok(Some(_)) = reader.next().await {
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn encode(items: Vec<Outgoing>) -> Vec<u8> {
        let mut writer = FrameWriter::new(2, Arc::default());
        let mut buffer = BytesMut::new();
        items.into_iter().for_each(|item| writer.encode(item, &mut buffer));
        buffer.to_vec()
    }

    async fn decode(bytes: &[u8]) -> Vec<Frame> {
        let mut reader = FrameReader::new(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await.unwrap() {
            frames.push(frame);
        }
        frames
    }

    fn check(item: Outgoing, expected: &str) {
        assert_eq!(hex(&encode(vec![item])), expected.replace(' ', ""));
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_frames() {
        check(Outgoing::Data(5, Bytes::from_static(b"hi")), "00000005 00 000002 6869");
        check(Outgoing::Finish(5), "00000005 01 000000");
        check(Outgoing::Reset(5, REFUSED_STREAM), "80030003 00 000008 00000005 00000003");
        check(Outgoing::Credit(1, 9), "80030009 00 000008 00000001 00000009");
        check(Outgoing::Ping, "80030006 00 000004 00000002");
        check(Outgoing::Close(0), "80030007 00 000008 00000000 00000000");
        check(Outgoing::Settings(65536), "80030004 00 00000c 00000001 00000007 00010000");
        check(Outgoing::Reply(1), "80030002 00 000014 00000001 7801 00 0400 fbff 00000000 000000ffff");
        check(
            Outgoing::Open(1, Headers::new(&[("Port", "80")])),
            "80030001 00 000028 00000001 00000000 0000 7801 00 1200 edff 00000001 00000004 706f7274 00000002 3830 000000ffff",
        );
    }

    #[tokio::test]
    async fn frames_are_read_back() {
        let headers = Headers::new(&[("streamType", "error")]);
        let bytes = encode(vec![
            Outgoing::Settings(7),
            Outgoing::Open(1, headers.clone()),
            Outgoing::Reply(1),
            Outgoing::Data(1, Bytes::from_static(b"x")),
            Outgoing::Finish(1),
            Outgoing::Credit(1, 8),
            Outgoing::Ping,
            Outgoing::Reset(1, CANCEL),
            Outgoing::Close(0),
        ]);
        let stream = 1;
        let expected = vec![
            Frame::InitialWindow(7),
            Frame::SynStream { stream, headers, fin: false, unidirectional: false },
            Frame::SynReply { stream, fin: false },
            Frame::Data { stream, bytes: Bytes::from_static(b"x"), fin: false },
            Frame::Data { stream, bytes: Bytes::new(), fin: true },
            Frame::WindowUpdate { stream, credit: 8 },
            Frame::Ping(2),
            Frame::RstStream { stream },
            Frame::GoAway,
        ];
        assert_eq!(decode(&bytes).await, expected);
    }

    #[tokio::test]
    async fn long_data_comes_in_pieces_and_ends_with_the_last() {
        let mut bytes = vec![0, 0, 0, 3, 1, 0, 0xff, 0xff];
        bytes.resize(8 + 0xffff, 7);
        let frames = decode(&bytes).await;
        let fins: Vec<bool> = frames
            .iter()
            .map(|frame| match frame {
                Frame::Data { bytes, fin, .. } => {
                    assert!(bytes.len() <= CHUNK_BYTES);
                    *fin
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(fins.iter().filter(|fin| **fin).count(), 1);
        assert_eq!(fins.last(), Some(&true));
    }

    #[tokio::test]
    async fn what_is_too_long_or_cut_off_is_refused() {
        let too_long = [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff];
        let refused = FrameReader::new(&too_long[..]).next().await.unwrap_err();
        assert!(matches!(refused, StreamError::Limit(_)));
        let cut = FrameReader::new(&[0, 0, 0, 1, 0, 0, 0, 9, 1][..]);
        let mut cut = cut;
        assert!(cut.next().await.is_ok());
        assert!(matches!(cut.next().await, Err(StreamError::Protocol(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(fuzz_frames(&bytes));
        }

        #[test]
        fn damaged_frames_are_answered(at in 0usize..200, byte: u8, kind in 1u8..12) {
            let mut bytes = encode(vec![
                Outgoing::Open(1, Headers::new(&[("streamType", "data"), ("port", "8080")])),
                Outgoing::Settings(1),
                Outgoing::Data(1, Bytes::from_static(b"some data")),
                Outgoing::Reply(3),
            ]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.extend_from_slice(&[0x80, 3, 0, kind, 0, 0, 0, 2, 0, 0]);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(fuzz_frames(&bytes));
        }
    }
}
