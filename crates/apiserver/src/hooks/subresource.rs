//! Subresources, by name: which of them write the object, and which are something of their own.

use super::{binding, eviction, token};
use crate::error::ApiResult;
use crate::proxy;
use crate::registry::lens::Lens;
use crate::registry::{Scope, get, patch, update};
use crate::respond::Reply;
use http::StatusCode;
use nauplius_client::transport::Body;
use nauplius_meta::error::ApiError;

/// Answers a request for a subresource of an object.
pub(crate) async fn serve(scope: Scope, body: Body) -> ApiResult<Reply> {
    let info = &scope.call.info;
    let descriptor = scope.resource.kind.descriptor();
    let Some(subresource) = descriptor.subresources.iter().find(|own| own.name == info.subresource) else {
        return Err(ApiError::PathNotFound);
    };
    scope.check_namespace()?;
    match (&*descriptor.plural, info.subresource.as_str(), info.verb.as_str()) {
        ("pods", "binding", "create") => binding::bind(&scope, body).await,
        ("pods", "eviction", "create") => eviction::evict(&scope, body).await,
        ("serviceaccounts", "token", "create") => token::create(&scope, body).await,
        ("pods" | "services" | "nodes", "proxy", _) => proxy::connect::serve(&scope, body).await,
        ("pods", "log", "get") | ("pods", "exec" | "attach" | "portforward", "get" | "create") => {
            proxy::serve(&scope, body).await
        }
        (_, "scale", "get") => scale(&scope).await,
        (_, name, verb) => {
            let in_place = name == "scale" || subresource.body.is_none();
            if !in_place || !subresource.verbs.contains(&verb) {
                return Err(scope.not_allowed());
            }
            match verb {
                "get" => get::get(&scope).await,
                "update" => update::update(&scope, body).await,
                "patch" => patch::patch(&scope, body).await,
                _ => Err(scope.not_allowed()),
            }
        }
    }
}

async fn scale(scope: &Scope) -> ApiResult<Reply> {
    get::wait(scope, scope.call.query.non_empty("resourceVersion")).await?;
    let entry = scope.resource.cache.get(scope.namespace(), scope.name()).ok_or_else(|| scope.not_found())?;
    let hub = scope.resource.shown_one(entry).await?.object().map_err(crate::error::unreadable)?;
    scope.view().scale(StatusCode::OK, Lens::Scale.show(scope, &hub)?)
}
