//! Formats: JSON, YAML and protobuf to trees and back, through the schema tables of `meta`.

use crate::error::ApiResult;
use crate::negotiate::Format;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupVersionKind;
use serde_json::Value;

/// An object out of a body.
pub(crate) struct Decoded {
    /// Normalised.
    pub object: Value,
    /// What it says it is; the expected kind where it says nothing.
    pub gvk: GroupVersionKind,
    /// Unknown and duplicate fields, in upstream's words.
    pub strict: Vec<String>,
}

/// Why bytes are no object of the expected kind.
pub(crate) enum DecodeError {
    /// Not an object at all.
    NotAnObject { message: String },
    /// A field has the wrong type.
    #[allow(dead_code)] // Built where schemas are checked.
    WrongType { kind: GroupVersionKind, message: String },
}

/// Decodes a body that should be of `expected`.
pub(crate) fn decode(
    body: &[u8],
    format: Format,
    expected: &GroupVersionKind,
) -> Result<Decoded, DecodeError> {
    let object = decode_tree(body, format).map_err(|message| DecodeError::NotAnObject { message })?;
    if !object.is_object() {
        return Err(DecodeError::NotAnObject { message: "the body is not an object".to_owned() });
    }
    let gvk = stated(&object, expected)?;
    Ok(Decoded { object, gvk, strict: Vec::new() })
}

fn stated(object: &Value, expected: &GroupVersionKind) -> Result<GroupVersionKind, DecodeError> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    if kind.is_empty() && api_version.is_empty() {
        return Ok(expected.clone());
    }
    let group_version = nauplius_meta::gvk::GroupVersion::parse(api_version)
        .map_err(|error| DecodeError::NotAnObject { message: error.to_string() })?;
    let kind = if kind.is_empty() { expected.kind.as_str() } else { kind };
    if api_version.is_empty() {
        return Ok(GroupVersionKind::new(expected.group.as_str(), expected.version.as_str(), kind));
    }
    Ok(group_version.with_kind(kind))
}

/// Bytes to a tree, without a schema.
pub(crate) fn decode_tree(body: &[u8], format: Format) -> Result<Value, String> {
    match format {
        Format::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
        Format::Yaml => Err("YAML bodies are not read yet; send application/json".to_owned()),
        Format::Protobuf => Err("protobuf bodies are not read yet; send application/json".to_owned()),
    }
}

/// A tree as YAML.
pub(crate) fn to_yaml(_value: &Value) -> ApiResult<Vec<u8>> {
    Err(ApiError::NotAcceptable(vec!["application/json".to_owned()]))
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
