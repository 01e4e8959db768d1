//! The generic registry: the verbs, compiled once against the erased kind. One file a verb; what a kind needs of other objects
//! hangs in as hooks.

mod apply;
mod collection;
mod conversions;
pub(crate) mod convert;
mod create;
mod decode;
pub(crate) mod delete;
pub(crate) mod form;
pub(crate) mod get;
mod history;
mod lease;
pub(crate) mod lens;
mod list;
mod list_body;
mod managed;
pub(crate) mod options;
mod outgoing;
mod owners;
mod page;
pub(crate) mod patch;
mod prepare;
pub(crate) mod scope;
pub(crate) mod selection;
pub(crate) mod served;
mod streaming;
pub(crate) mod update;
mod watch;
mod watch_options;
pub(crate) mod write;

pub(crate) use create::create_object;
pub(crate) use decode::{decode_body, internal_package};
pub use options::fuzz_options;
pub(crate) use scope::Scope;
pub(crate) use served::Custom;
pub use served::Served;

use crate::body;
use crate::cache::{Caches, ResourceCache};
use crate::definitions;
use crate::error::ApiResult;
use crate::hooks::{self, Hooks};
use crate::request::{Call, RequestInfo};
use crate::respond::Reply;
use crate::server::{ApiServer, Config};
use form::Form;
use http::Method;
use lease::LeasePool;
use nauplius_client::transport::Body;
use nauplius_kinds::Kind;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::{GroupKind, GroupResource};
use nauplius_store::{LeaseId, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch as latest;

/// Every served resource. The snapshot is swapped when custom resources come or go.
pub struct Registry {
    served: latest::Sender<Arc<Served>>,
}

/// One stored resource.
pub(crate) struct Resource {
    pub kind: Arc<dyn Kind>,
    pub cache: Arc<ResourceCache>,
    pub caches: Arc<Caches>,
    pub hooks: Arc<dyn Hooks>,
    pub group_resource: GroupResource,
    pub group_kind: GroupKind,
    /// Defined by an object, not built in.
    custom: bool,
    /// Set for a version of a custom resource that differs from the stored one.
    form: Option<Form>,
    /// Its definition is being deleted: nothing new is made.
    ending: AtomicBool,
    store: Arc<dyn Store>,
    /// What stored bytes say they are.
    hub_kind: String,
    hub_api_version: String,
    leases: LeasePool,
}

impl Registry {
    /// The resources of the configured kinds.
    pub(crate) fn new(config: &Config) -> Self {
        let resources = config.kinds.iter().filter_map(|kind| {
            let descriptor = kind.descriptor();
            let cache = config.caches.resource(&descriptor.group, &descriptor.plural)?;
            Some(Arc::new(Resource::new(config, kind, cache)))
        });
        let served = Served::new(config.kinds.clone(), resources);
        Self { served: latest::Sender::new(Arc::new(served)) }
    }

    /// What is served now.
    pub(crate) fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served.borrow())
    }

    /// A stored resource.
    pub(crate) fn resource(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.served.borrow().resource(group, plural).cloned()
    }

    /// From now on these are the custom resources. Called by their one owner.
    pub(crate) fn set_custom<'a>(&self, custom: impl IntoIterator<Item = &'a Custom>) {
        let served = self.served().with_custom(custom);
        self.served.send_replace(Arc::new(served));
    }

    fn serving(&self, info: &RequestInfo) -> ApiResult<Arc<Resource>> {
        let served = self.served.borrow();
        served.version(&info.group, &info.version, &info.resource).cloned().ok_or(ApiError::PathNotFound)
    }
}

impl Resource {
    /// A resource whose objects are in `cache`.
    pub(crate) fn new(config: &Config, kind: &Arc<dyn Kind>, cache: Arc<ResourceCache>) -> Self {
        let descriptor = kind.descriptor();
        let group_resource = GroupResource::new(descriptor.group.clone(), descriptor.plural.clone());
        let stored = cache.kind().descriptor();
        Self {
            hub_kind: stored.kind.to_string(),
            hub_api_version: convert::api_version(stored, &stored.hub),
            hooks: hooks::of(&group_resource, config),
            group_kind: GroupKind::new(descriptor.group.clone(), descriptor.kind.clone()),
            leases: LeasePool::new(descriptor.ttl_s),
            kind: Arc::clone(kind),
            caches: Arc::clone(&config.caches),
            store: Arc::clone(&config.store),
            group_resource,
            custom: false,
            form: None,
            ending: AtomicBool::new(false),
            cache,
        }
    }

