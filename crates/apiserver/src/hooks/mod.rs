//! What single kinds need of other objects: allocations in the same transaction, deletions that wait, subresources. The registry
//! calls hooks by resource and knows no kind; a hook knows its kind and nothing of HTTP.

pub(crate) mod binding;
mod budget;
mod definitions;
mod eviction;
mod namespaces;
mod ports;
mod roles;
mod service_ips;
mod services;
pub(crate) mod subresource;
pub mod token;

pub(crate) use services::{address_object, addresses as service_addresses};

use crate::error::ApiResult;
use crate::registry::Scope;
use crate::registry::write::Also;
use crate::server::Config;
use futures_util::future::BoxFuture;
use nauplius_meta::gvk::GroupResource;
use serde_json::Value;
use std::sync::Arc;

/// Called around the writes of one resource. Objects are in the hub version; what a hook returns is committed with the write.
pub(crate) trait Hooks: Send + Sync + 'static {
    /// Completes a new object between its strategy and its validation.
    fn before_create<'a>(&'a self, _scope: &'a Scope, _new: &'a mut Value) -> BoxFuture<'a, ApiResult<Also>> {
        Box::pin(async { Ok(Also::default()) })
    }

    /// Whether a new object takes something that another may have taken first, so that it is tried again.
    fn allocates(&self) -> bool {
        false
    }

    /// Completes a new form of an object.
    fn before_update<'a>(
        &'a self,
        _scope: &'a Scope,
        _new: &'a mut Value,
        _old: &'a Value,
    ) -> BoxFuture<'a, ApiResult<Also>> {
        Box::pin(async { Ok(Also::default()) })
    }

    /// The object is about to go.
    fn before_remove<'a>(&'a self, _scope: &'a Scope, _old: &'a Value) -> BoxFuture<'a, ApiResult<Also>> {
        Box::pin(async { Ok(Also::default()) })
    }

    /// Whether something other than finalizers of its metadata keeps an object that is being deleted.
    fn keeps(&self, _object: &Value) -> bool {
        false
    }

    /// Whether an update without finalizers may remove an object that is being deleted.
    fn may_remove_on_update(&self, _new: &Value) -> bool {
        true
    }

    /// The object was marked as being deleted and stays for now.
    fn on_deleting(&self, _object: &mut Value) {}

    /// Whether the collection can be deleted at once.
    fn deletes_collections(&self) -> bool {
        true
    }

    /// Whether a deletion is answered with the object instead of a Status, as upstream does for some kinds.
    fn shows_deleted(&self) -> bool {
        false
    }
}

/// For kinds that need nothing.
struct Nothing;

impl Hooks for Nothing {}

/// For kinds that need nothing but are shown when they go.
struct Shown;

impl Hooks for Shown {
    fn shows_deleted(&self) -> bool {
        true
    }
}

/// The hooks of a resource.
pub(crate) fn of(resource: &GroupResource, config: &Config) -> Arc<dyn Hooks> {
    match (resource.group.as_str(), resource.resource.as_str()) {
        ("", "services") => Arc::new(services::Services::new(config)),
        ("", "namespaces") => Arc::new(namespaces::Namespaces),
        ("apiextensions.k8s.io", "customresourcedefinitions") => Arc::new(definitions::Definitions),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => Arc::new(roles::Roles),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => Arc::new(roles::Bindings),
        (
            "",
            "pods"
            | "serviceaccounts"
            | "persistentvolumes"
            | "persistentvolumeclaims"
            | "podtemplates"
            | "resourcequotas",
        ) => Arc::new(Shown),
        _ => Arc::new(Nothing),
    }
}
