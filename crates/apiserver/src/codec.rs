//! Formats: JSON, YAML and protobuf to trees and back, normalised by the schema tables of `meta`. What a kind makes of an object is
//! not known here.

use crate::error::ApiResult;
use crate::negotiate::Format;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::{GroupVersion, GroupVersionKind};
use nauplius_meta::normalize::{self, Mode, StrictIssue};
use nauplius_meta::{json, schema, yaml};
use serde_json::Value;

/// An object out of a body.
pub(crate) struct Decoded {
    /// Normalised.
    pub object: Value,
    /// What it says it is; the expected kind where it says nothing.
    pub gvk: GroupVersionKind,
    /// Unknown and duplicate fields.
    pub strict: Vec<StrictIssue>,
}

/// Why bytes are no object of the expected kind.
pub(crate) enum DecodeError {
    /// Not an object at all.
    NotAnObject { message: String },
    /// A field has the wrong type.
    WrongType { kind: GroupVersionKind, message: String },
}

/// Decodes a body that should be of `expected`. An object of another kind comes back as it is: the caller refuses it.
pub(crate) fn decode(
    body: &[u8],
    format: Format,
    expected: &GroupVersionKind,
) -> Result<Decoded, DecodeError> {
    let tree = tree(body, format).map_err(|message| DecodeError::NotAnObject { message })?;
    let mut object = tree.value;
    if !object.is_object() {
        let message = "json: cannot unmarshal the body into an object".to_owned();
        return Err(DecodeError::NotAnObject { message });
    }
    let gvk = stated(&object, expected)?;
    let mut strict: Vec<StrictIssue> = tree.duplicates.into_iter().map(StrictIssue::DuplicateField).collect();
    if gvk == *expected {
        strict.extend(normalise(&mut object, &gvk)?);
    }
    Ok(Decoded { object, gvk, strict })
}

/// Brings a tree into the form of its kind, when that is a built-in one. Returns the fields that were dropped.
pub(crate) fn normalise(object: &mut Value, gvk: &GroupVersionKind) -> Result<Vec<StrictIssue>, DecodeError> {
    let Some(ty) = schema::lookup_kind(gvk) else { return Ok(Vec::new()) };
    normalize::normalize(object, ty, Mode::Full)
        .map_err(|error| DecodeError::WrongType { kind: gvk.clone(), message: error.to_string() })
}

fn stated(object: &Value, expected: &GroupVersionKind) -> Result<GroupVersionKind, DecodeError> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    if kind.is_empty() && api_version.is_empty() {
        return Ok(expected.clone());
    }
    let kind = if kind.is_empty() { expected.kind.as_str() } else { kind };
    if api_version.is_empty() {
        return Ok(expected.group_version().with_kind(kind));
    }
    let stated = GroupVersion::parse(api_version)
        .map_err(|error| DecodeError::NotAnObject { message: error.to_string() })?;
    Ok(stated.with_kind(kind))
}

fn tree(body: &[u8], format: Format) -> Result<json::Decoded, String> {
    match format {
        Format::Json => json::decode_strict(body).map_err(|error| error.to_string()),
        Format::Yaml => {
            let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
            yaml::decode_strict(text).map_err(|error| error.to_string())
        }
        Format::Protobuf => Err("protobuf bodies are not read yet; send application/json".to_owned()),
    }
}

/// Bytes to a tree, without a schema.
pub(crate) fn decode_tree(body: &[u8], format: Format) -> Result<Value, String> {
    tree(body, format).map(|decoded| decoded.value)
}

/// A tree as YAML.
pub(crate) fn to_yaml(value: &Value) -> Vec<u8> {
    yaml::encode(value).into_bytes()
}

/// A tree in Kubernetes' protobuf envelope.
pub(crate) fn to_protobuf(_value: &Value) -> ApiResult<Vec<u8>> {
    Err(ApiError::NotAcceptable(vec!["application/json".to_owned()]))
}

/// A watch event in protobuf, without its length.
pub(crate) fn protobuf_watch_event(_event: &str, _object: &Value) -> ApiResult<Vec<u8>> {
    Err(ApiError::NotAcceptable(vec!["application/json".to_owned()]))
}

/// Decodes a body that must be of `expected`, for resources that are not stored.
pub(crate) fn decode_expected(body: &[u8], format: Format, expected: &GroupVersionKind) -> ApiResult<Value> {
    let decoded = decode(body, format, expected).map_err(|error| match error {
        DecodeError::NotAnObject { message } | DecodeError::WrongType { message, .. } => {
            ApiError::bad_request(format!("the body is not a {}: {message}", expected.kind))
        }
    })?;
    if decoded.gvk == *expected {
        return Ok(decoded.object);
    }
    Err(ApiError::bad_request(format!(
        "the API version in the data ({}) does not match the expected API version ({})",
        decoded.gvk.api_version(),
        expected.api_version()
    )))
}
