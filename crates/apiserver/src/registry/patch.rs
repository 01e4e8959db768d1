//! PATCH: JSON patch, merge patch and strategic merge patch, of an object or of a subresource that writes it. Each retry applies the
//! patch to the newest form. Configurations go to `apply`.

use super::decode::kind_problem;
use super::lens::Lens;
use super::options::{FieldValidation, WriteOptions};
use super::update::{answer, check_name, finish_update};
use super::write::{Existing, Step, Transform};
use super::{Scope, apply, managed};
use crate::body;
use crate::codec::{self, DecodeError};
use crate::error::ApiResult;
use crate::negotiate::Format;
use crate::respond::Reply;
use futures_util::future::BoxFuture;
use http::StatusCode;
use nauplius_client::transport::Body;
use nauplius_meta::error::{ApiError, Reason, Status, generic_server_response};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::{GroupKind, GroupResource, GroupVersionKind};
use nauplius_meta::normalize::{StrictIssue, strict_error};
use nauplius_meta::patch::json::{self as json_patch, JsonPatchError};
use nauplius_meta::patch::merge;
use nauplius_meta::patch::strategic::{self, StrategicError};
use nauplius_meta::{go, json, object, schema};
use serde_json::Value;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";
const APPLY_PATCH_CBOR: &str = "application/apply-patch+cbor";
const NO_MERGE_PATCH: &str = "Invalid JSON Patch";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Merge,
    Strategic,
    /// Its configuration is YAML, or CBOR.
    Apply(Format),
}

pub(crate) async fn patch(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let lens = Lens::of(scope);
    let form = form(scope)?;
    let bytes = body::read(body).await?;
    if let Form::Apply(format) = form {
        return apply::apply(scope, lens, &bytes, format).await;
    }
    let mut options = WriteOptions::of(&scope.call.query, "PatchOptions")?;
    options.object["kind"] = "UpdateOptions".into();
    let mut transform = Patch { scope, lens, form, bytes: &bytes, options: &options };
    let written =
        scope.resource.modify(scope.namespace(), scope.name(), &mut transform, options.dry_run).await?;
    answer(scope, lens, StatusCode::OK, &written)
}

fn form(scope: &Scope) -> ApiResult<Form> {
    let gvk = Lens::of(scope).gvk(scope);
    let built_in = scope.schema_of(&gvk).is_none() && schema::lookup_kind(&gvk).is_some();
    match body::media_type(&scope.call.parts.headers).as_deref() {
        Some(JSON_PATCH) => Ok(Form::Json),
        Some(MERGE_PATCH) => Ok(Form::Merge),
        Some(STRATEGIC_PATCH) if built_in => Ok(Form::Strategic),
        Some(APPLY_PATCH) => Ok(Form::Apply(Format::Yaml)),
        Some(APPLY_PATCH_CBOR) => Ok(Form::Apply(Format::Cbor)),
        _ => {
            let mut known = vec![JSON_PATCH.to_owned(), MERGE_PATCH.to_owned()];
            known.extend(built_in.then(|| STRATEGIC_PATCH.to_owned()));
            known.extend([APPLY_PATCH, APPLY_PATCH_CBOR].map(str::to_owned));
            Err(ApiError::UnsupportedMediaType(known))
        }
    }
}

struct Patch<'s> {
    scope: &'s Scope,
    lens: Lens,
    form: Form,
    bytes: &'s [u8],
    options: &'s WriteOptions,
}

/// A patch out of a body, and what is odd about it.
struct Decoded {
    patch: Value,
    odd: Vec<String>,
}

/// What became of a tree that was patched.
struct Patched {
    /// The patch, or what it made, as refusals of the result show it.
    shown: String,
    odd: Vec<String>,
}

impl Transform for Patch<'_> {
    fn step<'a>(&'a mut self, existing: &'a Existing) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            let mut shown = self.lens.show(self.scope, &existing.object)?;
            // Upstream looks at the patch only where there is something to patch.
            let patched = self.apply(&mut shown)?;
            self.normalise(&mut shown, patched)?;
            check_name(self.scope, &shown)?;
            let (uid, old) = (object::uid(&shown), object::uid(&existing.object));
            if !uid.is_empty() && uid != old && self.scope.call.info.subresource.is_empty() {
                let message =
                    format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old}");
                return Err(ApiError::conflict(
                    &self.scope.resource.group_resource,
                    self.scope.name(),
                    message,
                ));
            }
            let mut new = self.lens.fold(self.scope, shown, &existing.object)?;
            managed::updated(self.scope, self.lens, &mut new, &existing.object).await?;
            finish_update(self.scope, new, existing, self.options).await
        })
    }
}

