//! Checks single values and makes them canonical. It must not know where they stand.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{DecodeError, Target, Walker};
use crate::quantity::Quantity;
use crate::schema::Kind;
use crate::time;

pub(super) fn check(walker: &Walker, target: Target<'_>, value: &mut Value) -> Result<(), DecodeError> {
    let fits = match target.field.kind() {
        Kind::String => value.is_string(),
        Kind::Bool => value.is_boolean(),
        Kind::Int32 => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Kind::Int64 => value.as_i64().is_some(),
        Kind::Float => value.is_number(),
        Kind::FieldsV1 | Kind::RawExtension | Kind::Json => true,
        Kind::Bytes => return bytes(walker, target, value),
        Kind::IntOrString => return int_or_string(value),
        Kind::Quantity => {
            *value = Value::String(Quantity::from_value(value)?.to_string());
            true
        }
        Kind::Time => {
            *value = Value::String(time::format(time::parse(text_of(value)?)?));
            true
        }
        Kind::MicroTime => {
            *value = Value::String(time::format_micro(time::parse_micro(text_of(value)?)?));
            true
        }
        Kind::Duration => {
            *value = Value::String(time::Duration::parse(text_of(value)?)?.to_string());
            true
        }
        Kind::StringList
        | Kind::SchemaOrArray
        | Kind::SchemaOrBool
        | Kind::SchemaOrStrings
        | Kind::Struct(_) => false,
    };
    if fits { Ok(()) } else { Err(walker.mismatch(target, value, false)) }
}

/// Values that read themselves read a string first, whose error names no field.
fn text_of(value: &Value) -> Result<&str, DecodeError> {
    value.as_str().ok_or_else(|| DecodeError::value(value, "string".to_owned()))
}

fn int_or_string(value: &Value) -> Result<(), DecodeError> {
    let fits = value.is_string() || value.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
    if fits { Ok(()) } else { Err(DecodeError::value(value, "int32".to_owned())) }
}

/// Go's decoder overlooks line ends in base64; what is kept has none.
fn bytes(walker: &Walker, target: Target<'_>, value: &mut Value) -> Result<(), DecodeError> {
    let Value::String(text) = value else { return Err(walker.mismatch(target, value, false)) };
    if text.contains(['\n', '\r']) {
        text.retain(|c| !matches!(c, '\n' | '\r'));
    }
    match STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(DecodeError::Base64(at))
        }
        Err(base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding) => {
            Err(DecodeError::Base64(text.len()))
        }
    }
}
