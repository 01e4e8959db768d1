//! PATCH: JSON patch, merge patch and strategic merge patch, of an object or of a subresource that writes it. Each retry applies the
//! patch to the newest form. Configurations go to `apply`.

use super::lens::Lens;
use super::options::{FieldValidation, WriteOptions};
use super::update::{answer, check_name, finish_update};
use super::write::{Existing, Step, Transform};
use super::{Scope, apply, managed};
use crate::body;
use crate::codec::{self, DecodeError};
use crate::error::ApiResult;
use crate::respond::Reply;
use futures_util::future::BoxFuture;
use http::StatusCode;
use nauplius_client::transport::Body;
use nauplius_meta::error::{ApiError, Reason, Status, generic_server_response};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::{GroupKind, GroupResource};
use nauplius_meta::normalize::{StrictIssue, strict_error};
use nauplius_meta::patch::json::{self as json_patch, JsonPatchError};
use nauplius_meta::patch::merge;
use nauplius_meta::patch::strategic::{self, StrategicError};
use nauplius_meta::{json, object, schema};
use serde_json::Value;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Merge,
    Strategic,
    Apply,
}

pub(crate) async fn patch(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let lens = Lens::of(scope);
    let form = form(scope)?;
    let bytes = body::read(body).await?;
    if form == Form::Apply {
        return apply::apply(scope, lens, &bytes).await;
    }
    let mut options = WriteOptions::of(&scope.call.query, "PatchOptions")?;
    options.object["kind"] = "UpdateOptions".into();
    let decoded = json::decode_strict(&bytes)
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    check_shape(form, &decoded.value)?;
    let duplicates = decoded.duplicates.into_iter().map(StrictIssue::DuplicateField).collect();
    let mut transform = Patch { scope, lens, form, patch: decoded.value, duplicates, options: &options };
    let written =
        scope.resource.modify(scope.namespace(), scope.name(), &mut transform, options.dry_run).await?;
    answer(scope, lens, StatusCode::OK, &written)
}

/// What is no patch of its form at all, in the words of the decoder that upstream gives it to first.
fn check_shape(form: Form, patch: &Value) -> ApiResult<()> {
    let wanted = match form {
        Form::Json if !patch.is_array() && !patch.is_null() => "[]handlers.jsonPatchOp",
        Form::Merge if !patch.is_object() && !patch.is_null() => "map[string]interface {}",
        _ => return Ok(()),
    };
    let kind = json::kind_of(patch);
    Err(ApiError::bad_request(format!(
        "error decoding patch: json: cannot unmarshal {kind} into Go value of type {wanted}"
    )))
}

fn form(scope: &Scope) -> ApiResult<Form> {
    let gvk = Lens::of(scope).gvk(scope);
    let built_in = scope.schema_of(&gvk).is_none() && schema::lookup_kind(&gvk).is_some();
    match body::media_type(&scope.call.parts.headers).as_deref() {
        Some(JSON_PATCH) => Ok(Form::Json),
        Some(MERGE_PATCH) => Ok(Form::Merge),
        Some(STRATEGIC_PATCH) if built_in => Ok(Form::Strategic),
        Some(APPLY_PATCH) => Ok(Form::Apply),
        _ => {
            let mut known = vec![JSON_PATCH.to_owned(), MERGE_PATCH.to_owned()];
            known.extend(built_in.then(|| STRATEGIC_PATCH.to_owned()));
            known.push(APPLY_PATCH.to_owned());
            Err(ApiError::UnsupportedMediaType(known))
        }
    }
}

struct Patch<'s> {
    scope: &'s Scope,
    lens: Lens,
    form: Form,
    patch: Value,
    duplicates: Vec<StrictIssue>,
    options: &'s WriteOptions,
}

impl Transform for Patch<'_> {
    fn step<'a>(&'a mut self, existing: &'a Existing) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            let mut shown = self.lens.show(self.scope, &existing.object)?;
            self.apply(&mut shown)?;
            self.normalise(&mut shown)?;
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
            managed::updated(self.scope, self.lens, &mut new, &existing.object)?;
            finish_update(self.scope, new, existing, self.options).await
        })
    }
}

impl Patch<'_> {
    fn apply(&self, shown: &mut Value) -> ApiResult<()> {
        match self.form {
            Form::Json => json_patch::apply(shown, &self.patch).map_err(|error| refused_json(&error)),
            Form::Merge if self.patch.is_object() => {
                merge::apply(shown, self.patch.clone());
                Ok(())
            }
            Form::Merge | Form::Apply => Err(ApiError::bad_request("Invalid JSON Patch")),
            Form::Strategic => {
                let ty = schema::lookup_kind(&self.lens.gvk(self.scope)).ok_or(ApiError::PathNotFound)?;
                strategic::apply(shown, self.patch.clone(), ty).map_err(|error| refused_strategic(&error))
            }
        }
    }

    /// The patched tree must still be of its kind; what the kind does not know is told.
    fn normalise(&self, shown: &mut Value) -> ApiResult<()> {
        let text = shown.to_string();
        let invalid = |message: String| {
            let error = FieldError::invalid(&Path::new("patch"), text.as_str(), message);
            ApiError::invalid(&GroupKind::new("", ""), "", vec![error])
        };
        let gvk = self.lens.gvk(self.scope);
        let schema = self.scope.schema_of(&gvk);
        let found = codec::normalise(shown, &gvk, schema).map_err(|error| match error {
            DecodeError::NotAnObject { message } | DecodeError::WrongType { message, .. } => invalid(message),
        })?;
        let issues: Vec<StrictIssue> = self.duplicates.iter().cloned().chain(found).collect();
        match self.options.field_validation {
            FieldValidation::Ignore => {}
            FieldValidation::Strict if issues.is_empty() => {}
            FieldValidation::Strict => return Err(invalid(strict_error(&issues))),
            FieldValidation::Warn => self.scope.call.warnings.extend(issues.iter().map(ToString::to_string)),
        }
        Ok(())
    }
}

/// 422 without the reason in its message, as upstream answers patches that do not fit.
fn unprocessable(message: &str) -> ApiError {
    ApiError::from(generic_server_response(422, "", &GroupResource::new("", ""), "", message, 0, false))
}

fn refused_json(error: &JsonPatchError) -> ApiError {
    match error {
        JsonPatchError::NotAList { .. } => ApiError::bad_request(error.to_string()),
        JsonPatchError::TooManyOperations(_) => ApiError::RequestEntityTooLarge(error.to_string()),
        other => unprocessable(&other.to_string()),
    }
}

fn refused_strategic(error: &StrategicError) -> ApiError {
    use StrategicError as E;
    match error {
        E::NotAnObject | E::MergeDirective | E::DeleteFromList | E::SetElementOrder | E::RetainKeys => {
            ApiError::bad_request(error.to_string())
        }
        E::ListOfLists => unprocessable(&error.to_string()),
        // Upstream answers the rest as errors of its own.
        _ => ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, error.to_string()))),
    }
}
