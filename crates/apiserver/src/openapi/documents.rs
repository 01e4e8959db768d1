//! The documents that were made so far. Each is made when it is first asked for, piece by piece, and kept compressed; the index needs only the
//! hash of each, so it keeps no bytes. It knows nothing of requests.

use super::fragments::Fragments;
use super::segment::Joined;
use super::v2::Form;
use super::{parts, v3};
use crate::registry::Served;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use nauplius_descriptions::Descriptions;
use nauplius_kinds::Kind;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use std::cell::LazyCell;
use std::collections::HashMap;
use std::io::{self, Read as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Which document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    V2Json,
    V2Protobuf,
    /// The index of v3.
    Index,
    /// A part by its name.
    V3(String),
}

/// A document.
pub(super) struct Document {
    /// SHA-512, as upstream hashes documents, in capital hexadecimal digits; of the hashes of its pieces where it is joined from some.
    pub(super) hash: String,
    /// gzip
    packed: Bytes,
    length: usize,
}

impl Document {
    /// The compressed bytes.
    pub(super) fn packed(&self) -> Bytes {
        self.packed.clone()
    }

    /// The bytes as they are, for clients that do not take gzip.
    pub(super) fn unpacked(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.length);
        GzDecoder::new(&self.packed[..]).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The documents of one server. Each is good as long as what it describes is served; those of other parts stay when custom resources
/// come and go.
pub(crate) struct Documents {
    made: Mutex<HashMap<Key, (Stamp, Arc<Document>)>>,
    /// Of version 2, as JSON and as protobuf.
    fragments: [Fragments; 2],
    /// The hashes of parts by their names, for the index.
    hashes: Mutex<HashMap<String, (Stamp, String)>>,
}

/// What a document was made from: everything that is served, or the kinds of one part.
enum Stamp {
    Whole(u64),
    Part(Vec<Arc<dyn Kind>>),
}

impl Stamp {
    fn of(key: &Key, served: &Served) -> Self {
        match key {
            Key::V3(name) => {
                let part = parts::of_resources(name);
                let kinds = part.map(|part| part.kinds(served.kinds()).cloned().collect());
                Self::Part(kinds.unwrap_or_default())
            }
            _ => Self::Whole(served.generation()),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(own), Self::Whole(other)) => own == other,
            (Self::Part(own), Self::Part(other)) => {
                own.len() == other.len() && own.iter().zip(other).all(|(own, other)| Arc::ptr_eq(own, other))
            }
            _ => false,
        }
    }
}

impl Default for Documents {
    fn default() -> Self {
        let fragments = [Form::Json, Form::Protobuf].map(Fragments::new);
        Self { made: Mutex::default(), fragments, hashes: Mutex::default() }
    }
}

impl Documents {
    /// The document, if it was asked for before and is still good.
    pub(super) fn known(&self, key: &Key, served: &Served) -> Option<Arc<Document>> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let (stamp, document) = made.get(key)?;
        stamp.is(&Stamp::of(key, served)).then(|| Arc::clone(document))
    }

    /// Makes the document; `None` when there is no such part. Two that ask at once both make it, which is cheaper than waiting.
    pub(super) fn make(&self, key: Key, served: &Served) -> io::Result<Option<Arc<Document>>> {
        let kinds = served.kinds();
        let descriptions: LazyCell<Descriptions> = LazyCell::new(Descriptions::read);
        let [json, protobuf] = &self.fragments;
        let document = match &key {
            Key::V2Json => Document::joined(json.join(kinds, &descriptions)?),
            Key::V2Protobuf => Document::joined(protobuf.join(kinds, &descriptions)?),
            Key::Index => {
                let index = self.index(served, &descriptions)?.to_string();
                Document::packing(|out| out.write_all(index.as_bytes()))?
            }
            Key::V3(name) => {
                let part = parts::named(name, kinds);
                let Some(part) = part else {
                    self.made.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                    return Ok(None);
                };
                Document::packing(|out| v3::write(&part, kinds, &descriptions, out))?
            }
        };
        let document = Arc::new(document);
        let made = (Stamp::of(&key, served), Arc::clone(&document));
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made);
        Ok(Some(document))
    }

    /// `/openapi/v3`: where each part's document is, with its hash, so that clients keep it for good.
    fn index(&self, served: &Served, descriptions: &LazyCell<Descriptions>) -> io::Result<Value> {
        let mut paths = Map::new();
        let mut fresh = HashMap::new();
        for (part, own) in parts::with_kinds(served.kinds()) {
            let (name, stamp) = (part.name(), Stamp::Part(own));
            let hash = match self.hash_of(&name, &stamp) {
                Some(hash) => hash,
                None => {
                    let mut hashing = Hashing::default();
                    v3::write(&part, served.kinds(), descriptions, &mut hashing)?;
                    hashing.finish()
                }
            };
            paths.insert(name.clone(), json!({ "serverRelativeURL": url(&name, &hash) }));
            fresh.insert(name, (stamp, hash));
        }
        *self.hashes.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(json!({ "paths": paths }))
    }

    fn hash_of(&self, name: &str, stamp: &Stamp) -> Option<String> {
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.get(name).filter(|(own, _)| own.is(stamp)).map(|(_, hash)| hash.clone())
    }
}

/// Where a part's document is.
pub(super) fn url(part: &str, hash: &str) -> String {
    format!("/openapi/v3/{part}?hash={hash}")
}

#[derive(Default)]
struct Hashing(Sha512);

impl Hashing {
    fn finish(self) -> String {
        hexadecimal(&self.0.finalize())
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Document {
    /// What `write` writes.
    fn packing(write: impl FnOnce(&mut Packing) -> io::Result<()>) -> io::Result<Self> {
        let mut packing = Packing::new();
        write(&mut packing)?;
        packing.finish()
    }

    fn joined(joined: Joined) -> Self {
        let (packed, length, hash) = joined.finish();
        Self { hash: hexadecimal(&hash), packed, length }
    }
}

/// In capital digits.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

struct Packing {
    hashing: Hashing,
    encoder: GzEncoder<Vec<u8>>,
    length: usize,
}

impl Packing {
    fn new() -> Self {
        let encoder = GzEncoder::new(Vec::new(), Compression::default());
        Self { hashing: Hashing::default(), encoder, length: 0 }
    }

    fn finish(self) -> io::Result<Document> {
        let packed = self.encoder.finish()?.into_boxed_slice();
        Ok(Document { hash: self.hashing.finish(), packed: packed.into_vec().into(), length: self.length })
    }
}

impl Write for Packing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encoder.write_all(bytes)?;
        self.hashing.write_all(bytes)?;
        self.length += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}
