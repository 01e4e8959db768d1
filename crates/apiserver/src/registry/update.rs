//! PUT, of an object or of a subresource that writes it.

use super::lens::Lens;
use super::options::WriteOptions;
use super::prepare::{check_namespace, prepare_update, validate_update};
use super::write::{Existing, Step, Transform, Written};
use super::{Scope, convert, create_object, decode_body, managed, owners, read_body};
use crate::admission::{Operation, Review};
use crate::error::ApiResult;
use crate::respond::Reply;
use futures_util::future::BoxFuture;
use http::StatusCode;
use nauplius_client::transport::Body;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::GroupKind;
use nauplius_meta::object;
use serde_json::Value;

pub(crate) async fn update(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let lens = Lens::of(scope);
    let options = WriteOptions::of(&scope.call.query, "UpdateOptions")?;
    let (bytes, format) = read_body(scope, body).await?;
    let mut object = decode_body(scope, &bytes, format, &lens.gvk(scope), options.field_validation)?;
    // A large object is held once while it is stored.
    drop(bytes);
    owners::deduplicate(&mut object, owners::When::Sent, &scope.call.warnings);
    check_name(scope, &object)?;
    let (code, written) = update_or_create(scope, lens, object, &options).await?;
    answer(scope, lens, code, &written)
}

/// Shows what was written.
pub(crate) fn answer(scope: &Scope, lens: Lens, code: StatusCode, written: &Written) -> ApiResult<Reply> {
    match lens {
        Lens::Version => scope.view().one(code, &written.stored, written.layout, written.revision),
        Lens::Scale => scope.view().scale(code, lens.show(scope, &written.object()?)?),
    }
}

pub(super) fn check_name(scope: &Scope, object: &Value) -> ApiResult<()> {
    check_namespace(scope, object)?;
    let (own, wanted) = (object::name(object), scope.name());
    if own.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        )));
    }
    if own != wanted {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({wanted})"
        )));
    }
    Ok(())
}

async fn update_or_create(
    scope: &Scope,
    lens: Lens,
    object: Value,
    options: &WriteOptions,
) -> ApiResult<(StatusCode, Written)> {
    let replaced = replace(scope, lens, &object, options).await;
    let may_create = scope.resource.kind.allows_create_on_update() && scope.call.info.subresource.is_empty();
    match replaced {
        Err(ApiError::NotFound { .. }) if may_create => {
            let attributes =
                crate::request::Attributes::of(&scope.call.user, &scope.call.info, &scope.call.query);
            crate::chain::authorize(&scope.server, &attributes.with_verb("create")).await?;
            let mut object = object;
            convert::to_hub(&*scope.resource.kind, scope.version(), &mut object);
            Ok((StatusCode::CREATED, create_object(scope, object, options).await?))
        }
        other => Ok((StatusCode::OK, other?)),
    }
}

async fn replace(scope: &Scope, lens: Lens, object: &Value, options: &WriteOptions) -> ApiResult<Written> {
    let mut transform = Replace { scope, lens, object, options };
    scope.resource.modify(scope.namespace(), scope.name(), &mut transform, options.dry_run).await
}

struct Replace<'s> {
    scope: &'s Scope,
    lens: Lens,
    object: &'s Value,
    options: &'s WriteOptions,
}

impl Transform for Replace<'_> {
    fn step<'a>(&'a mut self, existing: &'a Existing) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            let uid = object::uid(self.object);
            let old_uid = object::uid(&existing.object);
            if !uid.is_empty() && uid != old_uid {
                return Err(self.wrong_uid(uid, old_uid));
            }
            let mut new = self.lens.fold(self.scope, self.object.clone(), &existing.object)?;
            managed::updated(self.scope, self.lens, &mut new, &existing.object).await?;
            finish_update(self.scope, new, existing, self.options).await
        })
    }
}

impl Replace<'_> {
    fn wrong_uid(&self, uid: &str, old: &str) -> ApiError {
        let message = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old}");
        ApiError::conflict(&self.scope.resource.group_resource, self.scope.name(), message)
    }
}

/// What every new form of an object goes through: admission, versions, strategy, validation, and deletion when it was the last
/// finalizer that kept it. Shared by PUT, PATCH and the subresources.
pub(crate) async fn finish_update(
    scope: &Scope,
    mut new: Value,
    existing: &Existing,
    options: &WriteOptions,
) -> ApiResult<Step> {
    let old = &existing.object;
    let resource = &scope.resource;
    let review = scope.review(Operation::Update, scope.name(), options.dry_run, &options.object);
    admit(scope, &review, &mut new, Some(old)).await?;
    check_version(scope, &mut new, old)?;
    prepare_update(scope, &mut new, old)?;
    let also = resource.hooks.before_update(scope, &mut new, old).await?;
    managed::settle_times(&mut new, old);
    validate_update(scope, &new, old)?;
    scope.server.config.admission.validate(&review, Some(&new), Some(old)).await?;
    if deletes(&new, old) && resource.hooks.may_remove_on_update(&new) {
        let also = resource.hooks.before_remove(scope, &new).await?;
        return Ok(Step::Remove(new, also));
    }
    Ok(Step::Write(new, also))
}

/// Lets admission change the object, and sees to what it must not leave behind.
pub(super) async fn admit(
    scope: &Scope,
    review: &Review<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> ApiResult<()> {
    let before = object::get(object, &["metadata", "managedFields"]).cloned();
    scope.server.config.admission.mutate(review, object, old).await?;
    managed::check_admitted(scope, object, before);
    owners::deduplicate(object, owners::When::Admitted, &scope.call.warnings);
    Ok(())
}

fn check_version(scope: &Scope, new: &mut Value, old: &Value) -> ApiResult<()> {
    let (own, stored) = (object::resource_version(new), object::resource_version(old));
    if own.is_empty() || own == "0" {
        if !scope.resource.kind.allows_unconditional_update() {
            let path = Path::new("metadata").child("resourceVersion");
            let error = FieldError::invalid(&path, 0, "must be specified for an update");
            let resource = &scope.resource.group_resource;
            let kind = GroupKind::new(resource.group.as_str(), resource.resource.as_str());
            return Err(ApiError::invalid(&kind, scope.name(), vec![error]));
        }
        let stored = stored.to_owned();
        object::set_resource_version(new, &stored);
        return Ok(());
    }
    if own.parse::<u64>().is_err() {
        let path = Path::new("metadata").child("resourceVersion");
        let errors = vec![FieldError::invalid(&path, own, "must be a number")];
        return Err(ApiError::invalid(&scope.resource.group_kind, scope.name(), errors));
    }
    if own == stored { Ok(()) } else { Err(ApiError::modified(&scope.resource.group_resource, scope.name())) }
}

/// An update that removes the last finalizer of an object that is being deleted, with no grace left, deletes it.
fn deletes(new: &Value, old: &Value) -> bool {
    object::finalizers(new).is_empty()
        && object::deletion_timestamp(old).is_some()
        && object::deletion_grace_period_seconds(old).unwrap_or(0) == 0
}
