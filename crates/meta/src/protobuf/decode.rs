//! Messages to trees. It must not know the envelope, and it leaves zero values to `normalize`.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::ProtobufError;
use super::wire::{BYTES, Reader, VARINT};
use crate::object::Object;
use crate::schema::{Container, Field, Kind, TypeRef, lookup_kind, lookup_type};
use crate::time;

type Decoded<T = Value> = Result<T, ProtobufError>;

pub(super) fn message(bytes: &[u8], ty: TypeRef, depth: usize) -> Decoded {
    let mut fields = Map::new();
    fields_of(bytes, ty, depth, &mut fields)?;
    Ok(Value::Object(fields))
}

fn fields_of(bytes: &[u8], ty: TypeRef, depth: usize, fields: &mut Object) -> Decoded<()> {
    let depth = depth.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        let Some(field) = ty.fields().iter().find(|field| field.number() == number) else {
            reader.skip(wire)?;
            continue;
        };
        if let (true, Kind::Struct(inner)) = (field.is_inline(), field.kind()) {
            fields_of(reader.bytes(wire, inner.name())?, inner, depth, fields)?;
            continue;
        }
        match field.container() {
            Container::None => {
                let value = single(&mut reader, wire, field, depth)?;
                fields.insert(field.name().to_owned(), value);
            }
            Container::List => {
                let list = fields.entry(field.name()).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = list else { continue };
                if wire == BYTES && is_varint(field.kind()) {
                    packed(reader.bytes(wire, field.name())?, field, depth, items)?;
                } else {
                    items.push(single(&mut reader, wire, field, depth)?);
                }
            }
            Container::Map => {
                let (key, value) = entry(reader.bytes(wire, field.name())?, field, depth)?;
                let map = fields.entry(field.name()).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entries) = map {
                    entries.insert(key, value);
                }
            }
        }
    }
    Ok(())
}

fn is_varint(kind: Kind) -> bool {
    matches!(kind, Kind::Bool | Kind::Int32 | Kind::Int64)
}

fn packed(bytes: &[u8], field: &Field, depth: usize, items: &mut Vec<Value>) -> Decoded<()> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        items.push(single(&mut reader, VARINT, field, depth)?);
    }
    Ok(())
}

fn entry(bytes: &[u8], field: &Field, depth: usize) -> Decoded<(String, Value)> {
    let (mut key, mut value) = (String::new(), Value::Null);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match number {
            1 => key = text(reader.bytes(wire, field.name())?),
            2 => value = single(&mut reader, wire, field, depth)?,
            _ => reader.skip(wire)?,
        }
    }
    Ok((key, value))
}

/// Go's JSON encoder replaces what is no UTF-8 as well.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn single(reader: &mut Reader<'_>, wire: u8, field: &Field, depth: usize) -> Decoded {
    let name = field.name();
    Ok(match field.kind() {
        Kind::String => Value::String(text(reader.bytes(wire, name)?)),
        Kind::Bool => Value::Bool(reader.varint(wire, name)? != 0),
        // The number is cut to its type as in C.
        Kind::Int32 => Value::from(reader.varint(wire, name)? as i32),
        Kind::Int64 => Value::from(reader.varint(wire, name)? as i64),
        Kind::Float => Value::from(reader.double(wire, name)?),
        Kind::Bytes => Value::String(STANDARD.encode(reader.bytes(wire, name)?)),
        Kind::Struct(ty) => message(reader.bytes(wire, name)?, ty, depth)?,
        _ => wrapped(reader.bytes(wire, name)?, field, depth)?,
    })
}

/// The parts of a small message, each the last one that was written.
#[derive(Default)]
struct Parts<'a> {
    numbers: [i64; 4],
    bytes: [Option<&'a [u8]>; 4],
    lists: Vec<(u32, &'a [u8])>,
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8], name: &str) -> Decoded<Self> {
        let mut parts = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.tag()? {
            match (number, wire) {
                (1..4, VARINT) => parts.numbers[number as usize] = reader.varint(wire, name)? as i64,
                (1..4, BYTES) => {
                    let part = reader.bytes(wire, name)?;
                    parts.bytes[number as usize] = Some(part);
                    parts.lists.push((number, part));
                }
                _ => reader.skip(wire)?,
            }
        }
        Ok(parts)
    }

    fn text(&self, number: usize) -> String {
        text(self.bytes[number].unwrap_or_default())
    }
}

fn wrapped(bytes: &[u8], field: &Field, depth: usize) -> Decoded {
    let parts = Parts::read(bytes, field.name())?;
    Ok(match field.kind() {
        Kind::Quantity => Value::String(parts.text(1)),
        Kind::Time | Kind::MicroTime => instant(&parts, field)?,
        Kind::Duration => Value::String(time::Duration(parts.numbers[1]).to_string()),
        Kind::IntOrString if parts.numbers[1] == 1 => Value::String(parts.text(3)),
        Kind::IntOrString => Value::from(parts.numbers[2] as i32),
        Kind::RawExtension | Kind::FieldsV1 | Kind::Json => embedded(parts.bytes[1], depth)?,
        Kind::StringList => list(&parts, 1, |part| Ok(Value::String(text(part))))?,
        _ => schema_or(&parts, field.kind(), depth)?,
    })
}

fn instant(parts: &Parts<'_>, field: &Field) -> Decoded {
    let (seconds, nanos) = (parts.numbers[1], parts.numbers[2] as i32);
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let at = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Mismatch(field.name().to_owned()))?;
    let micro = field.kind() == Kind::MicroTime;
    Ok(Value::String(if micro { time::format_micro(at) } else { time::format(at) }))
}

/// An embedded object is JSON, or a message in an envelope of its own.
fn embedded(raw: Option<&[u8]>, depth: usize) -> Decoded {
    let Some(raw) = raw.filter(|raw| !raw.is_empty()) else { return Ok(Value::Null) };
    if !raw.starts_with(super::MAGIC) {
        return crate::json::decode(raw).map_err(|error| ProtobufError::Embedded(error.to_string()));
    }
    let envelope = super::open(raw)?;
    let ty = envelope.gvk().and_then(|gvk| lookup_kind(&gvk));
    let ty =
        ty.ok_or_else(|| ProtobufError::Embedded(format!("{} {}", envelope.api_version, envelope.kind)))?;
    let mut value = message(envelope.raw, ty, depth)?;
    crate::normalize::normalize(&mut value, ty, crate::normalize::Mode::Full)?;
    super::name(&mut value, &envelope);
    Ok(value)
}

fn list(parts: &Parts<'_>, number: u32, read: impl Fn(&[u8]) -> Decoded) -> Decoded {
    let items = parts.lists.iter().filter(|(part, _)| *part == number);
    items.map(|(_, bytes)| read(bytes)).collect::<Decoded<Vec<_>>>().map(Value::Array)
}

fn schema_or(parts: &Parts<'_>, kind: Kind, depth: usize) -> Decoded {
    let schema =
        lookup_type("apiextensions/v1", "JSONSchemaProps").expect("the table has the type of JSON schemas");
    let props = |bytes: &[u8]| message(bytes, schema, depth);
    match kind {
        Kind::SchemaOrBool => match parts.bytes[2] {
            Some(bytes) => props(bytes),
            None => Ok(Value::Bool(parts.numbers[1] != 0)),
        },
        _ => match parts.bytes[1] {
            Some(bytes) => props(bytes),
            None if kind == Kind::SchemaOrArray => list(parts, 2, props),
            None => list(parts, 2, |part| Ok(Value::String(text(part)))),
        },
    }
}
