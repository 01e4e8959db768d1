//! Kubernetes' protobuf encoding of trees, transcoded by the schema table, and the envelope around it. It must not know kinds beyond
//! what the table says.
mod decode;
mod encode;
mod transcode;
mod wire;

use serde_json::Value;

use crate::gvk::GroupVersionKind;
use crate::normalize::{self, DecodeError, Mode};
use crate::schema::TypeRef;

use wire::{Reader, Writer};

/// What every enveloped message starts with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// How deep messages may nest.
pub const MAX_DEPTH: usize = 100;

/// Why bytes are no object, or an object has no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The envelope's prefix is missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// The bytes end inside a field.
    #[error("unexpected EOF")]
    End,
    /// A number has too many bytes.
    #[error("proto: integer overflow")]
    Overflow,
    /// A field has no number.
    #[error("proto: illegal tag {0}")]
    Tag(u64),
    /// A field is written in another way than its type is.
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WireType {
        /// How it is written.
        wire: u8,
        /// Which field.
        field: String,
    },
    /// Messages nest too deeply.
    #[error("proto: messages nest deeper than {MAX_DEPTH}")]
    TooDeep,
    /// An embedded object is neither JSON nor a known enveloped message.
    #[error("an embedded object cannot be read: {0}")]
    Embedded(String),
    /// The fields hold what their types do not allow.
    #[error(transparent)]
    Value(#[from] DecodeError),
    /// The tree does not fit the type, so it was not normalised.
    #[error("field {0} does not have the type that its schema says")]
    Mismatch(String),
}

/// What stands around a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope<'a> {
    /// The `apiVersion`; may be empty.
    pub api_version: String,
    /// The `kind`; may be empty.
    pub kind: String,
    /// The message.
    pub raw: &'a [u8],
    /// How the message is compressed; mostly empty.
    pub content_encoding: String,
    /// What the message is if it is no protobuf; mostly empty.
    pub content_type: String,
}

impl Envelope<'_> {
    /// What the message is said to be; an odd `apiVersion` gives `None`.
    pub fn gvk(&self) -> Option<GroupVersionKind> {
        // The text says by itself what is wrong with it.
        Some(crate::gvk::GroupVersion::parse(&self.api_version).ok()?.with_kind(&self.kind))
    }
}

/// Opens the envelope.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    let body = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let mut envelope = Envelope::default();
    let mut reader = Reader::new(body);
    while let Some((number, wire)) = reader.tag()? {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match number {
            1 => {
                let mut meta = Reader::new(reader.bytes(wire, "typeMeta")?);
                while let Some((number, wire)) = meta.tag()? {
                    match number {
                        1 => envelope.api_version = text(meta.bytes(wire, "apiVersion")?),
                        2 => envelope.kind = text(meta.bytes(wire, "kind")?),
                        _ => meta.skip(wire)?,
                    }
                }
            }
            2 => envelope.raw = reader.bytes(wire, "raw")?,
            3 => envelope.content_encoding = text(reader.bytes(wire, "contentEncoding")?),
            4 => envelope.content_type = text(reader.bytes(wire, "contentType")?),
            _ => reader.skip(wire)?,
        }
    }
    Ok(envelope)
}

