//! DELETE of a collection: lists what is selected, then deletes each object with its own preconditions.

use super::Scope;
use super::delete::{delete_object, read_options};
use super::list::read;
use super::page::Page;
use super::selection::Selection;
use crate::error::ApiResult;
use crate::respond::{self, Reply};
use http::StatusCode;
use nauplius_client::transport::Body;
use nauplius_meta::error::ApiError;
use serde_json::{Value, json};

pub(super) async fn delete(scope: &Scope, body: Body) -> ApiResult<Reply> {
    if !scope.resource.hooks.deletes_collections() {
        return Err(scope.not_allowed());
    }
    let selection = Selection::of(&scope.call, &*scope.resource.kind)?;
    let page = Page::of(&scope.call.query)?;
    let options = read_options(scope, body).await?;
    let mut deleted = Vec::new();
    let revision = scope.resource.caches.revision();
    let mut items = read(scope, &selection, &page).await?;
    while let Some(entry) = items.next().await? {
        match delete_object(scope, entry.name(), &options).await {
            Ok(written) => deleted.push(shown(scope, written.object()?)),
            // Others were faster.
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let list = json!({
        "kind": &*scope.resource.kind.descriptor().list_kind,
        "apiVersion": scope.api_version(),
        "metadata": {"resourceVersion": revision.to_string()},
        "items": deleted,
    });
    Ok(respond::value(StatusCode::OK, &list, &scope.output))
}

fn shown(scope: &Scope, mut object: Value) -> Value {
    super::convert::from_hub(&*scope.resource.kind, scope.version(), &mut object);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}
