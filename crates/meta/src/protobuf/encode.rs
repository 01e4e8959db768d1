//! Trees to messages, byte for byte as upstream's generated code writes them: values that are no pointers are always there, maps are
//! sorted by key. It must not know the envelope.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::ProtobufError;
use super::wire::Writer;
use crate::object::Object;
use crate::schema::{Container, Field, Kind, TypeRef, lookup_type};
use crate::time;

type Encoded<T = ()> = Result<T, ProtobufError>;

pub(super) fn message(value: &Value, ty: TypeRef) -> Encoded<Writer> {
    match value {
        Value::Object(fields) => fields_of(fields, ty),
        Value::Null => fields_of(&Map::new(), ty),
        _ => Err(ProtobufError::Mismatch(ty.name().to_owned())),
    }
}

fn fields_of(fields: &Object, ty: TypeRef) -> Encoded<Writer> {
    let mut out = Writer::default();
    for field in ty.fields().iter().filter(|field| field.number() > 0) {
        if let (true, Kind::Struct(inner)) = (field.is_inline(), field.kind()) {
            out.message(field.number(), fields_of(fields, inner)?);
            continue;
        }
        let value = fields.get(field.name()).filter(|value| !value.is_null());
        match (field.container(), value) {
            (Container::None, Some(value)) => single(&mut out, field, field.number(), value)?,
            (Container::None, None) if field.is_pointer() => {}
            (Container::None, None) => zero(&mut out, field)?,
            (Container::List, Some(value)) => {
                for item in value.as_array().ok_or_else(|| mismatch(field))? {
                    single(&mut out, field, field.number(), item)?;
                }
            }
            (Container::Map, Some(value)) => entries(&mut out, field, value)?,
            (Container::List | Container::Map, None) => {}
        }
    }
    Ok(out)
}

fn mismatch(field: &Field) -> ProtobufError {
    ProtobufError::Mismatch(field.name().to_owned())
}

fn entries(out: &mut Writer, field: &Field, value: &Value) -> Encoded {
    let entries = value.as_object().ok_or_else(|| mismatch(field))?;
    // The map may keep the order of insertion, depending on what else is built.
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in sorted {
        let mut entry = Writer::default();
        entry.bytes(1, key.as_bytes());
        if !(field.kind() == Kind::Bytes && value.is_null()) {
            single(&mut entry, field, 2, value)?;
        }
        out.message(field.number(), entry);
    }
    Ok(())
}

/// What a missing value that is no pointer is written as.
pub(super) fn zero(out: &mut Writer, field: &Field) -> Encoded {
    let number = field.number();
    match field.kind() {
        Kind::String => out.bytes(number, b""),
        Kind::Bool | Kind::Int32 | Kind::Int64 => out.varint(number, 0),
        Kind::Float => out.double(number, 0.0),
        // Nil slices are not written.
        Kind::Bytes | Kind::StringList => {}
        Kind::Struct(ty) => out.message(number, fields_of(&Map::new(), ty)?),
        Kind::Quantity => single(out, field, number, &Value::from("0"))?,
        Kind::IntOrString => single(out, field, number, &Value::from(0))?,
        Kind::Duration => single(out, field, number, &Value::from("0s"))?,
        Kind::Time | Kind::MicroTime | Kind::RawExtension | Kind::FieldsV1 | Kind::Json => {
            out.bytes(number, b"")
        }
        Kind::SchemaOrArray | Kind::SchemaOrStrings => out.bytes(number, b""),
        Kind::SchemaOrBool => single(out, field, number, &Value::Bool(false))?,
    }
    Ok(())
}

