//! Resources that store nothing: reviews and the like only answer `create`. A seam: each is one object here, found by group and
//! plural.

use crate::error::ApiResult;
use crate::negotiate::{Offer, negotiate};
use crate::registry::options::WriteOptions;
use crate::registry::scope::no_such_method;
use crate::request::{Call, RequestInfo};
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use crate::{body, codec};
use futures_util::future::BoxFuture;
use http::StatusCode;
use nauplius_client::transport::Body;
use nauplius_kinds::Kind;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::{GroupResource, GroupVersionKind};
use serde_json::Value;
use std::sync::Arc;

/// Answers the body of a `create` with its completed form.
pub trait VirtualResource: Send + Sync + 'static {
    /// `tokenreviews` of `authentication.k8s.io`, ...
    fn resource(&self) -> GroupResource;

    /// Completes the object; it is of the kind that the path says.
    fn create<'a>(
        &'a self,
        server: &'a Arc<ApiServer>,
        call: &'a Call,
        object: Value,
    ) -> BoxFuture<'a, ApiResult<Value>>;
}

/// The virtual resource of a path, if it is one.
pub(crate) fn find(server: &ApiServer, info: &RequestInfo) -> Option<Arc<dyn VirtualResource>> {
    let wanted = GroupResource::new(info.group.as_str(), info.resource.as_str());
    server.config.virtual_resources.iter().find(|resource| resource.resource() == wanted).cloned()
}

pub(crate) async fn serve(
    resource: Arc<dyn VirtualResource>,
    server: &Arc<ApiServer>,
    call: &Arc<Call>,
    body: Body,
) -> ApiResult<Reply> {
    let kind = kind_of(server, &call.info)?;
    let output = negotiate(&call.parts.headers, &call.query, Offer::Plain)?;
    if call.info.verb != "create" {
        return Err(no_such_method());
    }
    WriteOptions::of(&call.query, "CreateOptions")?;
    let format = body::format(&call.parts.headers)?;
    let bytes = body::read(body).await?;
    let descriptor = kind.descriptor();
    let expected =
        GroupVersionKind::new(descriptor.group.clone(), call.info.version.as_str(), descriptor.kind.clone());
    let object = codec::decode_expected(&bytes, format, &expected)?;
    let mut answer = resource.create(server, call, object).await?;
    answer["kind"] = Value::from(&*descriptor.kind);
    answer["apiVersion"] = Value::from(expected.api_version());
    Ok(respond::value(StatusCode::CREATED, &answer, &output))
}

fn kind_of<'a>(server: &'a ApiServer, info: &RequestInfo) -> ApiResult<&'a Arc<dyn Kind>> {
    let found = server.config.kinds.iter().find(|kind| {
        let descriptor = kind.descriptor();
        descriptor.group == info.group
            && descriptor.plural == info.resource
            && descriptor.version(&info.version).is_some()
    });
    found.ok_or(ApiError::PathNotFound)
}
