//! Header blocks: names and values, compressed over the life of the connection.
//!
//! What we send is in stored deflate blocks: a compressor costs a quarter of a megabyte for each connection, and the blocks
//! we send are a few dozen bytes. Any inflater reads them. What we receive was deflated with the dictionary.

use super::dictionary::dictionary;
use crate::StreamError;
use bytes::{BufMut, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

/// How long a block may be when inflated.
const MAX_BLOCK_BYTES: usize = 64 * 1024;
/// How many names a block may have.
const MAX_HEADERS: usize = 128;
/// An empty stored block. Go's inflater hands out what it has only when it meets one, or the end.
const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];
/// A zlib stream without a preset dictionary.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x01];

/// A stream's headers in order; names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect())
    }

    /// The first value of a name, whatever its case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        found.1.split('\0').next()
    }

    fn encode(&self) -> Vec<u8> {
        let mut block = Vec::new();
        let length = |text: &str| (text.len() as u32).to_be_bytes(); // Our own headers are short.
        block.extend_from_slice(&(self.0.len() as u32).to_be_bytes());
        for (name, value) in &self.0 {
            block.extend_from_slice(&length(name));
            block.extend_from_slice(name.as_bytes());
            block.extend_from_slice(&length(value));
            block.extend_from_slice(value.as_bytes());
        }
        block
    }

    fn decode(block: &[u8]) -> Result<Self, StreamError> {
        let mut rest = block;
        let count = take_length(&mut rest)?;
        if count > MAX_HEADERS {
            return Err(StreamError::Limit("headers of a stream"));
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let name = take_text(&mut rest)?.to_ascii_lowercase();
            let value = take_text(&mut rest)?;
            headers.push((name, value));
        }
        Ok(Self(headers))
    }
}

fn take_length(rest: &mut &[u8]) -> Result<usize, StreamError> {
    let (length, after) =
        rest.split_first_chunk::<4>().ok_or(StreamError::Protocol("truncated header block"))?;
    *rest = after;
    Ok(u32::from_be_bytes(*length) as usize)
}

fn take_text(rest: &mut &[u8]) -> Result<String, StreamError> {
    let length = take_length(rest)?;
    let (text, after) =
        rest.split_at_checked(length).ok_or(StreamError::Protocol("truncated header block"))?;
    *rest = after;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// The sending half of the compression: only whether the zlib header is still to be sent.
#[derive(Debug, Default)]
pub(super) struct HeaderDeflater {
    begun: bool,
}

impl HeaderDeflater {
    pub(super) fn append(&mut self, headers: &Headers, buffer: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            buffer.put_slice(&ZLIB_HEADER);
        }
        for part in headers.encode().chunks(usize::from(u16::MAX)) {
            let length = part.len() as u16; // At most u16::MAX by the chunks.
            buffer.put_u8(0); // Not the last block; stored.
            buffer.put_u16_le(length);
            buffer.put_u16_le(!length);
            buffer.put_slice(part);
        }
        buffer.put_slice(&FLUSH);
    }
}

/// The receiving half.
pub(super) struct HeaderInflater {
    inflate: Decompress,
}

impl HeaderInflater {
    pub(super) fn new() -> Self {
        Self { inflate: Decompress::new(true) }
    }

    /// One block, which continues the stream of all blocks before it.
    pub(super) fn inflate(&mut self, mut compressed: &[u8]) -> Result<Headers, StreamError> {
        let mut block = Vec::new();
        let mut room = [0; 4096];
        loop {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let step = self.inflate.decompress(compressed, &mut room, FlushDecompress::Sync);
            let read = (self.inflate.total_in() - read) as usize; // At most what was given.
            let written = (self.inflate.total_out() - written) as usize;
            compressed = &compressed[read..];
            block.extend_from_slice(&room[..written]);
            if block.len() > MAX_BLOCK_BYTES {
                return Err(StreamError::Limit("inflated headers"));
            }
            match step {
                Ok(Status::StreamEnd) => return Err(StreamError::Protocol("header compression ended")),
                Ok(_) if read == 0 && written == 0 => return Headers::decode(&block),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.inflate.set_dictionary(&dictionary());
                    set.map_err(|_| StreamError::Protocol("unknown header dictionary"))?;
                }
                Err(_) => return Err(StreamError::Protocol("damaged header compression")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    fn headers() -> Headers {
        Headers::new(&[("streamType", "stdout"), ("port", "80"), ("requestID", "0")])
    }

    #[test]
    fn stored_blocks_are_read_back() {
        let (mut deflater, mut inflater) = (HeaderDeflater::default(), HeaderInflater::new());
        for _ in 0..3 {
            let mut buffer = BytesMut::new();
            deflater.append(&headers(), &mut buffer);
            assert_eq!(inflater.inflate(&buffer).unwrap(), headers());
            buffer.clear();
            deflater.append(&Headers::default(), &mut buffer);
            assert_eq!(inflater.inflate(&buffer).unwrap(), Headers::default());
        }
        assert_eq!(headers().get("streamtype"), Some("stdout"));
    }

    #[test]
    fn deflated_blocks_with_the_dictionary_are_read() {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&dictionary()).unwrap();
        let mut inflater = HeaderInflater::new();
        for _ in 0..3 {
            let mut out = Vec::with_capacity(1024);
            compress.compress_vec(&headers().encode(), &mut out, FlushCompress::Sync).unwrap();
            assert_eq!(inflater.inflate(&out).unwrap(), headers());
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut compress = Compress::new(Compression::best(), true);
        let mut out = Vec::with_capacity(1 << 16);
        compress.compress_vec(&vec![0; 1 << 20], &mut out, FlushCompress::Sync).unwrap();
        let refused = HeaderInflater::new().inflate(&out).unwrap_err();
        assert!(matches!(refused, StreamError::Limit(_)), "{refused}");
    }
}
