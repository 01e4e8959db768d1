//! ServiceAccount: every pod runs as an account that exists, and finds the account's token in a file.

use super::{Mutate, Operation, Review};
use crate::cache::Caches;
use crate::error::{ApiResult, stale};
use futures_util::future::BoxFuture;
use nauplius_base::id;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupResource;
use serde_json::{Value, json};
use std::sync::Arc;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// What upstream asks for, so that servers may extend it for clients that never read the file again.
const TOKEN_SECONDS: i64 = 3607;

/// The plugin.
pub struct ServiceAccount {
    caches: Arc<Caches>,
}

impl ServiceAccount {
    /// Looks accounts up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    async fn admit(&self, review: &Review<'_>, pod: &mut Value) -> ApiResult<()> {
        if !pod["metadata"]["annotations"][MIRROR].is_null() {
            return check_mirror(review, pod);
        }
        let spec = &mut pod["spec"];
        let name =
            Some(spec["serviceAccountName"].as_str().unwrap_or_default()).filter(|name| !name.is_empty());
        let name = name.unwrap_or("default").to_owned();
        spec["serviceAccountName"] = Value::from(name.as_str());
        spec["serviceAccount"] = Value::from(name.as_str());
        let account = self.account(review, &name).await?;
        if mounts_token(&account, spec) {
            mount_token(spec);
        }
        if spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
            && let Some(secrets) = account.get("imagePullSecrets")
        {
            spec["imagePullSecrets"] = secrets.clone();
        }
        Ok(())
    }

    /// An account that the cache does not know yet may have been made a moment ago.
    async fn account(&self, review: &Review<'_>, name: &str) -> ApiResult<Value> {
        let known = || self.caches.get("", "serviceaccounts", review.namespace, name);
        let entry = match known() {
            Some(entry) => Some(entry),
            None => {
                self.caches.catch_up().await.map_err(stale)?;
                known()
            }
        };
        let missing = || {
            refuse(
                review,
                &format!(
                    "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                    review.namespace
                ),
            )
        };
        entry.ok_or_else(missing)?.object().map_err(crate::error::unreadable)
    }
}

fn refuse(review: &Review<'_>, message: &str) -> ApiError {
    ApiError::Forbidden {
        resource: GroupResource::new("", "pods"),
        name: review.name.to_owned(),
        message: message.to_owned(),
    }
}

/// A mirror pod speaks of a pod that runs already: it cannot ask for credentials.
fn check_mirror(review: &Review<'_>, pod: &Value) -> ApiResult<()> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Err(refuse(review, "a mirror pod may not reference service accounts"));
    }
    let mut volumes = spec["volumes"].as_array().into_iter().flatten();
    if volumes.any(|volume| !volume["secret"].is_null()) {
        return Err(refuse(review, "a mirror pod may not reference secrets"));
    }
    Ok(())
}

/// The pod's own word goes before the account's; without either the token is mounted.
fn mounts_token(account: &Value, spec: &Value) -> bool {
    let own = spec["automountServiceAccountToken"].as_bool();
    own.or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true)
}

fn mount_token(spec: &mut Value) {
    let known = spec["volumes"].as_array().into_iter().flatten();
    let known =
        known.filter_map(|volume| volume["name"].as_str()).find(|name| name.starts_with(VOLUME_PREFIX));
    let volume = known.map_or_else(|| format!("{VOLUME_PREFIX}{}", id::suffix(5)), str::to_owned);
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            mounted |= mount_into(container, &volume);
        }
    }
    let exists =
        spec["volumes"].as_array().into_iter().flatten().any(|known| known["name"] == volume.as_str());
    if mounted && !exists {
        push(spec, "volumes", token_volume(&volume));
    }
}

/// A container that mounts something there keeps that.
fn mount_into(container: &mut Value, volume: &str) -> bool {
    let mut mounts = container["volumeMounts"].as_array().into_iter().flatten();
    if mounts.any(|mount| mount["mountPath"] == MOUNT_PATH) {
        return false;
    }
    push(container, "volumeMounts", json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
    true
}

fn push(object: &mut Value, key: &str, item: Value) {
    match object[key].as_array_mut() {
        Some(list) => list.push(item),
        None => object[key] = json!([item]),
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}

impl Mutate for ServiceAccount {
    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            if review.operation == Operation::Create && review.is_for("", "pods") {
                self.admit(review, object).await?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_once_and_leaves_own_mounts_alone() {
        let own = json!({"name": "mine", "mountPath": MOUNT_PATH});
        let mut spec = json!({"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [own.clone()]}]});
        mount_token(&mut spec);
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], MOUNT_PATH);
        assert_eq!(spec["containers"][1]["volumeMounts"], json!([own]));
        let before = spec.clone();
        mount_token(&mut spec);
        assert_eq!(spec, before);
    }
}
