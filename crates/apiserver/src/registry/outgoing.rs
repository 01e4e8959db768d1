//! The bytes of events on their way to one watcher, a bounded piece at a time. An object that is larger than a piece is not held while
//! its watcher stalls: when the cache has let go of it meanwhile, the watch is over.

use crate::cache::Entry;
use crate::error::ApiResult;
use crate::frames::{EventType, Frames, Others};
use crate::render::{Bulk, Kept};
use bytes::Bytes;
use std::sync::{Arc, Weak};

/// Bytes gathered before they are handed to the connection. With the event that makes them more they mostly fit into one frame of
/// HTTP/2 and one record of TLS, of 16 KiB each.
const PIECE_BYTES: usize = 15 << 10;
/// Room for what stands around an object.
const HEAD_BYTES: usize = 256;
/// A bulk beyond this is cut.
const MAX_WHOLE_BYTES: usize = 16 << 10;

/// An object that was sent in part is no longer in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// What one watcher is to get next.
#[derive(Default)]
pub(super) struct Outgoing {
    piece: Vec<u8>,
    rest: Option<Rest>,
    whole: bool,
    /// Entries are made for this watcher alone: the cache does not keep them.
    own: bool,
}

/// What is left of an event.
struct Rest {
    source: Source,
    sent: usize,
    tail: &'static [u8],
}

enum Source {
    Cache(Weak<Entry>, Kept),
    /// Made for this watcher alone, such as a table.
    Own(Bytes),
}

impl Outgoing {
    /// Nothing to send yet; `own` entries are not the cache's.
    pub fn new(own: bool) -> Self {
        Self { own, ..Self::default() }
    }

    /// From now on events are never cut: for streams of messages.
    pub fn keep_whole(&mut self) {
        self.whole = true;
    }

    /// Whether the piece is to be sent before anything is added.
    pub fn is_full(&self) -> bool {
        self.rest.is_some() || self.piece.len() >= PIECE_BYTES
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.piece.is_empty()
    }

    /// Whether nothing is left of an event that was begun.
    pub fn is_whole(&self) -> bool {
        self.rest.is_none()
    }

    /// Where small events are written to.
    pub fn piece(&mut self) -> &mut Vec<u8> {
        &mut self.piece
    }

    /// The gathered bytes.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.piece).into()
    }

    /// Adds an event, or its beginning when it is large.
    pub fn push(
        &mut self,
        frames: &Frames,
        event: EventType,
        entry: &Arc<Entry>,
        revision: i64,
        others: Option<&Others<'_>>,
    ) -> ApiResult<()> {
        self.piece.reserve(entry.stored().len().min(PIECE_BYTES) + HEAD_BYTES);
        let (bulk, tail) = frames.open(&mut self.piece, event, entry, revision, others)?;
        if self.whole || bulk.bytes.len() <= MAX_WHOLE_BYTES {
            self.piece.extend_from_slice(&bulk.bytes);
            self.piece.extend_from_slice(tail);
            return Ok(());
        }
        let source = match bulk {
            Bulk { kept: Some(kept), .. } if !self.own => Source::Cache(Arc::downgrade(entry), kept),
            Bulk { bytes, .. } => Source::Own(bytes),
        };
        self.rest = Some(Rest { source, sent: 0, tail });
        Ok(())
    }

    /// Goes on with an event that was begun; nothing happens when there is none.
    pub fn go_on(&mut self, frames: &Frames) -> Result<(), Gone> {
        let Some(mut rest) = self.rest.take() else { return Ok(()) };
        let bytes = match &rest.source {
            Source::Own(bytes) => bytes.clone(),
            Source::Cache(entry, kept) => {
                let entry = entry.upgrade().ok_or(Gone)?;
                // It was encoded before, so it can be again.
                frames.bulk_again(&entry, *kept).map_err(|_| Gone)?
            }
        };
        let end = bytes.len().min(rest.sent + PIECE_BYTES.saturating_sub(self.piece.len()));
        self.piece.extend_from_slice(&bytes[rest.sent..end]);
        rest.sent = end;
        if end < bytes.len() {
            self.rest = Some(rest);
        } else {
            self.piece.extend_from_slice(rest.tail);
        }
        Ok(())
    }
}