impl Patch<'_> {
    fn decode(&self) -> ApiResult<Decoded> {
        let strict = self.options.field_validation != FieldValidation::Ignore;
        let decoded = json::decode_strict(self.bytes).map_err(|error| match (self.form, strict) {
            (Form::Json | Form::Merge, true) => {
                ApiError::bad_request(format!("error decoding patch: {error}"))
            }
            (Form::Merge, false) => ApiError::bad_request(NO_MERGE_PATCH),
            _ => ApiError::bad_request(error.to_string()),
        })?;
        let mut odd: Vec<String> = decoded
            .duplicates
            .into_iter()
            .map(|path| StrictIssue::DuplicateField(path).to_string())
            .collect();
        if strict && self.form == Form::Json {
            let found = json_patch::check(&decoded.value)
                .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
            odd.extend(found.iter().map(ToString::to_string));
            odd.iter_mut().for_each(|text| text.insert_str(0, "json patch "));
        }
        if strict && self.form == Form::Merge && !decoded.value.is_object() && !decoded.value.is_null() {
            let kind = json::kind_of(&decoded.value);
            return Err(ApiError::bad_request(format!(
                "error decoding patch: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
            )));
        }
        Ok(Decoded { patch: decoded.value, odd })
    }

    fn apply(&self, shown: &mut Value) -> ApiResult<Patched> {
        let Decoded { patch, odd } = self.decode()?;
        let shown = match self.form {
            Form::Json => {
                json_patch::apply(shown, &patch).map_err(|error| refused_json(&error))?;
                shown.to_string()
            }
            Form::Merge | Form::Apply(_) => {
                if !patch.is_object() && !patch.is_array() {
                    return Err(ApiError::bad_request(NO_MERGE_PATCH));
                }
                merge::apply(shown, patch);
                shown.to_string()
            }
            Form::Strategic => self.apply_strategic(shown, patch)?,
        };
        Ok(Patched { shown, odd })
    }

    fn apply_strategic(&self, shown: &mut Value, patch: Value) -> ApiResult<String> {
        let ty = schema::lookup_kind(&self.lens.gvk(self.scope)).ok_or(ApiError::PathNotFound)?;
        let text = go::value(&strategic::used(shown, &patch));
        strategic::apply(shown, patch, ty).map_err(|error| refused_strategic(&error))?;
        strategic::restore(shown, ty).map_err(|error| invalid(&text, error.to_string()))?;
        Ok(text)
    }

    /// What a patch makes of a text is decoded anew, as what it says that it is; a strategic merge patch changes the object itself.
    fn kind_problem(&self, shown: &Value, expected: &GroupVersionKind) -> Option<String> {
        if self.form == Form::Strategic {
            return None;
        }
        match codec::stated(shown, expected) {
            Ok(own) => kind_problem(&own, expected),
            Err(DecodeError::NotAnObject { message } | DecodeError::WrongType { message, .. }) => {
                Some(message)
            }
        }
    }

    /// The patched tree must still be of its kind; what the kind does not know is told.
    fn normalise(&self, shown: &mut Value, patched: Patched) -> ApiResult<()> {
        let gvk = self.lens.gvk(self.scope);
        let schema = self.scope.schema_of(&gvk);
        if schema.is_none()
            && let Some(problem) = self.kind_problem(shown, &gvk)
        {
            return Err(invalid(&patched.shown, problem));
        }
        let found = codec::normalise(shown, &gvk, schema).map_err(|error| match error {
            DecodeError::NotAnObject { message } | DecodeError::WrongType { message, .. } => {
                invalid(&patched.shown, message)
            }
        })?;
        let mut found: Vec<String> = found.iter().map(ToString::to_string).collect();
        if self.form == Form::Strategic {
            found.sort_unstable();
        }
        let mut issues = patched.odd;
        issues.extend(found);
        match self.options.field_validation {
            FieldValidation::Ignore => {}
            FieldValidation::Strict if issues.is_empty() => {}
            FieldValidation::Strict => return Err(invalid(&patched.shown, strict_error(&issues))),
            FieldValidation::Warn => self.scope.call.warnings.extend(issues),
        }
        Ok(())
    }
}

/// 422 for what a patch made.
fn invalid(shown: &str, message: String) -> ApiError {
    let error = FieldError::invalid(&Path::new("patch"), shown, message);
    ApiError::invalid(&GroupKind::new("", ""), "", vec![error])
}

/// 422 without the reason in its message, as upstream answers patches that do not fit.
fn unprocessable(message: &str) -> ApiError {
    ApiError::from(generic_server_response(422, "", &GroupResource::new("", ""), "", message, 0, false))
}

fn refused_json(error: &JsonPatchError) -> ApiError {
    match error {
        JsonPatchError::Type { .. } | JsonPatchError::PartType { .. } => {
            ApiError::bad_request(error.to_string())
        }
        JsonPatchError::TooManyOperations(_) => ApiError::RequestEntityTooLarge(error.to_string()),
        other => unprocessable(&other.to_string()),
    }
}

fn refused_strategic(error: &StrategicError) -> ApiError {
    use StrategicError as E;
    match error {
        E::NotAnObject(_) | E::DeleteFromList | E::SetElementOrder | E::RetainKeys => {
            ApiError::bad_request(error.to_string())
        }
        E::ListOfLists => unprocessable(&error.to_string()),
        // Upstream answers the rest as errors of its own.
        _ => ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, error.to_string()))),
    }
}
