//! `componentstatuses`: how the parts of the control plane are, worked out when it is asked. What is known here is the store; how the
//! other parts are is told by whoever started them.

use crate::error::ApiResult;
use crate::negotiate::{Offer, Shape, negotiate};
use crate::registry::selection::Selection;
use crate::request::Call;
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use crate::table::{self, IncludeObject};
use http::StatusCode;
use nauplius_kinds::Kind;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupResource;
use serde_json::{Value, json};
use std::sync::Arc;

/// A part of the control plane beside this server and its store.
pub struct Component {
    /// As upstream names it.
    pub name: &'static str,
    /// Whether it does its work, or why not.
    pub probe: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

const PLURAL: &str = "componentstatuses";
const STORE: &str = "etcd-0";

/// Answers if the request is for component statuses.
pub(crate) async fn serve(server: &Arc<ApiServer>, call: &Call) -> Option<ApiResult<Reply>> {
    let is_ours = |kind: &&Arc<dyn Kind>| {
        let descriptor = kind.descriptor();
        descriptor.group.is_empty()
            && descriptor.plural == PLURAL
            && descriptor.version(&call.info.version).is_some()
    };
    if !call.info.group.is_empty() || call.info.resource != PLURAL {
        return None;
    }
    let kind = server.config.kinds.iter().find(is_ours)?;
    Some(answer(server, call, &**kind).await)
}

async fn answer(server: &Arc<ApiServer>, call: &Call, kind: &dyn Kind) -> ApiResult<Reply> {
    let resource = || GroupResource::new("", PLURAL);
    if let Some(warning) = kind.descriptor().versions.first().and_then(|own| own.deprecation_warning.as_ref())
    {
        call.warnings.add(&**warning);
    }
    if !call.info.subresource.is_empty() {
        return Err(ApiError::PathNotFound);
    }
    let objects = components(server).await;
    match call.info.verb.as_str() {
        "list" => list(call, kind, &objects),
        "get" => {
            let named = |object: &&Value| object["metadata"]["name"] == *call.info.name;
            let found = objects.iter().find(named);
            let object = found.ok_or_else(|| ApiError::not_found(&resource(), &*call.info.name))?;
            let output = negotiate(&call.parts.headers, &call.query, Offer::Objects)?;
            let shown = match &output.shape {
                Shape::Table(version) => {
                    table::table(&kind.columns(), version, &json!({}), vec![row(call, kind, object)?])
                }
                Shape::Metadata(version) | Shape::MetadataList(version) => metadata(object, version),
                Shape::Object => object.clone(),
            };
            Ok(respond::value(StatusCode::OK, &shown, &output))
        }
        verb => Err(ApiError::MethodNotAllowed { resource: resource(), action: verb.to_owned() }),
    }
}

fn list(call: &Call, kind: &dyn Kind, objects: &[Value]) -> ApiResult<Reply> {
    let selection = Selection::of(call, kind)?;
    let selected: Vec<&Value> = objects.iter().filter(|object| selection.selects(object)).collect();
    let output = negotiate(&call.parts.headers, &call.query, Offer::Objects)?;
    let shown = match &output.shape {
        Shape::Table(version) => {
            let rows =
                selected.into_iter().map(|object| row(call, kind, object)).collect::<ApiResult<_>>()?;
            table::table(&kind.columns(), version, &json!({}), rows)
        }
        Shape::Metadata(version) | Shape::MetadataList(version) => {
            let items: Vec<Value> = selected.into_iter().map(|object| metadata(object, version)).collect();
            let api_version = format!("meta.k8s.io/{version}");
            json!({"kind": "PartialObjectMetadataList", "apiVersion": api_version, "metadata": {}, "items": items})
        }
        Shape::Object => {
            let kind = &*kind.descriptor().list_kind;
            json!({"kind": kind, "apiVersion": "v1", "metadata": {}, "items": selected})
        }
    };
    Ok(respond::value(StatusCode::OK, &shown, &output))
}

fn row(call: &Call, kind: &dyn Kind, object: &Value) -> ApiResult<Value> {
    let cells = kind.cells(object, nauplius_base::time::unix_seconds());
    let included = match IncludeObject::of(&call.query)? {
        IncludeObject::None => Value::Null,
        IncludeObject::Object => object.clone(),
        IncludeObject::Metadata => metadata(object, "v1"),
    };
    Ok(table::row(cells, included))
}

fn metadata(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object["metadata"],
    })
}

/// In upstream's order; the store is called what upstream calls its own.
async fn components(server: &ApiServer) -> Vec<Value> {
    let probes = server.components.get().map_or(&[] as &[Component], Vec::as_slice);
    let mut all: Vec<Value> = probes.iter().map(|part| status(part.name, (part.probe)())).collect();
    let store = server.config.store.revision().await;
    all.push(status(STORE, store.map(drop).map_err(|error| error.to_string())));
    all
}

fn status(name: &str, health: Result<(), String>) -> Value {
    let condition = match health {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(message) => json!({"type": "Healthy", "status": "False", "message": message}),
    };
    json!({
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "conditions": [condition],
    })
}
