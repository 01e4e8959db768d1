//! From the bytes of a body to an object of the expected kind and version, with upstream's refusals and field validation.

use super::Scope;
use super::options::FieldValidation;
use crate::codec::{self, Decoded};
use crate::error::ApiResult;
use crate::negotiate::{Format, JSON, YAML};
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::normalize::{StrictIssue, strict_error};
use nauplius_meta::schema;
use serde_json::Value;

/// Bytes of a body that are quoted in a refusal; upstream's.
const MAX_QUOTED: usize = 30;

/// Decodes an object that must be of `expected`.
pub(crate) fn decode_body(
    scope: &Scope,
    body: &[u8],
    format: Format,
    expected: &GroupVersionKind,
    validation: FieldValidation,
) -> ApiResult<Value> {
    let schema = scope.schema_of(expected);
    if schema.is_some() && format == Format::Protobuf {
        return Err(ApiError::UnsupportedMediaType([JSON, YAML].map(str::to_owned).to_vec()));
    }
    let decoded = codec::decode(body, format, expected, schema).map_err(|error| match error {
        codec::DecodeError::NotAnObject { message } => unrecognized(expected, &message, body),
        codec::DecodeError::WrongType { kind, message } => cannot_handle(&kind, expected, &message),
    })?;
    check_kind(&decoded, expected)?;
    judge(scope, expected, decoded, validation)
}

fn unrecognized(expected: &GroupVersionKind, message: &str, body: &[u8]) -> ApiError {
    let quoted: String = String::from_utf8_lossy(body).chars().take(MAX_QUOTED).collect();
    let dots = if body.len() > MAX_QUOTED { " ..." } else { "" };
    let kind = &expected.kind;
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {message} ({}{dots})",
        hex_or_text(body, &quoted)
    ))
}

/// Upstream quotes text as it is and other bytes in hex.
fn hex_or_text(body: &[u8], quoted: &str) -> String {
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    if matches!(body.first(), Some(b'{')) {
        return quoted.to_owned();
    }
    body.iter().take(MAX_QUOTED).map(|byte| format!("{byte:02x}")).collect()
}

fn cannot_handle(own: &GroupVersionKind, expected: &GroupVersionKind, message: &str) -> ApiError {
    ApiError::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {message}",
        own.kind, own.version, expected.kind
    ))
}

fn check_kind(decoded: &Decoded, expected: &GroupVersionKind) -> ApiResult<()> {
    let own = &decoded.gvk;
    if let Some(problem) = kind_problem(own, expected) {
        return Err(cannot_handle(own, expected, &problem));
    }
    if own.group != expected.group || own.version != expected.version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            own.api_version(),
            expected.api_version()
        )));
    }
    Ok(())
}

/// Why an object that says that it is of one kind cannot be made one of another.
pub(super) fn kind_problem(own: &GroupVersionKind, expected: &GroupVersionKind) -> Option<String> {
    if own != expected && schema::lookup_kind(own).is_none() {
        return Some(not_registered(own));
    }
    (own.kind != expected.kind).then(|| {
        format!(
            "converting ({}.{}) to ({}.{}): unknown conversion",
            own.version,
            own.kind,
            internal_package(&expected.group),
            expected.kind
        )
    })
}

fn not_registered(kind: &GroupVersionKind) -> String {
    format!(
        "no kind {:?} is registered for version {:?} in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
        kind.kind,
        kind.api_version()
    )
}

/// The Go package of a group's own types, which upstream's messages name.
pub(crate) fn internal_package(group: &str) -> &str {
    if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) }
}

/// What unknown and duplicate fields earn.
pub(crate) fn judge(
    scope: &Scope,
    expected: &GroupVersionKind,
    decoded: Decoded,
    validation: FieldValidation,
) -> ApiResult<Value> {
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => {
            scope.call.warnings.extend(decoded.strict.iter().flat_map(StrictIssue::warnings))
        }
        FieldValidation::Strict if decoded.strict.is_empty() => {}
        FieldValidation::Strict => {
            return Err(cannot_handle(&decoded.gvk, expected, &strict_error(&decoded.strict)));
        }
    }
    Ok(decoded.object)
}
