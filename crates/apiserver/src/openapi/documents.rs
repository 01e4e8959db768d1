//! The documents that were made so far. Each is made when it is first asked for, piece by piece, and kept compressed; the index needs only the
//! hash of each, so it keeps no bytes. It knows nothing of requests.

use super::parts::{self, Part};
use super::{v2, v3};
use crate::registry::Served;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use nauplius_descriptions::Descriptions;
use nauplius_kinds::Kind;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
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
    /// SHA-512, as upstream hashes documents, in capital hexadecimal digits.
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
#[derive(Default)]
pub(crate) struct Documents {
    made: Mutex<HashMap<Key, (Stamp, Arc<Document>)>>,
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
            Key::V3(name) => Self::of_part(parts::named(name).as_ref(), served),
            _ => Self::Whole(served.generation()),
        }
    }

    fn of_part(part: Option<&Part>, served: &Served) -> Self {
        Self::Part(part.map(|part| part.kinds(served.kinds()).cloned().collect()).unwrap_or_default())
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
        let mut packing = Packing::new();
        let descriptions = Descriptions::read();
        match &key {
            Key::V2Json => v2::write_json(kinds, &descriptions, &mut packing)?,
            Key::V2Protobuf => v2::write_protobuf(kinds, &descriptions, &mut packing)?,
            Key::Index => packing.write_all(self.index(served, &descriptions)?.to_string().as_bytes())?,
            Key::V3(name) => {
                let Some(part) = parts::all(kinds).into_iter().find(|part| part.name() == *name) else {
                    self.made.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                    return Ok(None);
                };
                v3::write(&part, kinds, &descriptions, &mut packing)?;
            }
        }
        let document = Arc::new(packing.finish()?);
        let made = (Stamp::of(&key, served), Arc::clone(&document));
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made);
        Ok(Some(document))
    }

    /// `/openapi/v3`: where each part's document is, with its hash, so that clients keep it for good.
    fn index(&self, served: &Served, descriptions: &Descriptions) -> io::Result<Value> {
        let mut paths = Map::new();
        let mut fresh = HashMap::new();
        for part in parts::all(served.kinds()) {
            let (name, stamp) = (part.name(), Stamp::of_part(Some(&part), served));
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
        self.0.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
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
