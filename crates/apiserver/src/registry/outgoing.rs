//! The bytes of events on their way to one watcher, a bounded piece at a time. An object that is larger than a piece is not held while
//! its watcher stalls: when the cache has let go of it meanwhile, the watch is over.

use crate::cache::{Entry, Piece, Pieces, Place, Remainder, Remains};
use crate::error::ApiResult;
use crate::frames::{EventType, Frames, Others};
use crate::metrics::Events;
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
pub(super) struct Outgoing {
    piece: Vec<u8>,
    /// A part of an object that others are sent, too; then there is nothing else.
    shared: Option<Bytes>,
    rest: Option<Rest>,
    whole: bool,
    /// Entries are made for this watcher alone: the cache does not keep them.
    own: bool,
    remains: Arc<Remains>,
}

/// What is left of an event.
struct Rest {
    source: Source,
    sent: usize,
    tail: &'static [u8],
    /// Which object this is, where others are sent it in the same form.
    object: Option<Place>,
}

enum Source {
    Cache(Weak<Entry>, Kept),
    /// Made for this watcher alone, such as a table.
    Own(Remainder),
}

impl Outgoing {
    /// Nothing to send yet; `own` entries are not the cache's.
    pub fn new(own: bool, remains: Arc<Remains>) -> Self {
        Self { piece: Vec::new(), shared: None, rest: None, whole: false, own, remains }
    }

    /// From now on events are never cut: for streams of messages.
    pub fn keep_whole(&mut self) {
        self.whole = true;
    }

    /// Whether the piece is to be sent before anything is added.
    pub fn is_full(&self) -> bool {
        self.rest.is_some() || self.piece.len() >= PIECE_BYTES
    }

    /// Whether the piece may be sent although there is room in it.
    pub fn is_worth_sending(&self) -> bool {
        self.piece.len() >= PIECE_BYTES / 2
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.piece.is_empty() && self.shared.is_none()
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
        self.shared.take().unwrap_or_else(|| std::mem::take(&mut self.piece).into())
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
            Bulk { bytes, .. } => Source::Own(self.remains.keep(bytes)),
        };
        let object = others.filter(|_| !self.own).map(|others| others.place);
        self.rest = Some(Rest { source, sent: 0, tail, object });
        Ok(())
    }

    /// Goes on with an event that was begun; nothing happens when there is none. A part from the middle of an object is made once for all
    /// watchers that see it in the same `form`: those that stall in it hold the same memory.
    pub fn go_on(&mut self, frames: &Frames, objects: &Pieces, form: &Arc<str>) -> Result<(), Gone> {
        let Some(mut rest) = self.rest.take() else { return Ok(()) };
        let from = rest.object.filter(|_| self.is_empty()).and_then(|object| object.part(rest.sent));
        if let Some(found) = from.and_then(|from| objects.find(form, from)) {
            rest.sent += found.bytes.len();
            (self.shared, self.rest) = (Some(found.bytes.clone()), Some(rest));
            return Ok(());
        }
        let bytes = rest.bytes(frames)?;
        let end = bytes.len().min(rest.sent + PIECE_BYTES.saturating_sub(self.piece.len()));
        self.piece.extend_from_slice(&bytes[rest.sent..end]);
        rest.sent = end;
        if end == bytes.len() {
            self.piece.extend_from_slice(rest.tail);
            return Ok(());
        }
        if let Some((from, reached)) = from.zip(rest.object.and_then(|object| object.part(end))) {
            let bytes: Bytes = std::mem::take(&mut self.piece).into();
            objects.keep(form, from, Piece { bytes: bytes.clone(), reached, counted: Events::default() });
            self.shared = Some(bytes);
        }
        self.rest = Some(rest);
        Ok(())
    }
}

impl Rest {
    /// The whole bulk.
    fn bytes(&self, frames: &Frames) -> Result<Bytes, Gone> {
        match &self.source {
            Source::Own(remainder) => remainder.get().ok_or(Gone),
            Source::Cache(entry, kept) => {
                let entry = entry.upgrade().ok_or(Gone)?;
                // It was encoded before, so it can be again.
                frames.bulk_again(&entry, *kept).map_err(|_| Gone)
            }
        }
    }
}
