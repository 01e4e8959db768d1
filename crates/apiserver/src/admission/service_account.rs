//! ServiceAccount: every pod runs as an account that exists, finds the account's token in a file, and, where the account says so,
//! refers to no secret that the account does not.

use super::{Mutate, Operation, Review, Validate};
use crate::cache::{Caches, Entry};
use crate::error::{ApiResult, stale, unreadable};
use crate::references::{Reference, items};
use futures_util::future::BoxFuture;
use nauplius_base::id;
use nauplius_base::time::timeout;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// What upstream asks for, so that servers may extend it for clients that never read the file again.
const TOKEN_SECONDS: i64 = 3607;
/// A new namespace gets its default account from a controller; a pod that is faster waits so long. Upstream tries ten times.
const DEFAULT_ACCOUNT_WAIT: Duration = Duration::from_millis(1_500);

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
        if is_mirror(pod) {
            return check_mirror(review, pod);
        }
        let name = Some(account_of(pod)).filter(|name| !name.is_empty()).unwrap_or(DEFAULT).to_owned();
        pod["spec"]["serviceAccountName"] = Value::from(name.as_str());
        pod["spec"]["serviceAccount"] = Value::from(name.as_str());
        let account = self.account(review, pod).await?;
        let spec = &mut pod["spec"];
        if mounts_token(&account, spec) {
            mount_token(spec);
        }
        if spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
            && let Some(secrets) = account.get("imagePullSecrets")
        {
            spec["imagePullSecrets"] = secrets.clone();
        }
        check_secrets(review, &account, pod)
    }

    async fn check(&self, review: &Review<'_>, pod: &Value) -> ApiResult<()> {
        if review.operation == Operation::Create && review.subresource.is_empty() {
            if is_mirror(pod) {
                return check_mirror(review, pod);
            }
            let account = self.account(review, pod).await?;
            return check_secrets(review, &account, pod);
        }
        if review.operation == Operation::Update && review.subresource == "ephemeralcontainers" {
            let account = self.account(review, pod).await?;
            return check_ephemeral(review, &account, pod);
        }
        Ok(())
    }

    async fn account(&self, review: &Review<'_>, pod: &Value) -> ApiResult<Value> {
        let name = account_of(pod);
        if name.is_empty() {
            let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let message = format!("no service account specified for pod {}/{pod_name}", review.namespace);
            return Err(review.forbidden(Some(pod), message));
        }
        let Some(entry) = self.find(review.namespace, name).await? else {
            let place = format!("{}/{name}", review.namespace);
            let message =
                format!("error looking up service account {place}: serviceaccount {name:?} not found");
            return Err(review.forbidden(Some(pod), message));
        };
        entry.object().map_err(unreadable)
    }

    /// An account that the cache does not know yet may have been made a moment ago, or is about to be made.
    async fn find(&self, namespace: &str, name: &str) -> ApiResult<Option<Arc<Entry>>> {
        let Some(cache) = self.caches.resource("", "serviceaccounts") else { return Ok(None) };
        if let Some(entry) = cache.get(namespace, name) {
            return Ok(Some(entry));
        }
        let mut changes = cache.subscribe();
        self.caches.catch_up().await.map_err(stale)?;
        if let Some(entry) = cache.get(namespace, name) {
            return Ok(Some(entry));
        }
        if name != DEFAULT {
            return Ok(None);
        }
        let appears = async {
            loop {
                changes.changed().await;
                if let Some(entry) = cache.get(namespace, name) {
                    return entry;
                }
            }
        };
        // Too long is the same answer as never.
        Ok(timeout(DEFAULT_ACCOUNT_WAIT, appears).await.ok())
    }
}

fn is_mirror(pod: &Value) -> bool {
    !pod["metadata"]["annotations"][MIRROR].is_null()
}

fn account_of(pod: &Value) -> &str {
    pod["spec"]["serviceAccountName"].as_str().unwrap_or_default()
}

