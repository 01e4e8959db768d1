//! Formats: JSON, YAML and protobuf to trees and back, normalised by the schema tables of `meta`. What a kind makes of an object is
//! not known here.

use crate::error::ApiResult;
use crate::negotiate::Format;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::{GroupVersion, GroupVersionKind};
use nauplius_meta::normalize::{self, Mode, StrictIssue};
use nauplius_meta::protobuf::{self, ProtobufError};
use nauplius_meta::structural::{self, Schema};
use nauplius_meta::{cbor, json, schema, yaml};
use serde_json::{Map, Value};

/// What upstream says of JSON in which it does not even find a kind.
const UNREADABLE_JSON: &str = "couldn't get version/kind; json parse error: ";
/// The same of CBOR.
const UNREADABLE_CBOR: &str = "unable to determine group/version/kind: ";
/// Where upstream registers the options of deletions.
const META_SCHEME: &str = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27";
/// The structure that upstream reads first.
const HEAD: &str = "Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; \
                    Kind string \"json:\\\"kind,omitempty\\\"\" }";

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
    schema: Option<&Schema>,
) -> Result<Decoded, DecodeError> {
    if format == Format::Protobuf {
        return decode_protobuf(body, expected);
    }
    let read = read_object(body, format).map_err(|message| DecodeError::NotAnObject { message })?;
    let mut object = read.value;
    let gvk = stated(&object, expected)?;
    let mut strict = duplicates(read.duplicates, body, format);
    if gvk == *expected {
        strict.extend(normalise(&mut object, &gvk, schema)?);
    }
    Ok(Decoded { object, gvk, strict })
}

/// Bytes to the fields of an object, which may be of any kind; an error is in upstream's words.
fn read_object(body: &[u8], format: Format) -> Result<json::Decoded, String> {
    let prefix = match format {
        Format::Json => UNREADABLE_JSON,
        Format::Cbor => UNREADABLE_CBOR,
        Format::Yaml | Format::Protobuf => "",
    };
    let mut read = tree(body, format).map_err(|message| format!("{prefix}{message}"))?;
    if read.value.is_null() {
        // Go reads null as a structure without fields.
        read.value = Value::Object(Map::new());
    }
    if !read.value.is_object() {
        let kind = json::kind_of(&read.value);
        return Err(format!("{UNREADABLE_JSON}json: cannot unmarshal {kind} into {HEAD}"));
    }
    Ok(read)
}

/// Decodes the options of a deletion, which may say that they are of any group and version.
///
/// # Errors
/// What upstream says, which no client is told as its own mistake.
pub(crate) fn decode_delete_options(body: &[u8], format: Format) -> Result<Value, String> {
    let mut object = read_object(body, format)?.value;
    let expected = GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
    let text = |error| match error {
        DecodeError::NotAnObject { message } | DecodeError::WrongType { message, .. } => message,
    };
    let own = stated(&object, &expected).map_err(text)?;
    if own.kind != expected.kind {
        return Err(format!(
            "no kind {:?} is registered for version {:?} in scheme {META_SCHEME:?}",
            own.kind,
            own.api_version()
        ));
    }
    normalise(&mut object, &expected, None).map_err(text)?;
    Ok(object)
}

/// YAML tells duplicates by their lines.
fn duplicates(paths: Vec<String>, body: &[u8], format: Format) -> Vec<StrictIssue> {
    match std::str::from_utf8(body) {
        Ok(text) if format == Format::Yaml && !paths.is_empty() => {
            vec![StrictIssue::DuplicateKeys(yaml::duplicate_keys(text))]
        }
        _ => paths.into_iter().map(StrictIssue::DuplicateField).collect(),
    }
}

fn decode_protobuf(body: &[u8], expected: &GroupVersionKind) -> Result<Decoded, DecodeError> {
    let not_an_object = |error: ProtobufError| DecodeError::NotAnObject { message: error.to_string() };
    let envelope = protobuf::open(body).map_err(not_an_object)?;
    let named = !envelope.kind.is_empty() || !envelope.api_version.is_empty();
    let gvk = if named { envelope.gvk().unwrap_or_else(|| expected.clone()) } else { expected.clone() };
    let object = match schema::lookup_kind(&gvk).filter(|_| gvk == *expected) {
        Some(ty) => protobuf::decode(body, ty).map_err(not_an_object)?,
        None => Value::Null,
    };
    Ok(Decoded { object, gvk, strict: Vec::new() })
}

