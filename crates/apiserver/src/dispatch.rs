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
use nauplius_meta::error::ApiError;
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
    answer.unwrap_or_else(|refusal| refused(call, &refusal))
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
    if let Some(reply) = health::serve(server, &call.info.path, &call.query).await {
        return reply;
    }
    if call.info.path.starts_with("/api") || call.info.path.starts_with("/openapi") {
        definitions::settle(server).await;
    }
    if let Some(reply) = discovery::serve(server, call) {
        return routed(call, reply);
    }
    if matches!(call.info.path.as_str(), "/version" | "/version/") {
        return routed(call, version::serve(call.query.flag("pretty")));
    }
    if !matches!(call.parts.method, Method::GET | Method::HEAD) {
        return respond::error(&ApiError::PathNotFound, &Output::json());
    }
    if let Some(reply) = openapi::serve(server, call).await {
        return reply;
    }
    match call.info.path.as_str() {
        "/metrics" => metrics::serve(server).await,
        "/metrics/slis" => health::slis(server).await,
        "/statusz" => zpages::status(call, &paths(server)),
        "/flagz" => zpages::flags(call, server),
        "/configz" => respond::json(StatusCode::OK, &configz(server), false),
        path if path == "/debug/pprof" || path.starts_with("/debug/pprof/") => respond::plain_error(
            StatusCode::NOT_IMPLEMENTED,
            "profiles in Go's format are not made here; see /metrics for what the process uses",
        ),
        "/" => respond::json(StatusCode::OK, &json!({ "paths": paths(server) }), true),
        path if path.starts_with("/api") => respond::error(&ApiError::PathNotFound, &Output::json()),
        _ => respond::json(StatusCode::NOT_FOUND, &json!({ "paths": paths(server) }), true),
    }
}

/// What upstream's router serves. It knows the methods of its paths: anything but a GET is 405 there.
fn routed(call: &Call, reply: Reply) -> Reply {
    if call.parts.method == Method::GET || reply.status() == StatusCode::NOT_FOUND {
        return reply;
    }
    respond::error(&registry::scope::no_such_method(), &Output::json())
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
