//! GET of one object: straight from the cache's bytes once the cache is as new as asked for.

use super::Scope;
use crate::error::{ApiResult, stale, too_large};
use crate::respond::Reply;
use http::StatusCode;
use nauplius_meta::error::ApiError;

pub(crate) async fn get(scope: &Scope) -> ApiResult<Reply> {
    wait(scope, scope.call.query.non_empty("resourceVersion")).await?;
    let entry = scope.resource.cache.get(scope.namespace(), scope.name()).ok_or_else(|| scope.not_found())?;
    let entry = scope.resource.shown_one(entry).await?;
    scope.view().one(StatusCode::OK, entry.stored(), entry.layout(), entry.revision())
}

/// Waits until the cache is as new as `version` wants: unset is everything acknowledged, 0 is anything.
pub(crate) async fn wait(scope: &Scope, version: Option<&str>) -> ApiResult<()> {
    let caches = &scope.resource.caches;
    match version {
        None => caches.catch_up().await.map_err(stale),
        Some("0") => Ok(()),
        Some(version) => caches.reach(parse_revision(version)?).await.map_err(too_large),
    }
}

/// Reads a resourceVersion.
pub(super) fn parse_revision(version: &str) -> ApiResult<i64> {
    version.parse::<i64>().ok().filter(|revision| *revision >= 0).ok_or_else(|| {
        ApiError::bad_request(format!(
            "Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax"
        ))
    })
}
