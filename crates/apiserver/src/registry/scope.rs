//! What a request is about: the resource, the version it speaks, and how it wants its answer.

use super::Resource;
use super::convert::api_version;
use crate::admission::{Operation, Review};
use crate::error::ApiResult;
use crate::negotiate::{Format, Offer, Output, Shape, negotiate, negotiate_tree};
use crate::render::View;
use crate::request::Call;
use crate::server::ApiServer;
use crate::table::IncludeObject;
use nauplius_base::time;
use nauplius_kinds::{Context, Version};
use nauplius_meta::error::{ApiError, generic_server_response};
use nauplius_meta::gvk::{GroupResource, GroupVersionKind, GroupVersionResource};
use nauplius_meta::structural::Schema;
use serde_json::Value;
use std::sync::Arc;

/// Cheap to clone; shared with streams that outlive the request's handler.
#[derive(Clone)]
pub(crate) struct Scope {
    pub server: Arc<ApiServer>,
    pub resource: Arc<Resource>,
    pub call: Arc<Call>,
    pub output: Output,
    include_object: IncludeObject,
    version: usize,
}

impl Scope {
    pub fn new(server: Arc<ApiServer>, resource: Arc<Resource>, call: Arc<Call>) -> ApiResult<Self> {
        let offer = match call.info.subresource.as_str() {
            "" | "status" | "scale" => Offer::Objects,
            _ => Offer::Plain,
        };
        let output = negotiate(&call.parts.headers, &call.query, offer)?;
        let output = plain_text_only(&call, &resource, offer, output)?;
        let versions = &resource.kind.descriptor().versions;
        let version = versions
            .iter()
            .position(|version| version.name == call.info.version)
            .ok_or(ApiError::PathNotFound)?;
        let include_object = match output.shape {
            Shape::Table(_) => IncludeObject::of(&call.query)?,
            _ => IncludeObject::Metadata,
        };
        Ok(Self { server, resource, call, output, include_object, version })
    }

    /// The served version that the request speaks.
    pub fn version(&self) -> &Version {
        &self.resource.kind.descriptor().versions[self.version]
    }

    /// How objects are shown to this client.
    pub fn view(&self) -> View {
        View::new(Arc::clone(&self.resource.kind), self.version, self.output.clone(), self.include_object)
    }

    /// The namespace of the object; empty for cluster-scoped kinds, whatever the path says.
    pub fn namespace(&self) -> &str {
        if self.resource.kind.descriptor().namespaced { &self.call.info.namespace } else { "" }
    }

    /// The name in the path.
    pub fn name(&self) -> &str {
        &self.call.info.name
    }

    /// Requests for one object of a namespaced kind, and creations, need a namespace in the path.
    pub fn check_namespace(&self) -> ApiResult<()> {
        let info = &self.call.info;
        let namespaced = self.resource.kind.descriptor().namespaced;
        let whole = matches!(info.verb.as_str(), "list" | "watch");
        if namespaced && info.namespace.is_empty() && !whole {
            return Err(self.not_allowed());
        }
        let wrong_scope = !namespaced && !info.namespace.is_empty() && info.resource != "namespaces";
        if wrong_scope { Err(ApiError::PathNotFound) } else { Ok(()) }
    }

    /// 405.
    pub fn not_allowed(&self) -> ApiError {
        no_such_method()
    }

    /// The kind in the request's version.
    pub fn gvk(&self) -> GroupVersionKind {
        let descriptor = self.resource.kind.descriptor();
        GroupVersionKind::new(descriptor.group.clone(), self.version().name.clone(), descriptor.kind.clone())
    }

    /// The resource as the path names it.
    pub fn gvr(&self) -> GroupVersionResource {
        let info = &self.call.info;
        GroupVersionResource::new(info.group.as_str(), info.version.as_str(), info.resource.as_str())
    }

    /// The schema of a body of that kind, if it is one of the custom resource itself.
    pub fn schema_of(&self, gvk: &GroupVersionKind) -> Option<&Schema> {
        let schema = self.resource.kind.schema()?;
        (*gvk == self.gvk()).then_some(&**schema)
    }

    /// `apps/v1`
    pub fn api_version(&self) -> String {
        api_version(self.resource.kind.descriptor(), &self.version().name)
    }

    /// What strategies may know.
    pub fn context(&self) -> Context<'_> {
        // A scale changes the object itself, under the rules of the object.
        let subresource =
            Some(self.call.info.subresource.as_str()).filter(|name| !matches!(*name, "" | "scale"));
        let user = &self.call.user;
        Context {
            subresource,
            user: &user.name,
            uid: &user.uid,
            groups: &user.groups,
            extra: Some(&user.extra),
            now_s: time::unix_seconds(),
        }
    }

    /// What admission plugins may know.
    pub fn review<'a>(
        &'a self,
        operation: Operation,
        name: &'a str,
        dry_run: bool,
        options: &'a Value,
    ) -> Review<'a> {
        let info = &self.call.info;
        Review {
            operation,
            user: &self.call.user,
            kind: self.gvk(),
            resource: self.gvr(),
            subresource: &info.subresource,
            namespace: &info.namespace,
            name,
            dry_run,
            options,
            warnings: &self.call.warnings,
        }
    }

    /// 404 for the object of the path.
    pub fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource.group_resource, self.name())
    }
}

/// 405 as upstream's router answers it: before any resource is asked.
pub(crate) fn no_such_method() -> ApiError {
    generic_server_response(405, "", &GroupResource::default(), "", "", 0, false).into()
}

/// Objects of custom resources have no protobuf form; what is made of them, such as their metadata alone, has.
fn plain_text_only(call: &Call, resource: &Resource, offer: Offer, output: Output) -> ApiResult<Output> {
    if resource.kind.schema().is_none() || output.format != Format::Protobuf || output.shape != Shape::Object
    {
        return Ok(output);
    }
    negotiate_tree(&call.parts.headers, &call.query, offer)
}
