//! What happens to every object between admission and the store: metadata that the server owns, the kind's strategy, validation.

use super::Scope;
use crate::error::ApiResult;
use nauplius_base::{id, time};
use nauplius_kinds::drop_gated;
use nauplius_meta::error::{ApiError, Reason, Status};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::names::{self, Problems};
use nauplius_meta::{go_struct, metadata, object, schema};
use serde_json::Value;

/// Characters of a generated suffix; upstream's.
const SUFFIX: usize = 5;
/// The longest name that is generated; upstream's.
const MAX_GENERATED: usize = 63;

/// The refusal of an object that breaks rules, if it does.
pub(crate) fn validation_error(scope: &Scope, name: &str, mut errors: Vec<FieldError>) -> ApiResult<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let descriptor = scope.resource.kind.descriptor();
    let hub =
        GroupVersionKind::new(descriptor.group.clone(), descriptor.hub.clone(), descriptor.kind.clone());
    // A custom resource has no structures of Go.
    if let Some(ty) = schema::lookup_kind(&hub).filter(|_| !scope.resource.is_custom()) {
        go_struct::show(&mut errors, ty);
    }
    Err(ApiError::invalid(&scope.resource.group_kind, name, errors))
}

/// Removes what only the server sets, before admission sees a new object.
pub(super) fn wipe_system_fields(new: &mut Value) {
    let fields = object::object_at(new, &["metadata"]);
    for name in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "generation",
    ] {
        fields.remove(name);
    }
}

/// Refuses an object of another namespace than the path's.
pub(super) fn check_namespace(scope: &Scope, object: &Value) -> ApiResult<()> {
    let (own, wanted) = (object::namespace(object), scope.namespace());
    if own.is_empty() || wanted.is_empty() || own == wanted {
        return Ok(());
    }
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    Err(ApiError::bad_request(message))
}

/// Puts the path's namespace in, or refuses another one.
pub(super) fn set_namespace(scope: &Scope, new: &mut Value) -> ApiResult<()> {
    check_namespace(scope, new)?;
    object::set_namespace(new, scope.namespace());
    Ok(())
}

/// Gives a new object its identity; the name too, when one is to be generated.
pub(super) fn fill_system_fields(new: &mut Value) {
    object::set_uid(new, &id::uuid());
    object::set_metadata(new, "creationTimestamp", time::rfc3339_seconds(time::now()));
    let prefix = object::generate_name(new);
    if object::name(new).is_empty() && !prefix.is_empty() {
        let cut: String = prefix.chars().take(MAX_GENERATED - SUFFIX).collect();
        let name = format!("{cut}{}", id::suffix(SUFFIX));
        object::set_name(new, &name);
    }
}

/// The kind's strategy for a new object.
pub(super) fn prepare_create(scope: &Scope, new: &mut Value) -> ApiResult<()> {
    if !object::resource_version(new).is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, message))));
    }
    set_namespace(scope, new)?;
    let kind = &*scope.resource.kind;
    kind.prepare_create(&scope.context(), new);
    drop_gated(kind, new, None);
    Ok(())
}

/// The rules for a new object, after everything about it was allocated.
pub(super) fn validate_create(scope: &Scope, new: &Value) -> ApiResult<()> {
    let kind = &scope.resource.kind;
    let mut errors = name_errors(scope, new);
    errors.extend(metadata::validate(new, kind.descriptor().namespaced, any_name, &Path::new("metadata")));
    errors.extend(kind.validate(new));
    validation_error(scope, object::name(new), errors)?;
    scope.call.warnings.extend(kind.warnings(new, None));
    Ok(())
}

/// The kind's strategy for a new form of an object, in the hub version.
pub(super) fn prepare_update(scope: &Scope, new: &mut Value, old: &Value) -> ApiResult<()> {
    set_namespace(scope, new)?;
    carry_generation(new, old);
    object::remove(new, &["metadata", "selfLink"]);
    let kind = &scope.resource.kind;
    let context = scope.context();
    if context.subresource.is_some() {
        kind.prepare_subresource_update(&context, new, old);
    } else {
        kind.prepare_update(&context, new, old);
    }
    drop_gated(&**kind, new, Some(old));
    keep_system_fields(new, old);
    Ok(())
}

/// The rules for a new form of an object, after everything about it was allocated.
pub(super) fn validate_update(scope: &Scope, new: &Value, old: &Value) -> ApiResult<()> {
    let kind = &scope.resource.kind;
    let mut errors = metadata::validate_update(new, old, &Path::new("metadata"));
    let context = scope.context();
    match context.subresource {
        Some(subresource) => errors.extend(kind.validate_subresource_update(subresource, new, old)),
        None => errors.extend(kind.validate_update(new, old)),
    }
    if context.subresource.is_some() && errors.is_empty() {
        errors = kind.validate_moment(&context, new, old);
    }
    validation_error(scope, object::name(new), errors)?;
    scope.call.warnings.extend(kind.warnings(new, Some(old)));
    Ok(())
}

fn carry_generation(new: &mut Value, old: &Value) {
    let generation = object::get(old, &["metadata", "generation"]).cloned().unwrap_or_default();
    object::set_metadata(new, "generation", generation);
}

/// Updates can neither change nor drop these; a wrong uid or deletion time stays for validation to refuse.
fn keep_system_fields(new: &mut Value, old: &Value) {
    let old_field = |name: &str| object::get(old, &["metadata", name]).cloned();
    if object::uid(new).is_empty() {
        object::set_metadata(new, "uid", old_field("uid").unwrap_or_default());
    }
    for name in ["creationTimestamp", "deletionTimestamp"] {
        if let Some(value) = old_field(name) {
            object::set_metadata(new, name, value);
        }
    }
    if object::get(new, &["metadata", "deletionGracePeriodSeconds"]).is_none()
        && let Some(value) = old_field("deletionGracePeriodSeconds")
    {
        object::set_metadata(new, "deletionGracePeriodSeconds", value);
    }
}

fn name_errors(scope: &Scope, new: &Value) -> Vec<FieldError> {
    let kind = &scope.resource.kind;
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    let generate = object::generate_name(new);
    if !generate.is_empty() {
        let problems = kind.validate_name(generate, true);
        errors.extend(
            problems.into_iter().map(|p| FieldError::invalid(&path.child("generateName"), generate, p)),
        );
    }
    let name = object::name(new);
    if !name.is_empty() {
        let mut problems = kind.validate_name(name, false);
        if problems.is_empty() {
            problems = names::path_segment(name);
        }
        errors.extend(problems.into_iter().map(|p| FieldError::invalid(&path.child("name"), name, p)));
    }
    errors
}

/// Names are judged by the kind, before.
fn any_name(_: &str) -> Problems {
    Problems::new()
}