/// Puts a message into an envelope.
pub fn seal(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut meta = Writer::default();
    meta.bytes(1, api_version.as_bytes());
    meta.bytes(2, kind.as_bytes());
    let mut body = Writer::default();
    body.message(1, meta);
    body.bytes(2, message);
    body.bytes(3, b"");
    body.bytes(4, b"");
    let body = body.finish();
    let mut bytes = Vec::with_capacity(MAGIC.len() + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads an enveloped object of the type. What the envelope says it is becomes its `apiVersion` and `kind`.
pub fn decode(bytes: &[u8], ty: TypeRef) -> Result<Value, ProtobufError> {
    let envelope = open(bytes)?;
    let mut value = decode_message(envelope.raw, ty)?;
    name(&mut value, &envelope);
    Ok(value)
}

fn name(value: &mut Value, envelope: &Envelope<'_>) {
    for (key, text) in [("apiVersion", &envelope.api_version), ("kind", &envelope.kind)] {
        if let (Value::Object(fields), false) = (&mut *value, text.is_empty()) {
            fields.insert(key.to_owned(), Value::from(text.as_str()));
        }
    }
}

/// Reads a message of the type, without an envelope.
pub fn decode_message(bytes: &[u8], ty: TypeRef) -> Result<Value, ProtobufError> {
    let mut value = decode::message(bytes, ty, MAX_DEPTH)?;
    // The message has every field; which of them are left out in JSON is known there.
    normalize::normalize(&mut value, ty, Mode::Full)?;
    Ok(value)
}

/// Writes a normalised object into an envelope.
pub fn encode(value: &Value, ty: TypeRef) -> Result<Vec<u8>, ProtobufError> {
    let message = encode_message(value, ty)?;
    let text = |key| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = if ty.is_kind() { (text("apiVersion"), text("kind")) } else { ("", "") };
    Ok(seal(api_version, kind, &message))
}

/// Writes a normalised object, without an envelope.
pub fn encode_message(value: &Value, ty: TypeRef) -> Result<Vec<u8>, ProtobufError> {
    encode::message(value, ty).map(Writer::finish)
}

/// What [`encode_message`] writes of the object that these bytes are as JSON, without making a tree of them; an object that does not fit
/// its type gives `None`, and its tree says why.
pub fn transcode_message(json: &[u8], ty: TypeRef) -> Option<Vec<u8>> {
    transcode::message(json, ty).ok()
}

/// Writes one event of a watch as it stands in a stream: a length of four bytes, then a WatchEvent without an envelope, which holds the
/// enveloped object.
pub fn watch_frame(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Writer::default();
    raw.bytes(1, object);
    let mut event = Writer::default();
    event.bytes(1, event_type.as_bytes());
    event.message(2, raw);
    let event = event.finish();
    let mut frame = Vec::with_capacity(event.len() + 4);
    frame.extend_from_slice(&(event.len() as u32).to_be_bytes());
    frame.extend_from_slice(&event);
    frame
}

/// What stands before and after a message of `message_bytes` in the frame that [`watch_frame`] makes of its envelope.
pub fn watch_frame_around(
    event_type: &str,
    api_version: &str,
    kind: &str,
    message_bytes: usize,
) -> (Vec<u8>, &'static [u8]) {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&seal_head(api_version, kind, message_bytes));
    let object_bytes = head.len() + message_bytes + SEAL_TAIL.len();
    let mut raw = Writer::default();
    raw.bytes_head(1, object_bytes);
    let raw = raw.finish();
    let mut event = Writer::default();
    event.bytes(1, event_type.as_bytes());
    event.bytes_head(2, raw.len() + object_bytes);
    let event = event.finish();
    let length = event.len() + raw.len() + object_bytes;
    let mut frame = Vec::with_capacity(64);
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    for part in [&event, &raw, &head] {
        frame.extend_from_slice(part);
    }
    (frame, SEAL_TAIL)
}

/// The end of an envelope: no encoding, no content type.
const SEAL_TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

/// What stands before a message of `message_bytes` in an envelope, after the magic.
fn seal_head(api_version: &str, kind: &str, message_bytes: usize) -> Vec<u8> {
    let mut meta = Writer::default();
    meta.bytes(1, api_version.as_bytes());
    meta.bytes(2, kind.as_bytes());
    let mut body = Writer::default();
    body.message(1, meta);
    body.bytes_head(2, message_bytes);
    body.finish()
}

/// What stands before and after the items of an enveloped list, as [`encode_list`] writes it. Together the items, each behind what
/// [`list_item_head`] writes, take `items_bytes`.
pub fn list_frame(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items_bytes: usize,
) -> Result<(Vec<u8>, &'static [u8]), ProtobufError> {
    let list_meta = crate::schema::lookup_type("meta/v1", "ListMeta").expect("the table has ListMeta");
    let mut list = Writer::default();
    list.message(1, encode::message(metadata, list_meta)?);
    let list = list.finish();
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&seal_head(api_version, kind, list.len() + items_bytes));
    head.extend_from_slice(&list);
    Ok((head, SEAL_TAIL))
}

/// Writes what stands before an item of a list.
pub fn write_list_item_head(out: &mut Vec<u8>, message_bytes: usize) {
    let mut head = Writer::after(std::mem::take(out));
    head.bytes_head(2, message_bytes);
    *out = head.finish();
}

/// How long that is.
pub fn list_item_head_bytes(message_bytes: usize) -> usize {
    1 + wire::varint_bytes(message_bytes as u64)
}

/// Writes an enveloped list of messages that are encoded already: `metadata` is a ListMeta, `items` the messages without envelopes.
pub fn encode_list<'a>(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, ProtobufError> {
    let list_meta = crate::schema::lookup_type("meta/v1", "ListMeta").expect("the table has ListMeta");
    let mut list = Writer::default();
    list.message(1, encode::message(metadata, list_meta)?);
    for item in items {
        list.bytes(2, item);
    }
    Ok(seal(api_version, kind, &list.finish()))
}
