//! A sorted set of entries that is cheap to copy: chunks behind shared pointers, copied only when a writer changes one that a
//! reader still holds. A reader keeps its snapshot for as long as it streams, without any lock.

use super::{Entry, prefetch};
use std::sync::Arc;

/// A chunk is split in two beyond this many entries: small enough to copy for one write, big enough to keep the list of chunks
/// short.
const MAX_CHUNK: usize = 128;
/// How far ahead entries are fetched, and their bytes: a copy takes about as long as half a fetch.
const FETCHED_ENTRIES: usize = 8;
const FETCHED_BYTES: usize = 3;

/// Entries in the order of their keys.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    chunks: Arc<Vec<Arc<Vec<Arc<Entry>>>>>,
    len: usize,
}

/// A place in a snapshot, before an entry or at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    chunk: usize,
    index: usize,
}

impl Position {
    /// Whether a chunk begins here.
    pub fn is_first_of_chunk(self) -> bool {
        self.index == 0
    }
}

impl Snapshot {
    /// A snapshot of entries that are already in order.
    pub fn from_sorted(entries: Vec<Arc<Entry>>) -> Self {
        let len = entries.len();
        let mut chunks = Vec::with_capacity(len / MAX_CHUNK + 1);
        let mut rest = entries.into_iter();
        loop {
            let chunk: Vec<_> = rest.by_ref().take(MAX_CHUNK).collect();
            if chunk.is_empty() {
                break;
            }
            chunks.push(Arc::new(chunk));
        }
        Self { chunks: Arc::new(chunks), len }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        let position = self.seek(key);
        self.at(position).filter(|entry| entry.key() == key)
    }

    /// The place of the first entry at or after `key`.
    pub fn seek(&self, key: &[u8]) -> Position {
        let after = self.chunks.partition_point(|chunk| chunk[0].key().as_ref() <= key);
        let Some(chunk) = after.checked_sub(1) else { return Position::default() };
        let index = self.chunks[chunk].partition_point(|entry| entry.key().as_ref() < key);
        self.normal(Position { chunk, index })
    }

    fn normal(&self, position: Position) -> Position {
        let within = self.chunks.get(position.chunk).is_none_or(|chunk| position.index < chunk.len());
        if within { position } else { Position { chunk: position.chunk + 1, index: 0 } }
    }

    /// The entry behind a place.
    pub fn at(&self, position: Position) -> Option<&Arc<Entry>> {
        self.chunks.get(position.chunk)?.get(position.index)
    }

    /// Says that entries from this place on will be read, one after the other: those a little ahead are fetched, and what was fetched of
    /// them before leads to their bytes.
    pub fn ahead_of(&self, position: Position) {
        let Some(chunk) = self.chunks.get(position.chunk) else { return };
        if let Some(entry) = chunk.get(position.index + FETCHED_ENTRIES) {
            prefetch::entry(entry);
        }
        if let Some(entry) = chunk.get(position.index + FETCHED_BYTES) {
            prefetch::bytes(entry.stored());
        }
    }

    /// The place after this one.
    pub fn after(&self, position: Position) -> Position {
        self.normal(Position { chunk: position.chunk, index: position.index + 1 })
    }

    /// Lets go of the entries of the chunk before a place, for who reads on from there alone.
    pub fn leave_behind(&mut self, position: Position) {
        let Some(behind) = position.chunk.checked_sub(1) else { return };
        if self.chunks.get(behind).is_some_and(|chunk| !chunk.is_empty()) {
            Arc::make_mut(&mut self.chunks)[behind] = Arc::default();
        }
    }

    /// How many entries stand from one place up to another.
    pub fn between(&self, from: Position, to: Position) -> usize {
        if to <= from {
            return 0;
        }
        let before: usize = self.chunks[from.chunk..to.chunk].iter().map(|chunk| chunk.len()).sum();
        before + to.index - from.index
    }

