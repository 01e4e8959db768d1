//! Server-side apply: PATCH with a configuration that says which fields its manager wants. Creates what is not there.

use super::create::create_tracked;
use super::lens::Lens;
use super::options::{FieldValidation, WriteOptions};
use super::prepare::set_namespace;
use super::update::{answer, check_name, finish_update};
use super::write::{Existing, Oversize, Step, Transform, Written};
use super::{Scope, convert, managed};
use crate::codec::{self, DecodeError};
use crate::error::ApiResult;
use crate::negotiate::Format;
use crate::request::Attributes;
use crate::respond::Reply;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use nauplius_meta::error::{ApiError, Reason, Status};
use nauplius_meta::{json, object, yaml};
use serde_json::Value;

/// How often an object comes and goes while it is applied to.
const MAX_ROUNDS: usize = 8;
/// What upstream says before it says what is wrong with a configuration.
const CONVERTING: &str = "error converting YAML to JSON: ";

pub(super) async fn apply(scope: &Scope, lens: Lens, bytes: &Bytes, format: Format) -> ApiResult<Reply> {
    let mut options = WriteOptions::of_apply(&scope.call.query)?;
    let config = decode(bytes, format)?;
    let force = scope.call.query.flag("force");
    for _ in 0..MAX_ROUNDS {
        options.object["kind"] = "UpdateOptions".into();
        let mut transform = Apply { scope, lens, config: &config, force, options: &options };
        let written =
            scope.resource.modify(scope.namespace(), scope.name(), &mut transform, options.dry_run).await;
        match written {
            Err(ApiError::NotFound { .. }) if scope.call.info.subresource.is_empty() => {}
            written => return answer(scope, lens, StatusCode::OK, &written?),
        }
        options.object["kind"] = "CreateOptions".into();
        match create(scope, &config, force, &options).await {
            Err(ApiError::AlreadyExists { .. }) => {}
            written => return answer(scope, lens, StatusCode::CREATED, &written?),
        }
    }
    Err(ApiError::ServerTimeout {
        resource: scope.resource.group_resource.clone(),
        operation: "patch".to_owned(),
        retry_after_s: 1,
    })
}

/// A configuration, and the keys that stand in it more than once.
struct Config {
    value: Value,
    duplicates: Vec<String>,
}

impl Config {
    /// Upstream reads strictly what it has applied already.
    fn check(&self, scope: &Scope, validation: FieldValidation) -> ApiResult<()> {
        match validation {
            _ if self.duplicates.is_empty() => {}
            FieldValidation::Ignore => {}
            FieldValidation::Warn => scope.call.warnings.extend(self.duplicates.iter().cloned()),
            FieldValidation::Strict => {
                let errors = yaml::unmarshal_errors(&self.duplicates);
                return Err(ApiError::bad_request(format!(
                    "error strict decoding YAML: {CONVERTING}{errors}"
                )));
            }
        }
        Ok(())
    }
}

fn decode(bytes: &[u8], format: Format) -> ApiResult<Config> {
    let (name, read) = match format {
        Format::Cbor => ("CBOR", codec::tree(bytes, format)),
        _ => ("YAML", read(bytes).map_err(|error| format!("{CONVERTING}{error}"))),
    };
    let decoded = read.map_err(|error| ApiError::bad_request(format!("error decoding {name}: {error}")))?;
    let duplicates = match std::str::from_utf8(bytes) {
        Ok(text) if !decoded.duplicates.is_empty() => yaml::duplicate_keys(text),
        // CBOR that has a key twice is no CBOR.
        _ => Vec::new(),
    };
    let other = match decoded.value {
        value @ Value::Object(_) => return Ok(Config { value, duplicates }),
        Value::Null => return Ok(Config { value: Value::Object(serde_json::Map::new()), duplicates }),
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
    };
    Err(ApiError::bad_request(format!(
        "error decoding {name}: json: cannot unmarshal {other} into Go value of type map[string]interface {{}}"
    )))
}

/// Most clients send JSON, which is YAML, too, and much quicker to read as what it is.
fn read(bytes: &[u8]) -> Result<json::Decoded, String> {
    if bytes.first() == Some(&b'{')
        && let Ok(decoded) = json::decode_strict(bytes)
    {
        return Ok(decoded);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid leading UTF-8 octet".to_owned())?;
    yaml::decode_strict(text).map_err(|error| error.to_string())
}

struct Apply<'s> {
    scope: &'s Scope,
    lens: Lens,
    config: &'s Config,
    force: bool,
    options: &'s WriteOptions,
}

impl Transform for Apply<'_> {
    // Whoever applies is to own what they apply.
    fn oversize(&self) -> Oversize {
        Oversize::Refuse
    }

    fn step<'a>(&'a mut self, existing: &'a Existing) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            let (scope, old) = (self.scope, &existing.object);
            let mut shown =
                managed::apply(scope, self.lens, Some(old), &self.config.value, self.force).await?;
            self.config.check(scope, self.options.field_validation)?;
            normalise(scope, self.lens, &self.config.value, &mut shown)?;
            set_namespace(scope, &mut shown)?;
            check_name(scope, &shown)?;
            let scale = matches!(self.lens, Lens::Scale).then(|| shown.clone());
            let mut new = self.lens.fold(scope, shown, old)?;
            if let Some(scale) = scale {
                managed::fold_scale_entries(scope, &mut new, old, &scale);
            }
            finish_update(scope, new, existing, self.options).await
        })
    }
}

async fn create(scope: &Scope, config: &Config, force: bool, options: &WriteOptions) -> ApiResult<Written> {
    let mut new = managed::apply(scope, Lens::Version, None, &config.value, force).await?;
    config.check(scope, options.field_validation)?;
    normalise(scope, Lens::Version, &config.value, &mut new)?;
    let uid = object::uid(&new);
    if !uid.is_empty() {
        let message = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(ApiError::conflict(&scope.resource.group_resource, scope.name(), message));
    }
    set_namespace(scope, &mut new)?;
    check_name(scope, &new)?;
    let attributes = Attributes::of(&scope.call.user, &scope.call.info, &scope.call.query);
    crate::chain::authorize(&scope.server, &attributes.with_verb("create")).await?;
    convert::to_hub(&*scope.resource.kind, scope.version(), &mut new);
    // Nothing is there that it could be the version of.
    object::remove(&mut new, &["metadata", "resourceVersion"]);
    create_tracked(scope, new, Oversize::Refuse, options).await
}

/// The merged tree must be of its kind.
fn normalise(scope: &Scope, lens: Lens, config: &Value, shown: &mut Value) -> ApiResult<()> {
    let gvk = lens.gvk(scope);
    let refused =
        codec::normalise(shown, &gvk, scope.schema_of(&gvk)).map(drop).map_err(|error| match error {
            DecodeError::NotAnObject { message } | DecodeError::WrongType { message, .. } => message,
        });
    refused.map_err(|message| {
        let kind = format!("{}/{}, Kind={}", gvk.group, gvk.version, gvk.kind);
        let (namespace, name) = (object::namespace(config), object::name(config));
        let message = format!(
            "failed to convert new object ({namespace}/{name}; {kind}) to proper version: unable to convert unstructured \
             object to {}, Kind={}: {message}",
            gvk.api_version(),
            gvk.kind
        );
        ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, message)))
    })
}