pub(super) fn single(out: &mut Writer, field: &Field, number: u32, value: &Value) -> Encoded {
    let wrong = || mismatch(field);
    match field.kind() {
        Kind::String => out.bytes(number, value.as_str().ok_or_else(wrong)?.as_bytes()),
        Kind::Bool => out.varint(number, value.as_bool().ok_or_else(wrong)?.into()),
        Kind::Int32 | Kind::Int64 => out.varint(number, value.as_i64().ok_or_else(wrong)?),
        Kind::Float => out.double(number, value.as_f64().ok_or_else(wrong)?),
        Kind::Bytes => {
            let text = if value.is_null() { "" } else { value.as_str().ok_or_else(wrong)? };
            out.bytes(number, &STANDARD.decode(text).map_err(|_| wrong())?);
        }
        Kind::Struct(ty) => out.message(number, message(value, ty)?),
        _ => {
            let message = wrapped(field, value)?;
            out.message(number, message);
        }
    }
    Ok(())
}

/// The values that protobuf wraps into messages of their own.
fn wrapped(field: &Field, value: &Value) -> Encoded<Writer> {
    let wrong = || mismatch(field);
    let mut out = Writer::default();
    match field.kind() {
        Kind::Quantity => out.bytes(1, value.as_str().ok_or_else(wrong)?.as_bytes()),
        Kind::Time | Kind::MicroTime if value.is_null() => {}
        Kind::Time => {
            let at = time::parse(value.as_str().ok_or_else(wrong)?).map_err(|_| wrong())?;
            out.varint(1, at.as_second());
            out.varint(2, 0);
        }
        Kind::MicroTime => {
            let at = time::parse_micro(value.as_str().ok_or_else(wrong)?).map_err(|_| wrong())?;
            // Times before 1970 count seconds down and nanoseconds up.
            let nanos = at.as_nanosecond();
            out.varint(1, nanos.div_euclid(1_000_000_000) as i64);
            out.varint(2, (nanos.rem_euclid(1_000_000_000) / 1_000 * 1_000) as i64);
        }
        Kind::Duration => {
            let span = time::Duration::parse(value.as_str().ok_or_else(wrong)?).map_err(|_| wrong())?;
            out.varint(1, span.0);
        }
        Kind::IntOrString => {
            out.varint(1, value.is_string().into());
            out.varint(2, value.as_i64().unwrap_or(0));
            out.bytes(3, value.as_str().unwrap_or_default().as_bytes());
        }
        Kind::RawExtension | Kind::FieldsV1 | Kind::Json if value.is_null() => {}
        Kind::RawExtension | Kind::FieldsV1 | Kind::Json => out.bytes(1, &crate::json::encode(value)),
        Kind::StringList => strings(&mut out, 1, value).ok_or_else(wrong)?,
        Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => return schema_or(field, value),
        Kind::String
        | Kind::Bool
        | Kind::Int32
        | Kind::Int64
        | Kind::Float
        | Kind::Bytes
        | Kind::Struct(_) => {
            unreachable!("these are not wrapped")
        }
    }
    Ok(out)
}

fn strings(out: &mut Writer, number: u32, value: &Value) -> Option<()> {
    for item in value.as_array().map_or(&[][..], Vec::as_slice) {
        out.bytes(number, item.as_str()?.as_bytes());
    }
    Some(())
}

fn schema_or(field: &Field, value: &Value) -> Encoded<Writer> {
    let schema =
        lookup_type("apiextensions/v1", "JSONSchemaProps").expect("the table has the type of JSON schemas");
    let mut out = Writer::default();
    match (field.kind(), value) {
        (Kind::SchemaOrBool, Value::Bool(allows)) => out.varint(1, (*allows).into()),
        (Kind::SchemaOrBool, Value::Object(_)) => {
            out.varint(1, 1);
            out.message(2, message(value, schema)?);
        }
        (Kind::SchemaOrArray | Kind::SchemaOrStrings, Value::Object(_)) => {
            out.message(1, message(value, schema)?)
        }
        (Kind::SchemaOrArray, Value::Array(items)) => {
            for item in items {
                out.message(2, message(item, schema)?);
            }
        }
        (Kind::SchemaOrStrings, Value::Array(_)) => {
            strings(&mut out, 2, value).ok_or_else(|| mismatch(field))?
        }
        _ => return Err(mismatch(field)),
    }
    Ok(out)
}