    /// All entries whose keys begin with `prefix`.
    pub fn with_prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.from(self.seek(prefix)).take_while(move |entry| entry.key().starts_with(prefix))
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.from(Position::default())
    }

    fn from(&self, start: Position) -> impl Iterator<Item = &Arc<Entry>> {
        let first = self.chunks.get(start.chunk).into_iter().flat_map(move |chunk| &chunk[start.index..]);
        first.chain(self.chunks.iter().skip(start.chunk + 1).flat_map(|chunk| chunk.iter()))
    }

    /// Puts an entry in; the one with the same key comes out.
    pub fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let chunks = Arc::make_mut(&mut self.chunks);
        let at = chunks.partition_point(|chunk| chunk[0].key() <= entry.key()).saturating_sub(1);
        let Some(chunk) = chunks.get_mut(at) else {
            chunks.push(Arc::new(vec![entry]));
            self.len += 1;
            return None;
        };
        let entries = Arc::make_mut(chunk);
        match entries.binary_search_by(|own| own.key().cmp(entry.key())) {
            Ok(index) => Some(std::mem::replace(&mut entries[index], entry)),
            Err(index) => {
                entries.insert(index, entry);
                self.len += 1;
                if entries.len() > MAX_CHUNK {
                    let appended = index + 1 == entries.len();
                    // Keys often come in order (generated lists, events): then the old chunk stays full.
                    let upper = entries.split_off(if appended { MAX_CHUNK } else { MAX_CHUNK / 2 });
                    chunks.insert(at + 1, Arc::new(upper));
                }
                None
            }
        }
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<Entry>> {
        let at = self.chunks.partition_point(|chunk| chunk[0].key().as_ref() <= key).checked_sub(1)?;
        let index = self.chunks[at].binary_search_by(|own| own.key().as_ref().cmp(key)).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let entries = Arc::make_mut(&mut chunks[at]);
        let removed = entries.remove(index);
        if entries.is_empty() {
            chunks.remove(at);
        }
        self.len -= 1;
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests_support::entry;
    use std::collections::BTreeMap;

    #[test]
    fn it_behaves_like_a_map_and_old_copies_stay() {
        let mut snapshot = Snapshot::default();
        let mut model = BTreeMap::new();
        let mut state = 7_u64;
        for round in 0..4_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = format!("ns/{:04}", (state >> 33) % 700);
            if (state >> 20).is_multiple_of(3) {
                let removed = snapshot.remove(key.as_bytes()).map(|entry| entry.revision());
                assert_eq!(removed, model.remove(&key));
            } else {
                let replaced = snapshot.insert(entry(&key, round)).map(|entry| entry.revision());
                assert_eq!(replaced, model.insert(key, round));
            }
            assert_eq!(snapshot.len(), model.len());
        }
        let seen: Vec<_> = snapshot.iter().map(|entry| entry.path().to_owned()).collect();
        assert_eq!(seen, model.keys().cloned().collect::<Vec<_>>());
        let copy = snapshot.clone();
        for key in model.keys() {
            assert!(snapshot.get(key.as_bytes()).is_some());
            snapshot.remove(key.as_bytes());
        }
        assert!(snapshot.is_empty());
        assert_eq!(copy.len(), model.len());
        assert_eq!(copy.iter().count(), model.len());
    }

    #[test]
    fn seeking_and_prefixes() {
        let entries =
            (0..500).map(|n| entry(&format!("{}/{n:03}", if n < 300 { "a" } else { "b" }), n)).collect();
        let snapshot = Snapshot::from_sorted(entries);
        assert_eq!(snapshot.with_prefix(b"a/").count(), 300);
        assert_eq!(snapshot.with_prefix(b"b/").count(), 200);
        assert_eq!(snapshot.with_prefix(b"c/").count(), 0);
        assert_eq!(snapshot.at(snapshot.seek(b"a/128")).unwrap().path(), "a/128");
        assert_eq!(snapshot.at(snapshot.seek(b"a/2999")).unwrap().path(), "b/300");
        assert!(snapshot.at(snapshot.seek(b"z")).is_none());
        for (from, to, count) in
            [("a/", "b/", 300), ("a/100", "b/450", 350), ("b/", "z", 200), ("z", "z", 0), ("b/", "a/", 0)]
        {
            let [from, to] = [from, to].map(|key| snapshot.seek(key.as_bytes()));
            assert_eq!(snapshot.between(from, to), count);
        }
    }
}
