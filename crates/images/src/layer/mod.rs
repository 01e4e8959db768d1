//! Layers: from the compressed bytes of a tar archive to a directory that overlayfs can stack. Knows nothing of images,
//! registries or the store's layout.

mod directory;
mod entries;
mod unpack;

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use entries::{Entries, Entry, Kind};
pub(crate) use unpack::{Unpacked, unpack};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What a frame may make us hold in memory: 32 MiB; compressors use up to 8 MiB unless told to go to extremes.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
const READ_BUFFER_BYTES: usize = 64 << 10;

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error("{0}")]
    Bad(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("cancelled")]
    Cancelled,
}

impl LayerError {
    pub(crate) fn bad(reason: impl Into<String>) -> Self {
        Self::Bad(reason.into())
    }
}

/// Tells blocking work that nobody waits for it any more: set when the owner is dropped.
#[derive(Clone, Default)]
pub(crate) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(crate) fn check(&self) -> Result<(), LayerError> {
        if self.0.load(Ordering::Relaxed) { Err(LayerError::Cancelled) } else { Ok(()) }
    }

    /// Cancels when dropped.
    pub(crate) fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

pub(crate) struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// The plain bytes of a stream that may be compressed with gzip or zstd, told by its first bytes: media types lie.
pub(crate) fn decompressed<'a>(reader: impl Read + Send + 'a) -> std::io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
    let start = reader.fill_buf()?;
    Ok(if start.starts_with(&GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(reader))
    } else if start.starts_with(&ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Box::new(decoder)
    } else {
        Box::new(reader)
    })
}

/// Whether a stream that starts like this is compressed in a way that is read.
pub(crate) fn is_compressed(start: &[u8]) -> bool {
    !media_type_suffix(start).is_empty()
}

/// How the media type of a layer that starts like this ends.
pub(crate) fn media_type_suffix(start: &[u8]) -> &'static str {
    match start {
        _ if start.starts_with(&GZIP) => "+gzip",
        _ if start.starts_with(&ZSTD) => "+zstd",
        _ => "",
    }
}
/// Reads bytes as a layer, compressed or not, up to a bound; says how many entries there were. For fuzzing.
pub fn fuzz_layer(bytes: &[u8]) -> usize {
    const MAX_BYTES: u64 = 1 << 20;
    let Ok(reader) = decompressed(bytes) else { return 0 };
    let mut entries = entries::Entries::new(std::io::Read::take(reader, MAX_BYTES));
    let mut count = 0;
    while let Ok(Some(_)) = entries.next() {
        count += 1;
    }
    count
}
