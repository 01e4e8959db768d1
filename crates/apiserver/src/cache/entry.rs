//! One object as the cache holds it: its encoded bytes and what selectors need. The bytes are the hub version without
//! resourceVersion; the revision is spliced in on the way out. See `encode` for the layout.

use crate::encode::{self, Layout};
use bytes::Bytes;
use nauplius_kinds::Kind;
use nauplius_store::{KeyValue, Revision};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes of protobuf messages that entries keep, all together: this much, or as much as the objects themselves take. Those that are made
/// beyond it are made again for the next reader.
const MIN_KEPT_BYTES: usize = 32 << 20;
/// Messages of objects so large are always kept: readers who stop in the middle come back for the rest.
const LARGE_BYTES: usize = 64 << 10;
static KEPT_BYTES: AtomicUsize = AtomicUsize::new(0);
static STORED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Stored bytes that are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the object stored at {key} cannot be read: {reason}")]
pub struct UnreadableObject {
    /// Its key.
    pub key: String,
    /// What the decoder said.
    pub reason: String,
}

/// An object at one revision. Shared between the snapshot, the ring of events and whoever reads.
#[derive(Debug)]
pub struct Entry {
    key: Bytes,
    value: Stored,
    layout: Layout,
    revision: i64,
    path_at: usize,
    labels: Box<[(Box<str>, Box<str>)]>,
    fields: Box<[Box<str>]>,
    selectable: Selectable,
    message: OnceLock<Message>,
    measured: Measured,
}

/// An object's encoded bytes, counted.
#[derive(Debug)]
struct Stored(Bytes);

impl Stored {
    fn new(bytes: Bytes) -> Self {
        STORED_BYTES.fetch_add(bytes.len(), Ordering::Relaxed);
        Self(bytes)
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        STORED_BYTES.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

/// The size of the protobuf message in the version that was made last, remembered when the message is not: what stands before a list of
/// messages says how long they are.
#[derive(Debug, Default)]
struct Measured(AtomicU64);

impl Measured {
    /// Nothing is remembered of what does not fit: it is measured again.
    fn set(&self, version: usize, bytes: usize) {
        if let (Ok(version), Ok(bytes)) = (u32::try_from(version + 1), u32::try_from(bytes)) {
            self.0.store(u64::from(version) << 32 | u64::from(bytes), Ordering::Relaxed);
        }
    }

    fn get(&self, version: usize) -> Option<usize> {
        let measured = self.0.load(Ordering::Relaxed);
        #[allow(clippy::cast_possible_truncation)] // The two halves.
        let (of, bytes) = ((measured >> 32) as usize, measured as u32 as usize);
        (of == version + 1).then_some(bytes)
    }
}

/// The names of selectable fields: fixed for built-in kinds, shared by the objects of a custom resource.
#[derive(Debug, Clone)]
enum Selectable {
    Fixed(&'static [&'static str]),
    Shared(Arc<[Box<str>]>),
}

impl Selectable {
    fn of(kind: &dyn Kind) -> Self {
        match kind.named_fields() {
            Some(names) => Self::Shared(Arc::clone(names)),
            None => Self::Fixed(kind.selectable_fields()),
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Fixed(names) => names.to_vec(),
            Self::Shared(names) => names.iter().map(|name| &**name).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Fixed(names) => names.is_empty(),
            Self::Shared(names) => names.is_empty(),
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        match self {
            Self::Fixed(names) => names.iter().position(|own| *own == name),
            Self::Shared(names) => names.iter().position(|own| **own == *name),
        }
    }
}

/// An object's protobuf message, kept for the next reader.
#[derive(Debug)]
struct Message {
    version: usize,
    bytes: Bytes,
}

impl Drop for Message {
    fn drop(&mut self) {
        KEPT_BYTES.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[derive(Deserialize)]
struct Head {
    metadata: HeadMeta,
}

#[derive(Deserialize)]
struct HeadMeta {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Entry {
    /// Reads what selectors need from a stored object. `path_at` is the length of the resource's key prefix.
    ///
    /// # Errors
    /// When the bytes are no object.
    pub fn from_stored(kind: &dyn Kind, path_at: usize, mut kv: KeyValue) -> Result<Self, UnreadableObject> {
        if kind.schema().is_some()
            && let Some(refreshed) = refreshed(kind, &kv)?
        {
            kv.value = refreshed;
        }
        let unreadable =
            |reason: String| UnreadableObject { key: String::from_utf8_lossy(&kv.key).into_owned(), reason };
        let selectable = Selectable::of(kind);
        let (labels, fields) = if selectable.is_empty() {
            let head: Head =
                serde_json::from_slice(&kv.value).map_err(|error| unreadable(error.to_string()))?;
            (head.metadata.labels, Vec::new())
        } else {
            let object: Value =
                serde_json::from_slice(&kv.value).map_err(|error| unreadable(error.to_string()))?;
            let fields = selectable
                .names()
                .iter()
                .map(|name| kind.selectable_field(&object, name).into_boxed_str())
                .collect();
            (labels_of(&object), fields)
        };
        let layout =
            Layout::of(&kv.value).ok_or_else(|| unreadable("it has no metadata in front".to_owned()))?;
        std::str::from_utf8(&kv.key).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self {
            revision: kv.mod_revision.0,
            key: kv.key,
            value: Stored::new(kv.value),
            layout,
            path_at,
            labels: labels.into_iter().map(|(k, v)| (k.into_boxed_str(), v.into_boxed_str())).collect(),
            fields: fields.into_boxed_slice(),
            selectable,
            message: OnceLock::new(),
            measured: Measured::default(),
        })
    }

    /// The same entry with its object in another version, which `kind` is of.
    ///
    /// # Errors
    /// When it is no object.
    pub(crate) fn with_object(
        &self,
        kind: &dyn Kind,
        object: &Value,
        api_version: &str,
    ) -> Result<Self, UnreadableObject> {
        let failed = |reason: String| UnreadableObject { key: self.path().to_owned(), reason };
        let value = encode::encode_stored(object, &kind.descriptor().kind, api_version)
            .map_err(|error| failed(error.to_string()))?;
        let revision = Revision(self.revision);
        let kv = KeyValue {
            key: self.key.clone(),
            value: value.into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: None,
        };
        Self::from_stored(kind, self.path_at, kv)
    }

    /// The whole store key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// `namespace/name`, or `name` for cluster-scoped objects.
    pub fn path(&self) -> &str {
        std::str::from_utf8(&self.key[self.path_at..]).expect("the constructor checked the key")
    }

    /// The namespace, empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.path().split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.path().rsplit_once('/').map_or(self.path(), |(_, name)| name)
    }

    /// The revision that wrote this form.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The stored bytes, without resourceVersion.
    pub fn stored(&self) -> &Bytes {
        &self.value.0
    }

    /// Where to cut the stored bytes.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(own, _)| &**own == name).map(|(_, value)| &**value)
    }

