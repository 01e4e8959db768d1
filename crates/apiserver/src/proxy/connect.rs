//! `proxy` of pods, services and nodes: finds the backend among the objects, asks admission, and hands the request on.

use super::dial::unverified;
use super::forward::{Backend, forward};
use super::kubelet;
use super::location::{self, Named};
use crate::admission::Operation;
use crate::error::{ApiResult, unreadable};
use crate::registry::{Scope, get};
use crate::respond::Reply;
use nauplius_client::transport::Body;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::quote;
use nauplius_meta::gvk::GroupResource;
use nauplius_meta::object;
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

type Place = (SocketAddr, Option<Arc<ClientConfig>>);

/// Answers a request of any method.
pub(crate) async fn serve(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let info = &scope.call.info;
    let (what, options) = match info.resource.as_str() {
        "pods" => ("pod", "PodProxyOptions"),
        "services" => ("service", "ServiceProxyOptions"),
        _ => ("node", "NodeProxyOptions"),
    };
    super::check_dry_run(scope)?;
    let path = location::path(&info.trailing, &info.path);
    let options = json!({"kind": options, "apiVersion": "v1", "path": &path});
    let review = scope.review(Operation::Connect, scope.name(), false, &Value::Null);
    scope.server.config.admission.validate(&review, Some(&options), None).await?;
    let named = location::named(scope.name(), what)?;
    get::wait(scope, None).await?;
    let (address, tls) = match what {
        "pod" => of_pod(scope, named)?,
        "service" => of_service(scope, named)?,
        _ => of_node(scope, named)?,
    };
    let shutdown = scope.server.shutdown_token().clone();
    let backend = Backend { address, tls, path };
    forward(&*scope.server.config.backends, &scope.call, backend, body, shutdown).await
}

fn find(scope: &Scope, plural: &str, name: &str) -> ApiResult<Value> {
    let entry = scope.resource.caches.get("", plural, scope.namespace(), name);
    let missing = || ApiError::not_found(&GroupResource::new("", plural), name);
    entry.ok_or_else(missing)?.object().map_err(unreadable)
}

fn secured(named: Named<'_>) -> Option<Arc<ClientConfig>> {
    named.tls.then(unverified)
}

fn of_pod(scope: &Scope, named: Named<'_>) -> ApiResult<Place> {
    let pod = find(scope, "pods", named.name)?;
    Ok((location::of_pod(&pod, named)?, secured(named)))
}

fn of_service(scope: &Scope, named: Named<'_>) -> ApiResult<Place> {
    let service = find(scope, "services", named.name)?;
    let port = location::port_name(&service, named)?;
    let endpoints = find(scope, "endpoints", named.name)?;
    let none = |name: &str| {
        ApiError::ServiceUnavailable(format!("no endpoints available for service {}", quote(name)))
    };
    if object::get_array(&endpoints, &["subsets"]).is_empty() {
        return Err(none(named.name));
    }
    let found = location::of_endpoints(&endpoints, port, nauplius_base::id::random_u64())
        .find(|(address, target)| is_valid(scope, address.ip(), target));
    found.map(|(address, _)| (address, secured(named))).ok_or_else(|| none(scope.name()))
}

fn is_valid(scope: &Scope, ip: IpAddr, target: &Value) -> bool {
    let (namespace, name) = (object::get_str(target, &["namespace"]), object::get_str(target, &["name"]));
    // An address whose pod is gone or cannot be read leads nowhere.
    namespace == scope.namespace() && find(scope, "pods", name).is_ok_and(|pod| location::is_pods(&pod, ip))
}

fn of_node(scope: &Scope, named: Named<'_>) -> ApiResult<Place> {
    let kubelet = kubelet::address(scope, named.name)?.socket();
    if let Some(other) = location::of_node(kubelet, named)? {
        return Ok((other, secured(named)));
    }
    let Some(dialer) = &scope.server.config.kubelets else {
        return Err(ApiError::NotImplemented("this server has no credentials for kubelets".to_owned()));
    };
    Ok((kubelet, Some(Arc::clone(&dialer.tls))))
}
