//! What watchers of a resource were just sent. Those who stand at the same change and see the same objects in the same form are sent the
//! same bytes, which the first of them made; what they see is an opaque text here. Kept for as long as there is room, in a bound for all
//! resources together: a watcher that finds nothing makes its own.

use super::remains::Remains;
use crate::metrics::Events;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bytes of pieces that are kept in all.
const MAX_BYTES: usize = 2 << 20;
/// Pieces of one resource that are looked through.
const MAX_RECENT: usize = 16;
/// Objects of one resource that are looked through: more than a watcher is sent at once.
const MAX_RECENT_OBJECTS: usize = 128;
/// A piece beyond this is not worth its room.
const MAX_PIECE_BYTES: usize = 64 << 10;

/// Where a watch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// So many of the objects were sent that there were after the resource's change at a revision.
    Within { snapshot: i64, sent: usize },
    /// All changes up to a revision were sent, and so many of the next one's.
    After { revision: i64, sent: usize },
    /// At one change's object, in its form before or after the change.
    Object { revision: i64, number: usize, before: bool },
    /// So many bytes into one change's object.
    Part { revision: i64, number: usize, before: bool, sent: usize },
}

impl Place {
    /// So many bytes into this object; `None` for what is no object.
    pub fn part(self, sent: usize) -> Option<Self> {
        match self {
            Self::Object { revision, number, before } => Some(Self::Part { revision, number, before, sent }),
            Self::Within { .. } | Self::After { .. } | Self::Part { .. } => None,
        }
    }

    /// Whether both are among objects, or both among changes.
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Some events in a row, as bytes.
pub(crate) struct Piece {
    pub bytes: Bytes,
    /// Where a watch stands that has sent them.
    pub reached: Place,
    /// Their number and sizes.
    pub counted: Events,
}

/// Keeps the newest pieces of all resources.
#[derive(Default)]
pub(crate) struct Shelf {
    kept: Mutex<Kept>,
    remains: Arc<Remains>,
}

#[derive(Default)]
struct Kept {
    pieces: VecDeque<Arc<Piece>>,
    bytes: usize,
}

impl Shelf {
    fn put(&self, piece: Arc<Piece>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += piece.bytes.len();
        kept.pieces.push_back(piece);
        while kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.pieces.pop_front() else { return };
            kept.bytes -= oldest.bytes.len();
        }
    }
}

/// The newest pieces of one resource.
pub(crate) struct Pieces {
    recent: Mutex<VecDeque<Recent>>,
    most: usize,
    shelf: Arc<Shelf>,
}

struct Recent {
    seen: Arc<str>,
    from: Place,
    piece: Weak<Piece>,
}

impl Pieces {
    /// None yet.
    pub fn new(shelf: Arc<Shelf>) -> Self {
        Self { recent: Mutex::default(), most: MAX_RECENT, shelf }
    }

    /// For single objects in forms that have to be made, which watchers share whatever else they see.
    pub fn of_objects(shelf: Arc<Shelf>) -> Self {
        Self { most: MAX_RECENT_OBJECTS, ..Self::new(shelf) }
    }

    /// What is left of objects that were made for single watchers, of all resources.
    pub fn remains(&self) -> &Arc<Remains> {
        &self.shelf.remains
    }

    /// The events after a place, as watchers that see `seen` get them.
    pub fn find(&self, seen: &str, from: Place) -> Option<Arc<Piece>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().rev().find(|recent| recent.from == from && *recent.seen == *seen)?;
        found.piece.upgrade()
    }

    /// Keeps what was made for one watcher.
    pub fn keep(&self, seen: &Arc<str>, from: Place, piece: Piece) {
        if piece.bytes.len() > MAX_PIECE_BYTES {
            return;
        }
        let piece = Arc::new(piece);
        let entry = Recent { seen: Arc::clone(seen), from, piece: Arc::downgrade(&piece) };
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.len() == self.most {
                recent.pop_front();
            }
            recent.push_back(entry);
        }
        self.shelf.put(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(revision: i64) -> Place {
        Place::After { revision, sent: 0 }
    }

    fn piece(bytes: usize, reached: i64) -> Piece {
        Piece { bytes: vec![b'x'; bytes].into(), reached: after(reached), counted: Events::default() }
    }

    #[test]
    fn a_piece_is_found_by_who_sees_the_same_from_the_same_place() {
        let pieces = Pieces::new(Arc::default());
        let (all, some): (Arc<str>, Arc<str>) = ("all".into(), "some".into());
        pieces.keep(&all, after(3), piece(10, 4));
        pieces.keep(&some, after(3), piece(20, 5));
        let found = |seen: &str, from| pieces.find(seen, from).map(|piece| piece.reached);
        assert_eq!(found("all", after(3)), Some(after(4)));
        assert_eq!(found("some", after(3)), Some(after(5)));
        assert_eq!(found("none", after(3)), None);
        assert_eq!(found("all", Place::After { revision: 3, sent: 1 }), None);
        assert_eq!(found("all", after(4)), None);
        assert_eq!(found("all", Place::Within { snapshot: 3, sent: 0 }), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let shelf = Arc::<Shelf>::default();
        let resources: Vec<_> = (0..100).map(|_| Pieces::new(Arc::clone(&shelf))).collect();
        let seen: Arc<str> = "all".into();
        for revision in 0..40 {
            for pieces in &resources {
                pieces.keep(&seen, after(revision), piece(16 << 10, revision + 1));
            }
        }
        let kept = shelf.kept.lock().unwrap();
        assert!(kept.bytes <= MAX_BYTES && kept.pieces.len() == MAX_BYTES / (16 << 10));
        assert_eq!(kept.bytes, kept.pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>());
        drop(kept);
        assert!(resources.iter().all(|pieces| pieces.recent.lock().unwrap().len() <= MAX_RECENT));
        assert!(resources[99].find(&seen, after(39)).is_some());
        assert!(resources[0].find(&seen, after(0)).is_none());
        resources[0].keep(&seen, after(99), piece(MAX_PIECE_BYTES + 1, 100));
        assert!(resources[0].find(&seen, after(99)).is_none());
    }
}