    /// All labels, sorted by name.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of a selectable field; `None` when the kind has no such field.
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            other => self.selectable.position(other).map(|index| &*self.fields[index]),
        }
    }

    /// The object in its hub version with its resourceVersion, decoded.
    ///
    /// # Errors
    /// When the stored bytes are no JSON object.
    pub fn object(&self) -> Result<Value, UnreadableObject> {
        encode::decode_stored(self.stored(), self.revision)
            .map_err(|reason| UnreadableObject { key: self.path().to_owned(), reason })
    }

    /// The whole object as JSON with its resourceVersion, for typed decoding.
    pub fn json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.stored().len() + 40);
        encode::write_object(&mut out, self.stored(), self.layout, self.revision, None);
        out
    }

    /// The object's protobuf message in a served version of its own kind: made by `make`, at most once while there is room to keep it.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn message<E>(&self, version: usize, make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Bytes, E> {
        if let Some(kept) = self.message.get().filter(|kept| kept.version == version) {
            return Ok(kept.bytes.clone());
        }
        let made = make()?;
        self.measured.set(version, made.len());
        let kept = KEPT_BYTES.fetch_add(made.len(), Ordering::Relaxed) + made.len();
        let most = STORED_BYTES.load(Ordering::Relaxed).max(MIN_KEPT_BYTES);
        if kept > most && made.len() <= LARGE_BYTES {
            KEPT_BYTES.fetch_sub(made.len(), Ordering::Relaxed);
            return Ok(made.into());
        }
        // What it was made in may be larger.
        let bytes = Bytes::copy_from_slice(&made);
        // Another reader's, or another version's, may be there already: then this one is not kept.
        let _ = self.message.set(Message { version, bytes: bytes.clone() });
        Ok(bytes)
    }

    /// The size of that message, if it was made before.
    pub fn message_bytes(&self, version: usize) -> Option<usize> {
        let kept = self.message.get().filter(|kept| kept.version == version);
        kept.map(|kept| kept.bytes.len()).or_else(|| self.measured.get(version))
    }

    /// Bytes held, near enough for a bound.
    pub fn footprint(&self) -> usize {
        size_of::<Self>() + self.key.len() + self.stored().len()
    }
}

/// The bytes of a custom resource's object after its definition has changed, if that makes a difference.
fn refreshed(kind: &dyn Kind, kv: &KeyValue) -> Result<Option<Bytes>, UnreadableObject> {
    let unreadable =
        |reason: String| UnreadableObject { key: String::from_utf8_lossy(&kv.key).into_owned(), reason };
    let stored: Value = serde_json::from_slice(&kv.value).map_err(|error| unreadable(error.to_string()))?;
    let mut object = stored.clone();
    kind.refresh_stored(&mut object);
    if object == stored {
        return Ok(None);
    }
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let encoded = encode::encode_stored(&object, &kind.descriptor().kind, api_version);
    encoded.map(|bytes| Some(bytes.into())).map_err(|error| unreadable(error.to_string()))
}

fn labels_of(object: &Value) -> BTreeMap<String, String> {
    let labels = object["metadata"]["labels"].as_object();
    labels
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::{Entry, Measured, Selectable, Stored};
    use crate::encode::{Layout, encode_stored};
    use bytes::Bytes;
    use serde_json::json;
    use std::sync::{Arc, OnceLock};

    /// An entry whose whole key is its path.
    pub fn entry(path: &str, revision: i64) -> Arc<Entry> {
        labelled(path, revision, &[])
    }

    /// An entry with labels.
    pub fn labelled(path: &str, revision: i64, labels: &[(&str, &str)]) -> Arc<Entry> {
        let value = encode_stored(&json!({"metadata": {"name": path}}), "ConfigMap", "v1").unwrap();
        Arc::new(Entry {
            key: Bytes::copy_from_slice(path.as_bytes()),
            layout: Layout::of(&value).unwrap(),
            value: Stored::new(value.into()),
            revision,
            path_at: 0,
            labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            fields: Box::default(),
            selectable: Selectable::Fixed(&[]),
            message: OnceLock::new(),
            measured: Measured::default(),
        })
    }
}
