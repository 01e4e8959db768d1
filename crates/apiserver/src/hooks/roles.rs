//! Roles and bindings hand out rights, and only those that the writer has: upstream's escalation checks, between strategy and
//! validation. How rules compare is not known here.

use super::Hooks;
use crate::authz::escalation::{full_authority, refusal};
use crate::authz::rbac::rules_of;
use crate::authz::{Decision, Rule};
use crate::error::{ApiResult, unreadable};
use crate::registry::Scope;
use crate::registry::write::Also;
use crate::request::{Attributes, RequestInfo, SUPERUSERS};
use futures_util::future::BoxFuture;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupResource;
use nauplius_meta::object;
use serde_json::Value;
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";

/// For `roles` and `clusterroles`.
pub(super) struct Roles;

/// For `rolebindings` and `clusterrolebindings`.
pub(super) struct Bindings;

impl Hooks for Roles {
    fn before_create<'a>(&'a self, scope: &'a Scope, new: &'a mut Value) -> BoxFuture<'a, ApiResult<Also>> {
        Box::pin(async move { check_role(scope, new, None).await.map(|()| Also::default()) })
    }

    fn before_update<'a>(
        &'a self,
        scope: &'a Scope,
        new: &'a mut Value,
        old: &'a Value,
    ) -> BoxFuture<'a, ApiResult<Also>> {
        Box::pin(async move { check_role(scope, new, Some(old)).await.map(|()| Also::default()) })
    }
}

impl Hooks for Bindings {
    fn before_create<'a>(&'a self, scope: &'a Scope, new: &'a mut Value) -> BoxFuture<'a, ApiResult<Also>> {
        Box::pin(async move { check_binding(scope, new).await.map(|()| Also::default()) })
    }

    fn before_update<'a>(
        &'a self,
        scope: &'a Scope,
        new: &'a mut Value,
        old: &'a Value,
    ) -> BoxFuture<'a, ApiResult<Also>> {
        Box::pin(async move {
            if !only_for_collection(new, old) {
                check_binding(scope, new).await?;
            }
            Ok(Also::default())
        })
    }
}

async fn check_role(scope: &Scope, new: &Value, old: Option<&Value>) -> ApiResult<()> {
    let info = &scope.call.info;
    let escalate = request("escalate", &info.resource, &info.name, scope.namespace());
    if old.is_some_and(|old| only_for_collection(new, old)) || may(scope, escalate).await {
        return Ok(());
    }
    confirm(scope, new, &rules_of(new)).await?;
    let aggregates = |role: &Value| !role["aggregationRule"].is_null();
    if (aggregates(new) || old.is_some_and(aggregates)) && missing(scope, &full_authority()).await.is_some() {
        return Err(forbidden(scope, new, "must have cluster-admin privileges to use an aggregationRule"));
    }
    Ok(())
}

async fn check_binding(scope: &Scope, new: &Value) -> ApiResult<()> {
    let reference = &new["roleRef"];
    let name = object::get_str(reference, &["name"]);
    let (plural, namespace) = match object::get_str(reference, &["kind"]) {
        "ClusterRole" => ("clusterroles", ""),
        "Role" => ("roles", scope.namespace()),
        // Validation refuses it.
        _ => return Ok(()),
    };
    // In the binding's namespace, whatever the role's: so one may be let bind a cluster role there alone.
    if may(scope, request("bind", plural, name, scope.namespace())).await {
        return Ok(());
    }
    let role = scope.resource.caches.get(GROUP, plural, namespace, name);
    let role = role.ok_or_else(|| ApiError::not_found(&GroupResource::new(GROUP, plural), name))?;
    confirm(scope, new, &rules_of(&role.object().map_err(unreadable)?)).await
}

fn request(verb: &str, resource: &str, name: &str, namespace: &str) -> RequestInfo {
    RequestInfo {
        is_resource: true,
        verb: verb.to_owned(),
        api_prefix: "apis".to_owned(),
        group: GROUP.to_owned(),
        version: "*".to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        ..RequestInfo::default()
    }
}

async fn may(scope: &Scope, info: RequestInfo) -> bool {
    let user = &scope.call.user;
    let attributes = Attributes { user: Arc::clone(user), info, field_selector: None, label_selector: None };
    let asked = scope.server.authorizer().authorize(&attributes).await;
    user.in_group(SUPERUSERS) || asked.decision == Decision::Allow
}

async fn confirm(scope: &Scope, new: &Value, rules: &[Rule]) -> ApiResult<()> {
    match missing(scope, rules).await {
        Some(message) => Err(forbidden(scope, new, &message)),
        None => Ok(()),
    }
}

async fn missing(scope: &Scope, rules: &[Rule]) -> Option<String> {
    let user = &scope.call.user;
    let own = scope.server.authorizer().rules(user, scope.namespace()).await;
    refusal(user, &own.rules, rules, &own.evaluation_error)
}

fn forbidden(scope: &Scope, new: &Value, message: &str) -> ApiError {
    ApiError::forbidden(&scope.resource.group_resource, object::name(new), message)
}

/// Whether nothing changes but what the garbage collector changes to let the object go.
fn only_for_collection(new: &Value, old: &Value) -> bool {
    let mut copy = new.clone();
    for field in ["ownerReferences", "finalizers", "managedFields", "selfLink", "resourceVersion"] {
        match object::get(old, &["metadata", field]) {
            Some(value) => object::set_metadata(&mut copy, field, value.clone()),
            None => {
                object::remove(&mut copy, &["metadata", field]);
            }
        }
    }
    copy == *old
}