    /// A version of a custom resource.
    pub(crate) fn custom(
        config: &Config,
        kind: &Arc<dyn Kind>,
        cache: Arc<ResourceCache>,
        form: Option<Form>,
    ) -> Self {
        Self { custom: true, form, ..Self::new(config, kind, cache) }
    }

    /// From now on nothing is created any more.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Refuses creations while the definition is being deleted.
    fn check_not_ending(&self) -> ApiResult<()> {
        if !self.ending.load(Ordering::Acquire) {
            return Ok(());
        }
        let message = "create not allowed while custom resource definition is terminating";
        let refused =
            ApiError::MethodNotAllowed { resource: self.group_resource.clone(), action: "create".to_owned() };
        let mut status = refused.to_status();
        message.clone_into(&mut status.message);
        Err(ApiError::Status(Box::new(status)))
    }

    /// Whether an object defines it.
    pub(crate) fn is_custom(&self) -> bool {
        self.custom
    }

    async fn lease(&self) -> ApiResult<Option<LeaseId>> {
        self.leases.get(&*self.store).await
    }
}

/// Answers a request for a stored resource or one of its subresources.
pub(crate) async fn serve(server: &Arc<ApiServer>, call: &Arc<Call>, body: Body) -> ApiResult<Reply> {
    if call.info.verb == "create" && call.info.group.is_empty() && call.info.resource == "bindings" {
        return bindings(server, call, body).await;
    }
    let resource = match server.registry.serving(&call.info) {
        Ok(resource) => resource,
        Err(_) => {
            // It may have been defined a moment before.
            definitions::settle(server).await;
            server.registry.serving(&call.info)?
        }
    };
    let scope = Scope::new(Arc::clone(server), resource, Arc::clone(call))?;
    let info = &call.info;
    if !has_route(&call.parts.method) && info.subresource != "proxy" {
        return Err(scope.not_allowed());
    }
    if let Some(warning) = &scope.version().deprecation_warning {
        call.warnings.add(&**warning);
    }
    if !info.subresource.is_empty() {
        return hooks::subresource::serve(scope, body).await;
    }
    scope.check_namespace()?;
    match info.verb.as_str() {
        "get" => get::get(&scope).await,
        "list" => list::list(&scope).await,
        "watch" => watch::watch(&scope).await,
        "create" if info.name.is_empty() => {
            scope.resource.check_not_ending()?;
            create::create(&scope, body).await
        }
        "update" if !info.name.is_empty() => update::update(&scope, body).await,
        "patch" if !info.name.is_empty() => patch::patch(&scope, body).await,
        "delete" => delete::delete(&scope, body).await,
        "deletecollection" => collection::delete(&scope, body).await,
        _ => Err(scope.not_allowed()),
    }
}

/// Upstream's router knows no HEAD and OPTIONS of resources, but for proxies.
fn has_route(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE)
}

/// `POST /api/v1/namespaces/{namespace}/bindings`, the older way to bind a pod.
async fn bindings(server: &Arc<ApiServer>, call: &Arc<Call>, body: Body) -> ApiResult<Reply> {
    let pods = server.registry.resource("", "pods").ok_or(ApiError::PathNotFound)?;
    let scope = Scope::new(Arc::clone(server), pods, Arc::clone(call))?;
    hooks::binding::bind(&scope, body).await
}

/// Reads the body of a write.
pub(crate) async fn read_body(
    scope: &Scope,
    body: Body,
) -> ApiResult<(bytes::Bytes, crate::negotiate::Format)> {
    let format = body::format(&scope.call.parts.headers)?;
    Ok((body::read(body).await?, format))
}
