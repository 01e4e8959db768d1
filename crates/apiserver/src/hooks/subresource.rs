//! Subresources, by name.

use crate::error::ApiResult;
use crate::registry::{Scope, get, patch, update};
use crate::respond::Reply;
use nauplius_client::transport::Body;
use nauplius_meta::error::ApiError;

/// Answers a request for a subresource of an object.
pub(crate) async fn serve(scope: Scope, body: Body) -> ApiResult<Reply> {
    let info = &scope.call.info;
    if !scope.resource.kind.descriptor().has_subresource(&info.subresource) {
        return Err(ApiError::PathNotFound);
    }
    scope.check_namespace()?;
    match (info.subresource.as_str(), info.verb.as_str()) {
        ("status", "get") => get::get(&scope).await,
        ("status", "update") => update::update(&scope, body).await,
        ("status", "patch") => patch::patch(&scope, body).await,
        _ => Err(scope.not_allowed()),
    }
}