/// Brings a tree into the form of its kind: a built-in one, or one with a schema. Returns the fields that were dropped.
pub(crate) fn normalise(
    object: &mut Value,
    gvk: &GroupVersionKind,
    schema: Option<&Schema>,
) -> Result<Vec<StrictIssue>, DecodeError> {
    keep_reset(object);
    if let Some(schema) = schema {
        let mut issues = structural::coerce(object, schema)
            .map_err(|error| DecodeError::WrongType { kind: gvk.clone(), message: error.to_string() })?;
        issues.extend(structural::prune(object, schema));
        return Ok(issues);
    }
    let Some(ty) = schema::lookup_kind(gvk) else { return Ok(Vec::new()) };
    normalize::normalize(object, ty, Mode::Full)
        .map_err(|error| DecodeError::WrongType { kind: gvk.clone(), message: error.to_string() })
}

/// An empty list is nothing once it was stored, but of managed fields it says that they are to be forgotten; one empty entry says the same.
fn keep_reset(object: &mut Value) {
    let entries = object.get_mut("metadata").and_then(|metadata| metadata.get_mut("managedFields"));
    if let Some(entries) = entries.filter(|entries| entries.as_array().is_some_and(Vec::is_empty)) {
        *entries = serde_json::json!([{}]);
    }
}

/// What a tree says that it is; the expected kind where it says nothing.
pub(crate) fn stated(object: &Value, expected: &GroupVersionKind) -> Result<GroupVersionKind, DecodeError> {
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

/// Bytes to a tree, without a schema, and the fields that stand in it twice.
pub(crate) fn tree(body: &[u8], format: Format) -> Result<json::Decoded, String> {
    match format {
        Format::Json => json::decode_strict(body).map_err(|error| error.to_string()),
        Format::Yaml => {
            let text =
                std::str::from_utf8(body).map_err(|_| "yaml: invalid leading UTF-8 octet".to_owned())?;
            yaml::decode_strict(text).map_err(|error| error.to_string())
        }
        Format::Protobuf => {
            let envelope = protobuf::open(body).map_err(|error| error.to_string())?;
            let kind = envelope.gvk().as_ref().and_then(schema::lookup_kind);
            let ty = kind.ok_or_else(|| format!("no kind {:?} is registered", envelope.kind))?;
            let value = protobuf::decode(body, ty).map_err(|error| error.to_string())?;
            Ok(json::Decoded { value, duplicates: Vec::new() })
        }
        Format::Cbor => {
            let value = cbor::decode(body).map_err(|error| error.to_string())?;
            Ok(json::Decoded { value, duplicates: Vec::new() })
        }
    }
}

/// A tree as YAML.
pub(crate) fn to_yaml(value: &Value) -> Vec<u8> {
    yaml::encode(value).into_bytes()
}

/// A tree in Kubernetes' protobuf envelope.
pub(crate) fn to_protobuf(value: &Value) -> ApiResult<Vec<u8>> {
    let kind = GroupVersionKind::of(value).map_err(|error| ApiError::internal(error.to_string()))?;
    let ty = schema::lookup_kind(&kind).ok_or_else(no_protobuf)?;
    protobuf::encode(value, ty).map_err(|error| ApiError::internal(error.to_string()))
}

/// Kinds without a table (custom resources) have no protobuf form.
pub(crate) fn no_protobuf() -> ApiError {
    ApiError::NotAcceptable(Format::OF_TREES.iter().map(|format| format.media_type().to_owned()).collect())
}

/// A watch event in protobuf, with its length in front.
pub(crate) fn protobuf_watch_event(event: &str, object: &Value) -> ApiResult<Vec<u8>> {
    Ok(protobuf::watch_frame(event, &to_protobuf(object)?))
}

/// Decodes a body that must be of `expected`, for resources that are not stored.
pub(crate) fn decode_expected(body: &[u8], format: Format, expected: &GroupVersionKind) -> ApiResult<Value> {
    let decoded = decode(body, format, expected, None).map_err(|error| match error {
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
