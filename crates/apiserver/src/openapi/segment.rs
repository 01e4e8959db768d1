//! Pieces of a document that are compressed once and joined again and again, so that a change makes only what it touches anew. What is
//! joined is one gzip stream: each piece ends at a byte and looks back at nothing before it. It knows nothing of what the pieces say.

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use sha2::{Digest, Sha512};
use std::io;
use std::sync::Arc;

/// gzip, deflate, no flags, no time, no operating system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty last block.
const END: [u8; 2] = [3, 0];

/// A compressed piece; copies share its bytes.
#[derive(Clone)]
pub(super) struct Segment {
    packed: Bytes,
    length: usize,
    crc: Arc<Crc>,
    hash: [u8; 64],
}

impl Segment {
    /// How many bytes it unpacks to.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Compresses `bytes`.
    ///
    /// # Errors
    /// None in memory; the compressor's interface has them.
    pub(super) fn of(bytes: &[u8]) -> io::Result<Self> {
        let packed = deflate(bytes)?.into_boxed_slice();
        let mut crc = Crc::new();
        crc.update(bytes);
        Ok(Self {
            packed: packed.into_vec().into(),
            length: bytes.len(),
            crc: Arc::new(crc),
            hash: Sha512::digest(bytes).into(),
        })
    }
}

/// Blocks that end at a byte, none of which is the last of a stream.
fn deflate(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(Compression::default(), false);
    let mut out = Vec::with_capacity(bytes.len() / 4 + 64);
    let mut taken = 0;
    loop {
        let before = compress.total_in();
        let status = compress.compress_vec(&bytes[taken..], &mut out, FlushCompress::Sync)?;
        taken += (compress.total_in() - before) as usize;
        // Room that is left says that the end of the last block was written, too.
        if status == Status::BufError || (taken == bytes.len() && out.len() < out.capacity()) {
            return Ok(out);
        }
        out.reserve(out.capacity().max(64));
    }
}

/// A document that is joined from pieces.
pub(super) struct Joined {
    packed: Vec<u8>,
    length: usize,
    crc: Crc,
    hashing: Sha512,
}

impl Joined {
    pub(super) fn new() -> Self {
        Self { packed: HEAD.to_vec(), length: 0, crc: Crc::new(), hashing: Sha512::new() }
    }

    pub(super) fn add(&mut self, segment: &Segment) {
        self.packed.extend_from_slice(&segment.packed);
        self.length += segment.length;
        self.crc.combine(&segment.crc);
        self.hashing.update(segment.hash);
    }

    /// Adds what stands between pieces.
    ///
    /// # Errors
    /// As [`Segment::of`].
    pub(super) fn add_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.add(&Segment::of(bytes)?);
        Ok(())
    }

    /// The gzip stream, how many bytes it unpacks to, and a hash of them, which is the same for the same pieces.
    pub(super) fn finish(mut self) -> (Bytes, usize, [u8; 64]) {
        self.packed.extend(END);
        self.packed.extend(self.crc.sum().to_le_bytes());
        // The length of a gzip stream is told modulo 2^32.
        self.packed.extend((self.length as u32).to_le_bytes());
        (self.packed.into_boxed_slice().into_vec().into(), self.length, self.hashing.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    #[test]
    fn pieces_make_one_stream() {
        // Some that compresses well, and some that does not.
        let mut number = 1_u32;
        let mut noise = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (number >> 24) as u8
        };
        let mut long: Vec<u8> = (0..200_000).map(|_| noise()).collect();
        long.extend((0..200_000_u32).flat_map(|number| (number % 977).to_le_bytes()));
        let pieces: [&[u8]; 5] = [b"{", &long, b"", b",", &long[..70_000]];
        let mut joined = Joined::new();
        for piece in &pieces[..3] {
            joined.add(&Segment::of(piece).unwrap());
        }
        joined.add_bytes(pieces[3]).unwrap();
        joined.add(&Segment::of(pieces[4]).unwrap());
        let (packed, length, hash) = joined.finish();
        // The reader of one stream, not of several.
        let mut unpacked = Vec::new();
        let mut decoder = GzDecoder::new(&packed[..]);
        decoder.read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == pieces.concat(), "the bytes are those of the pieces");
        assert_eq!(unpacked.len(), length);
        assert!(decoder.into_inner().is_empty(), "nothing follows the stream");
        let mut other = Joined::new();
        other.add_bytes(b"{").unwrap();
        assert_ne!(other.finish().2, hash);
    }
}