/// A mirror pod speaks of a pod that runs already: it cannot ask for credentials.
fn check_mirror(review: &Review<'_>, pod: &Value) -> ApiResult<()> {
    let projects_token = || {
        let mut sources =
            items(&pod["spec"]["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]));
        sources.any(|source| !source["serviceAccountToken"].is_null())
    };
    let message = if !account_of(pod).is_empty() {
        "a mirror pod may not reference service accounts"
    } else if !Reference::Secret.names(pod).is_empty() {
        "a mirror pod may not reference secrets"
    } else if projects_token() {
        "a mirror pod may not use ServiceAccountToken volume projections"
    } else {
        return Ok(());
    };
    Err(review.forbidden(Some(pod), message))
}

/// The pod's own word goes before the account's; without either the token is mounted.
fn mounts_token(account: &Value, spec: &Value) -> bool {
    let own = spec["automountServiceAccountToken"].as_bool();
    own.or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true)
}

/// Whether the account lets its pods refer only to the secrets that it lists itself.
fn is_enforced(account: &Value) -> bool {
    let said = account["metadata"]["annotations"][ENFORCE].as_str().unwrap_or_default();
    matches!(said, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn lists(account: &Value, list: &str, name: &str) -> bool {
    items(&account[list]).any(|secret| secret["name"] == name)
}

fn check_secrets(review: &Review<'_>, account: &Value, pod: &Value) -> ApiResult<()> {
    if !is_enforced(account) {
        return Ok(());
    }
    let spec = &pod["spec"];
    let refused = volume_secret(account, spec)
        .or_else(|| environment_secret(account, &spec["initContainers"], "init container"))
        .or_else(|| environment_secret(account, &spec["containers"], "container"))
        .or_else(|| pull_secret(account, spec));
    refused.map_or(Ok(()), |message| Err(review.forbidden(Some(pod), message)))
}

fn check_ephemeral(review: &Review<'_>, account: &Value, pod: &Value) -> ApiResult<()> {
    let containers = &pod["spec"]["ephemeralContainers"];
    let refused = if is_enforced(account) {
        environment_secret(account, containers, "ephemeral container")
    } else {
        None
    };
    refused.map_or(Ok(()), |message| Err(review.forbidden(Some(pod), message)))
}

fn not_allowed(what: &str, account: &Value) -> String {
    let name = account["metadata"]["name"].as_str().unwrap_or_default();
    format!("{what} is not allowed because service account {name} does not reference that secret")
}

fn volume_secret(account: &Value, spec: &Value) -> Option<String> {
    let mut names = items(&spec["volumes"]).filter_map(|volume| volume["secret"]["secretName"].as_str());
    let name = names.find(|name| !lists(account, "secrets", name))?;
    Some(not_allowed(&format!("volume with secret.secretName={name:?}"), account))
}

fn environment_secret(account: &Value, containers: &Value, sort: &str) -> Option<String> {
    let unlisted =
        |name: &Value| name.as_str().filter(|name| !lists(account, "secrets", name)).map(str::to_owned);
    items(containers).find_map(|container| {
        let own = format!("{sort} {}", container["name"].as_str().unwrap_or_default());
        let variable = items(&container["env"]).find_map(|variable| {
            let secret = unlisted(&variable["valueFrom"]["secretKeyRef"]["name"])?;
            let name = variable["name"].as_str().unwrap_or_default();
            Some(format!("{own} with envVar {name} referencing secret.secretName={secret:?}"))
        });
        let source = || {
            let secret =
                items(&container["envFrom"]).find_map(|source| unlisted(&source["secretRef"]["name"]))?;
            Some(format!("{own} with envFrom referencing secret.secretName={secret:?}"))
        };
        variable.or_else(source).map(|what| not_allowed(&what, account))
    })
}

fn pull_secret(account: &Value, spec: &Value) -> Option<String> {
    let names = items(&spec["imagePullSecrets"]).map(|secret| secret["name"].as_str().unwrap_or_default());
    let (index, name) = names.enumerate().find(|(_, name)| !lists(account, "imagePullSecrets", name))?;
    let account = account["metadata"]["name"].as_str().unwrap_or_default();
    Some(format!(
        "imagePullSecrets[{index}].name={name:?} is not allowed because service account {account} does not reference \
         that imagePullSecret"
    ))
}

fn mount_token(spec: &mut Value) {
    let known = items(&spec["volumes"]);
    let known =
        known.filter_map(|volume| volume["name"].as_str()).find(|name| name.starts_with(VOLUME_PREFIX));
    let volume = known.map_or_else(|| format!("{VOLUME_PREFIX}{}", id::suffix(5)), str::to_owned);
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            mounted |= mount_into(container, &volume);
        }
    }
    let exists = items(&spec["volumes"]).any(|known| known["name"] == volume.as_str());
    if mounted && !exists {
        push(spec, "volumes", token_volume(&volume));
    }
}

/// A container that mounts something there keeps that.
fn mount_into(container: &mut Value, volume: &str) -> bool {
    if items(&container["volumeMounts"]).any(|mount| mount["mountPath"] == MOUNT_PATH) {
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

impl Validate for ServiceAccount {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            let is_pod = review.resource.group.is_empty() && review.resource.resource == "pods";
            match object.filter(|_| is_pod) {
                Some(pod) => self.check(review, pod).await,
                None => Ok(()),
            }
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
