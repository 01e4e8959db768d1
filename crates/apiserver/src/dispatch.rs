//! From a request that may run to whoever answers it.

use crate::negotiate::{Offer, Output, negotiate};
use crate::request::Call;
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use crate::{
    component_status, definitions, discovery, health, metrics, openapi, registry, version, virtual_resources,
    zpages,
};
use http::{Method, StatusCode};
use nauplius_client::transport::Body;
use nauplius_meta::error::{ApiError, Reason, Status};
use serde_json::json;
use std::sync::Arc;

/// What authorization reads, through the caches.
const RBAC: &str = "rbac.authorization.k8s.io";

/// Answers a request.
pub(crate) async fn dispatch(server: Arc<ApiServer>, call: Arc<Call>, body: Body) -> Reply {
    if call.info.is_resource { resource(&server, &call, body).await } else { path(&server, &call).await }
}

async fn resource(server: &Arc<ApiServer>, call: &Arc<Call>, body: Body) -> Reply {
    if let Some(answer) = component_status::serve(server, call).await {
        return answer.unwrap_or_else(|refusal| refused(call, &refusal));
    }
    let answer = match virtual_resources::find(server, &call.info) {
        Some(resource) => virtual_resources::serve(resource, server, call, body).await,
        None => registry::serve(server, call, body).await,
    };
    if answer.is_ok() && call.info.group == RBAC && !matches!(&*call.info.verb, "get" | "list" | "watch") {
        // Rights change with the answer, not a moment later. What was written is written: a cache that lags is no error.
        let _ = server.caches().catch_up().await;
    }
    if answer.is_ok() && changes_definitions(call) {
        // What is defined is served with the answer. A server that is slow to do so does it a moment later.
        let _ = server.caches().catch_up().await;
        definitions::settle(server).await;
    }
    answer.unwrap_or_else(|refusal| match refusal {
        ApiError::PathNotFound if !has_router(server, call) => refused(call, &unclaimed()),
        refusal => refused(call, &refusal),
    })
}

/// A group that is not built in has no router.
fn has_router(server: &ApiServer, call: &Call) -> bool {
    server.config.kinds.iter().any(|kind| kind.descriptor().group == call.info.group)
}

fn refused(call: &Call, refusal: &ApiError) -> Reply {
    // A client that accepts nothing of ours is told so in JSON.
    let output = negotiate(&call.parts.headers, &call.query, Offer::Plain).unwrap_or_default();
    respond::error(refusal, &output)
}

/// The server's own writes, with which it serves definitions, wait for nothing.
fn changes_definitions(call: &Call) -> bool {
    let info = &call.info;
    info.group == definitions::GROUP
        && !matches!(&*info.verb, "get" | "list" | "watch")
        && call.user.name != definitions::USER
}

async fn path(server: &Arc<ApiServer>, call: &Call) -> Reply {
    let path = call.info.path.as_str();
    if let Some(reply) = health::serve(server, path, &call.query).await {
        return reply;
    }
    if path.starts_with("/api") || path.starts_with("/openapi") {
        definitions::settle(server).await;
    }
    if let Some(reply) = discovery::serve(server, call) {
        return reply;
    }
    if let Some(reply) = openapi::serve(server, call).await {
        return reply;
    }
    match path {
        "/version" | "/version/" => routed(call, || version::serve(call.query.flag("pretty"))),
        "/metrics" if call.parts.method != Method::DELETE => metrics::serve(server).await,
        "/metrics/slis" => health::slis(server).await,
        "/statusz" => zpages::status(call, &paths(server)),
        "/flagz" => zpages::flags(call, server),
        "/configz" => respond::json(StatusCode::OK, &configz(server), false),
        path if path == "/debug/pprof" || path.starts_with("/debug/pprof/") => respond::plain_error(
            StatusCode::NOT_IMPLEMENTED,
            "profiles in Go's format are not made here; see /metrics for what the process uses",
        ),
        "/" | "/index.html" => respond::json(StatusCode::OK, &json!({ "paths": paths(server) }), true),
        path if path.starts_with("/version/") || path.starts_with("/api/") => {
            respond::error(&ApiError::PathNotFound, &Output::json())
        }
        _ => respond::error(&unclaimed(), &Output::json()),
    }
}

/// What upstream serves through its router, which knows its paths for GET alone. Its other paths are served whatever the method.
pub(crate) fn routed(call: &Call, serve: impl FnOnce() -> Reply) -> Reply {
    if call.parts.method == Method::GET {
        return serve();
    }
    respond::error(&registry::scope::no_such_method(), &Output::json())
}

/// 404 as upstream answers it where no router claims the path: without the empty details that routers add.
pub(crate) fn unclaimed() -> ApiError {
    let message = ApiError::PathNotFound.message();
    ApiError::Status(Box::new(Status::failure(404, Reason::NotFound, message)))
}

/// What the server was started with, of what operators tune.
fn configz(server: &ApiServer) -> serde_json::Value {
    let config = &server.config;
    json!({"apiserver.nauplius": {
        "anonymousAuth": config.anonymous,
        "maxRequestsInflight": config.limits.reads,
        "maxMutatingRequestsInflight": config.limits.writes,
        "maxLongRunningRequests": config.limits.long_running,
        "serviceNodePortRange": format!("{}-{}", config.node_ports.start(), config.node_ports.end()),
        "serviceClusterIPRanges": config
            .service_networks
            .iter()
            .map(|network| format!("{}/{}", network.address, network.prefix))
            .collect::<Vec<_>>(),
        "compactionIntervalSeconds": config.compaction_interval.as_secs(),
    }})
}

/// What upstream lists at `/`.
fn paths(server: &ApiServer) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/configz",
        "/flagz",
        "/healthz",
        "/livez",
        "/metrics",
    ]
    .into_iter()
    .chain(["/metrics/slis", "/openapi/v2", "/openapi/v3", "/openapi/v3/", "/openid/v1/jwks", "/readyz"])
    .chain(["/statusz", "/version"])
    .map(str::to_owned)
    .collect();
    for kind in server.served().kinds() {
        let descriptor = kind.descriptor();
        let root = if descriptor.group.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{}", descriptor.group)
        };
        paths.extend(descriptor.versions.iter().map(|version| format!("{root}/{}", version.name)));
        paths.push(root);
    }
    paths.sort();
    paths.dedup();
    paths
}
