//! Trees to CBOR. Keys of maps are sorted as RFC 8949 asks of deterministic encodings.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium_ll::{Encoder, Header, simple};
use serde_json::{Map, Number, Value};

use super::{BASE64, MAGIC};
use crate::gvk::GroupVersionKind;
use crate::schema::{Container, Kind, TypeRef, lookup_kind};

const MAX_HEADER_BYTES: usize = 9;

/// What is known of a value.
#[derive(Clone, Copy)]
enum Shape {
    /// Nothing; an object that says of what kind it is, is of that kind.
    Unknown,
    Of(Kind),
    Several(Kind),
}

impl Shape {
    fn of(ty: Option<TypeRef>) -> Self {
        ty.map_or(Self::Unknown, |ty| Self::Of(Kind::Struct(ty)))
    }

    /// Of what one list or map of values holds.
    fn element(self) -> Self {
        match self {
            Self::Several(kind) => Self::Of(kind),
            Self::Of(Kind::StringList) => Self::Of(Kind::String),
            _ => Self::Unknown,
        }
    }
}

/// A document: a tree behind [`MAGIC`].
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    write(&mut out, value, None);
    out
}

/// Appends a tree; of type `ty` where it does not say itself of what kind it is.
pub fn write(out: &mut Vec<u8>, value: &Value, ty: Option<TypeRef>) {
    item(out, value, Shape::of(ty));
}

/// The beginning of a watch event: its object, a document, follows.
pub fn event_head(out: &mut Vec<u8>, event: &str) {
    out.extend_from_slice(&MAGIC);
    push(out, Header::Map(Some(2)));
    string(out, "type");
    string(out, event);
    string(out, "object");
}

/// The beginning of a document that is a map of so many entries.
pub fn list_head(out: &mut Vec<u8>, entries: usize) {
    out.extend_from_slice(&MAGIC);
    push(out, Header::Map(Some(entries)));
}

/// An entry of a map.
pub fn entry(out: &mut Vec<u8>, key: &str, value: &Value) {
    string(out, key);
    item(out, value, Shape::Unknown);
}

/// The beginning of an entry of a map that is a list of so many elements.
pub fn array_head(out: &mut Vec<u8>, key: &str, elements: usize) {
    string(out, key);
    push(out, Header::Array(Some(elements)));
}

fn push(out: &mut Vec<u8>, header: Header) {
    let mut room = [0; MAX_HEADER_BYTES];
    let mut free = &mut room[..];
    Encoder::from(&mut free).push(header).expect("a header has room");
    let written = MAX_HEADER_BYTES - free.len();
    out.extend_from_slice(&room[..written]);
}

/// Upstream writes strings as byte strings: those need not be checked.
fn string(out: &mut Vec<u8>, text: &str) {
    push(out, Header::Bytes(Some(text.len())));
    out.extend_from_slice(text.as_bytes());
}

fn item(out: &mut Vec<u8>, value: &Value, shape: Shape) {
    match value {
        Value::Null => push(out, Header::Simple(simple::NULL)),
        Value::Bool(value) => push(out, Header::Simple(if *value { simple::TRUE } else { simple::FALSE })),
        Value::Number(value) => number(out, value),
        Value::String(text) => text_or_bytes(out, text, shape),
        Value::Array(items) => {
            push(out, Header::Array(Some(items.len())));
            items.iter().for_each(|value| item(out, value, shape.element()));
        }
        Value::Object(fields) => object(out, fields, value, shape),
    }
}

fn number(out: &mut Vec<u8>, number: &Number) {
    let header = match (number.as_u64(), number.as_i64()) {
        (Some(value), _) => Header::Positive(value),
        (None, Some(value)) => Header::Negative((-1 - value).unsigned_abs()),
        (None, None) => Header::Float(number.as_f64().unwrap_or_default()),
    };
    push(out, header);
}

fn text_or_bytes(out: &mut Vec<u8>, text: &str, shape: Shape) {
    let bytes = match shape {
        Shape::Of(Kind::Bytes) => STANDARD.decode(text).ok(),
        _ => None,
    };
    let Some(bytes) = bytes else { return string(out, text) };
    push(out, Header::Tag(BASE64));
    push(out, Header::Bytes(Some(bytes.len())));
    out.extend_from_slice(&bytes);
}

fn object(out: &mut Vec<u8>, fields: &Map<String, Value>, whole: &Value, shape: Shape) {
    let ty = match shape {
        Shape::Of(Kind::Struct(ty)) => Some(ty),
        Shape::Unknown if fields.contains_key("kind") && fields.contains_key("apiVersion") => {
            GroupVersionKind::of(whole).ok().and_then(|kind| lookup_kind(&kind))
        }
        _ => None,
    };
    let mut sorted: Vec<_> = fields.iter().collect();
    // The order of the encoded keys: the length comes first in them.
    sorted.sort_unstable_by_key(|(key, _)| (key.len(), *key));
    push(out, Header::Map(Some(fields.len())));
    for (key, value) in sorted {
        string(out, key);
        let field = ty.and_then(|ty| ty.field(key));
        let inner = match (field, shape) {
            (Some(field), _) if field.container() == Container::None => Shape::Of(field.kind()),
            (Some(field), _) => Shape::Several(field.kind()),
            (None, Shape::Several(kind)) => Shape::Of(kind),
            (None, _) => Shape::Unknown,
        };
        item(out, value, inner);
    }
}
