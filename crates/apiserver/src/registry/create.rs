//! POST to a collection.

use super::options::WriteOptions;
use super::prepare::{
    fill_system_fields, prepare_create, set_namespace, validate_create, wipe_system_fields,
};
use super::update::admit;
use super::write::{Oversize, Taken, Written};
use super::{Scope, convert, decode_body, managed, owners, read_body};
use crate::admission::Operation;
use crate::error::ApiResult;
use crate::respond::Reply;
use http::StatusCode;
use nauplius_client::transport::Body;
use nauplius_meta::error::ApiError;
use nauplius_meta::object;
use serde_json::Value;

/// How often a generated name is drawn; upstream's.
const MAX_NAMES: usize = 8;
/// How often an allocation that others took first is tried again.
const MAX_ALLOCATIONS: usize = 16;

pub(super) async fn create(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let options = WriteOptions::of(&scope.call.query, "CreateOptions")?;
    let (bytes, format) = read_body(scope, body).await?;
    let mut object = decode_body(scope, &bytes, format, &scope.gvk(), options.field_validation)?;
    // A large object is held once while it is stored.
    drop(bytes);
    owners::deduplicate(&mut object, owners::When::Sent, &scope.call.warnings);
    convert::to_hub(&*scope.resource.kind, scope.version(), &mut object);
    let written = create_object(scope, object, &options).await?;
    scope.view().one(StatusCode::CREATED, &written.stored, written.layout, written.revision)
}

/// Creates a hub object: also what PUT and apply do to names that are free.
pub(crate) async fn create_object(
    scope: &Scope,
    mut object: Value,
    options: &WriteOptions,
) -> ApiResult<Written> {
    wipe_system_fields(&mut object);
    set_namespace(scope, &mut object)?;
    managed::created(scope, &mut object).await;
    create_tracked(scope, object, Oversize::Lean, options).await
}

/// Creates a hub object that says already whose its fields are.
pub(super) async fn create_tracked(
    scope: &Scope,
    mut object: Value,
    oversize: Oversize,
    options: &WriteOptions,
) -> ApiResult<Written> {
    wipe_system_fields(&mut object);
    let name = object::name(&object).to_owned();
    let review = scope.review(Operation::Create, &name, options.dry_run, &options.object);
    admit(scope, &review, &mut object, None).await?;
    let generated = object::name(&object).is_empty() && !object::generate_name(&object).is_empty();
    if generated {
        for _ in 1..MAX_NAMES {
            if let Ok(written) = attempt(scope, object.clone(), oversize, options).await? {
                return Ok(written);
            }
        }
    }
    attempt(scope, object, oversize, options).await?.map_err(|refusal| *refusal)
}

/// One name. The inner error is that it was taken.
async fn attempt(
    scope: &Scope,
    mut object: Value,
    oversize: Oversize,
    options: &WriteOptions,
) -> ApiResult<Result<Written, Box<ApiError>>> {
    fill_system_fields(&mut object);
    prepare_create(scope, &mut object)?;
    let name = object::name(&object).to_owned();
    let key = scope.resource.cache.key(scope.namespace(), &name);
    let attempts = if scope.resource.hooks.allocates() { MAX_ALLOCATIONS } else { 1 };
    for left in (0..attempts).rev() {
        let mut candidate = if left == 0 { std::mem::take(&mut object) } else { object.clone() };
        let also = scope.resource.hooks.before_create(scope, &mut candidate).await?;
        validate_create(scope, &candidate)?;
        let review = scope.review(Operation::Create, &name, options.dry_run, &options.object);
        scope.server.config.admission.validate(&review, Some(&candidate), None).await?;
        match scope.resource.insert(&key, &candidate, also, oversize, options.dry_run).await? {
            Ok(written) => return Ok(Ok(written)),
            Err(Taken::Key(existing)) => return Ok(Err(Box::new(taken(scope, &candidate, &existing)))),
            Err(Taken::Allocation) => {}
        }
    }
    Err(ApiError::ServerTimeout {
        resource: scope.resource.group_resource.clone(),
        operation: "create".to_owned(),
        retry_after_s: 1,
    })
}

fn taken(scope: &Scope, object: &Value, existing: &Value) -> ApiError {
    let (resource, name) = (&scope.resource.group_resource, object::name(object));
    let error = if object::generate_name(object).is_empty() {
        ApiError::already_exists(resource, name)
    } else {
        ApiError::GenerateNameConflict { resource: resource.clone(), name: name.to_owned(), retry_after_s: 1 }
    };
    if object::deletion_timestamp(existing).is_none() {
        return error;
    }
    let mut status = error.to_status();
    status.message = format!("object is being deleted: {}", status.message);
    ApiError::Status(Box::new(status))
}
