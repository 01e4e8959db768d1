//! WebSocket frames as bytes: reading in pieces with every buffer bounded, and writing headers.

use crate::{CHUNK_BYTES, StreamError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
/// Control frames carry no more.
const MAX_CONTROL_BYTES: u64 = 125;

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A piece of a message.
    Data {
        /// It begins a message.
        first: bool,
        /// It ends a message.
        last: bool,
        bytes: Bytes,
    },
    Ping(Bytes),
    Pong,
    /// With its code, when it has one.
    Close(Option<u16>),
}

struct Payload {
    left: u64,
    mask: Option<[u8; 4]>,
    /// The first piece of its message is still to come.
    first: bool,
    /// The frame is its message's last.
    fin: bool,
}

/// Reads frames from a transport. Safe to cancel between and within frames.
pub(super) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    data: Option<Payload>,
    in_message: bool,
    /// Servers want masked frames, clients unmasked ones.
    masked: bool,
}

struct Header {
    fin: bool,
    opcode: u8,
    length: u64,
    mask: Option<[u8; 4]>,
    bytes: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(io: R, masked: bool) -> Self {
        Self { io, buffer: BytesMut::new(), data: None, in_message: false, masked }
    }

    /// The next event; `None` when the peer has hung up.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, StreamError> {
        loop {
            if let Some(event) = self.take()? {
                return Ok(Some(event));
            }
            self.buffer.reserve(CHUNK_BYTES);
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Result<Option<Event>, StreamError> {
        if self.data.is_none() {
            let Some(header) = parse(&self.buffer)? else { return Ok(None) };
            if header.mask.is_some() != self.masked {
                return Err(StreamError::Protocol("wrongly masked WebSocket frame"));
            }
            if header.opcode & 8 != 0 {
                return self.take_control(&header);
            }
            self.begin(&header)?;
        }
        Ok(self.take_data())
    }

    fn begin(&mut self, header: &Header) -> Result<(), StreamError> {
        let continues = header.opcode == CONTINUATION;
        if continues != self.in_message || header.opcode > BINARY {
            return Err(StreamError::Protocol("unexpected WebSocket opcode"));
        }
        self.buffer.advance(header.bytes);
        self.in_message = !header.fin;
        let (left, mask) = (header.length, header.mask);
        self.data = Some(Payload { left, mask, first: !continues, fin: header.fin });
        Ok(())
    }

    fn take_data(&mut self) -> Option<Event> {
        let payload = self.data.as_mut()?;
        let available = self.buffer.len().min(CHUNK_BYTES);
        let length = usize::try_from(payload.left).unwrap_or(usize::MAX).min(available);
        if length == 0 && payload.left > 0 {
            return None;
        }
        let mut bytes = self.buffer.split_to(length);
        if let Some(mask) = &mut payload.mask {
            unmask(&mut bytes, *mask);
            mask.rotate_left(length % 4);
        }
        payload.left -= length as u64;
        let (first, last) = (std::mem::take(&mut payload.first), payload.fin && payload.left == 0);
        if payload.left == 0 {
            self.data = None;
        }
        Some(Event::Data { first, last, bytes: bytes.freeze() })
    }

    fn take_control(&mut self, header: &Header) -> Result<Option<Event>, StreamError> {
        if header.length > MAX_CONTROL_BYTES || !header.fin {
            return Err(StreamError::Protocol("long or fragmented WebSocket control frame"));
        }
        let length = header.length as usize; // At most 125.
        if self.buffer.len() < header.bytes + length {
            return Ok(None);
        }
        self.buffer.advance(header.bytes);
        let mut body = self.buffer.split_to(length);
        unmask(&mut body, header.mask.unwrap_or_default());
        match header.opcode {
            PING => Ok(Some(Event::Ping(body.freeze()))),
            PONG => Ok(Some(Event::Pong)),
            CLOSE => Ok(Some(Event::Close(body.first_chunk().map(|code| u16::from_be_bytes(*code))))),
            _ => Err(StreamError::Protocol("unknown WebSocket opcode")),
        }
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    for (byte, key) in bytes.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

fn parse(buffer: &[u8]) -> Result<Option<Header>, StreamError> {
    let Some(&[first, second]) = buffer.first_chunk::<2>() else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(StreamError::Protocol("WebSocket extension bits"));
    }
    let extended = match second & !MASKED {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let masked = second & MASKED != 0;
    let bytes = 2 + extended + if masked { 4 } else { 0 };
    if buffer.len() < bytes {
        return Ok(None);
    }
    let length = match extended {
        0 => u64::from(second & !MASKED),
        _ => buffer[2..2 + extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    let mask = masked.then(|| buffer[bytes - 4..].first_chunk().copied()).flatten();
    Ok(Some(Header { fin: first & FIN != 0, opcode: first & 0x0f, length, mask, bytes }))
}

/// Appends a whole message of several parts.
pub(super) fn message(opcode: u8, mask: Option<[u8; 4]>, parts: &[&[u8]], buffer: &mut BytesMut) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    buffer.put_u8(FIN | opcode);
    let masked = if mask.is_some() { MASKED } else { 0 };
    match length {
        0..126 => buffer.put_u8(masked | length as u8), // Below 126.
        126..0x1_0000 => {
            buffer.put_u8(masked | 126);
            buffer.put_u16(length as u16); // Below 65536.
        }
        _ => {
            buffer.put_u8(masked | 127);
            buffer.put_u64(length as u64);
        }
    }
    if let Some(mask) = mask {
        buffer.put_slice(&mask);
    }
    let at = buffer.len();
    parts.iter().for_each(|part| buffer.put_slice(part));
    if let Some(mask) = mask {
        unmask(&mut buffer[at..], mask);
    }
}

/// Reads bytes as a client's frames until they end or are refused; says how many events there were. For fuzzing.
pub async fn fuzz_messages(bytes: &[u8]) -> usize {
    let mut count = 0;
    for masked in [true, false] {
        let mut reader = FrameReader::new(bytes, masked);
        while let Ok(Some(_)) = reader.next().await {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn events(bytes: &[u8], masked: bool) -> Result<Vec<Event>, StreamError> {
        let mut reader = FrameReader::new(bytes, masked);
        let mut events = Vec::new();
        while let Some(event) = reader.next().await? {
            events.push(event);
        }
        Ok(events)
    }

    fn data(first: bool, last: bool, bytes: &'static [u8]) -> Event {
        Event::Data { first, last, bytes: Bytes::from_static(bytes) }
    }

    /// The examples of RFC 6455, section 5.7.
    #[tokio::test]
    async fn the_rfcs_examples_are_read() {
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(events(&masked, true).await.unwrap(), [data(true, true, b"Hello")]);
        let fragments = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
        let expected = [data(true, false, b"Hel"), data(false, true, b"lo")];
        assert_eq!(events(&fragments, false).await.unwrap(), expected);
        let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(events(&ping, false).await.unwrap(), [Event::Ping(Bytes::from_static(b"Hello"))]);
    }

    #[tokio::test]
    async fn what_the_rfc_forbids_is_refused() {
        for wrong in [
            &[0x80, 0x00][..],         // continues nothing
            &[0xc1, 0x00],             // extension bit
            &[0x83, 0x00],             // unknown opcode
            &[0x89, 0x7e, 0, 200],     // long ping
            &[0x09, 0x00],             // fragmented ping
            &[0x82, 0x80, 1, 2, 3, 4], // masked by a server
        ] {
            assert!(events(wrong, false).await.is_err(), "{wrong:?}");
        }
        assert!(events(&[0x82, 0x00], true).await.is_err());
    }

    proptest! {
        #[test]
        fn messages_are_read_back(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70_000), 1..3),
            mask: Option<[u8; 4]>,
        ) {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let mut buffer = BytesMut::new();
            message(BINARY, mask, &parts, &mut buffer);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let events = runtime.block_on(events(&buffer, mask.is_some())).unwrap();
            let mut read = Vec::new();
            for event in &events {
                let Event::Data { bytes, .. } = event else { panic!("{event:?}") };
                read.extend_from_slice(bytes);
            }
            prop_assert_eq!(read, parts.concat());
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(fuzz_messages(&bytes));
        }
    }
}
