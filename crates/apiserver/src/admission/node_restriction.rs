//! NodeRestriction: a kubelet writes its own Node, its own lease, its own pods, and nothing that would raise its rights.

use super::{Operation, Review, Validate};
use crate::authz::node::node_of;
use crate::cache::Caches;
use crate::error::{ApiResult, stale};
use futures_util::future::BoxFuture;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupResource;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Labels below these domains are for administrators, but for the list of those that kubelets are known to set.
const RESTRICTED: &str = "node-restriction.kubernetes.io";
const KUBELET_LABELS: [&str; 11] = [
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
];
const KUBELET_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The plugin.
pub struct NodeRestriction {
    caches: Arc<Caches>,
}

impl NodeRestriction {
    /// Looks pods up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    async fn check(&self, review: &Review<'_>, object: Option<&Value>, old: Option<&Value>) -> ApiResult<()> {
        let Some(node) = node_of(review.user) else { return Ok(()) };
        let null = Value::Null;
        let (object, old) = (object.unwrap_or(&null), old.unwrap_or(&null));
        match (review.resource.group.as_str(), review.resource.resource.as_str(), review.subresource) {
            ("", "pods", "") => check_pod(node, review, object, old),
            ("", "pods", "status") => check_pod_status(node, review, object, old),
            ("", "pods", "eviction") => {
                let pod = self.pod(review.namespace, review.name).await?;
                check_bound(node, review, &pod, "evict")
            }
            ("", "nodes", "" | "status") => check_node(node, review, object, old),
            ("", "serviceaccounts", "token") => self.check_token(node, review, object).await,
            ("coordination.k8s.io", "leases", _) => check_lease(node, review, object),
            _ => Ok(()),
        }
    }

    async fn pod(&self, namespace: &str, name: &str) -> ApiResult<Value> {
        let known = || self.caches.get("", "pods", namespace, name);
        let entry = match known() {
            Some(entry) => Some(entry),
            None => {
                self.caches.catch_up().await.map_err(stale)?;
                known()
            }
        };
        let missing = || ApiError::not_found(&GroupResource::new("", "pods"), name);
        entry.ok_or_else(missing)?.object().map_err(crate::error::unreadable)
    }

    /// A kubelet asks for tokens of the pods that run on its node, and these must be bound to the pod.
    async fn check_token(&self, node: &str, review: &Review<'_>, request: &Value) -> ApiResult<()> {
        let bound = &request["spec"]["boundObjectRef"];
        let text = |key: &str| bound[key].as_str().unwrap_or_default();
        if bound.is_null() || text("kind") != "Pod" {
            return Err(refuse(review, "node requested token not bound to a pod".to_owned()));
        }
        if text("uid").is_empty() {
            return Err(refuse(review, "node requested token with a pod binding without a uid".to_owned()));
        }
        let pod = self.pod(review.namespace, text("name")).await?;
        if pod["metadata"]["uid"].as_str() != Some(text("uid")) {
            let message = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been \
                 deleted and then recreated",
                text("uid")
            );
            return Err(ApiError::conflict(&GroupResource::new("", "pods"), text("name"), message));
        }
        if pod["spec"]["nodeName"] != node {
            return Err(refuse(
                review,
                "node requested token bound to a pod scheduled on a different node".to_owned(),
            ));
        }
        Ok(())
    }
}

fn refuse(review: &Review<'_>, message: String) -> ApiError {
    let resource = GroupResource::new(review.resource.group.as_str(), review.resource.resource.as_str());
    ApiError::forbidden(&resource, review.name, message)
}

fn check_pod(node: &str, review: &Review<'_>, object: &Value, old: &Value) -> ApiResult<()> {
    match review.operation {
        Operation::Create => check_mirror(node, review, object),
        Operation::Delete => check_bound(node, review, old, "delete"),
        _ => Err(refuse(
            review,
            format!("unexpected operation for node {node:?}: only create and delete of pods"),
        )),
    }
}

fn check_mirror(node: &str, review: &Review<'_>, pod: &Value) -> ApiResult<()> {
    if pod["metadata"]["annotations"][MIRROR].is_null() {
        let message =
            format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods");
        return Err(refuse(review, message));
    }
    check_bound(node, review, pod, "create")?;
    let spec = &pod["spec"];
    if spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Err(refuse(
            review,
            format!("node {node:?} can not create pods that reference a service account"),
        ));
    }
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    for volume in volumes {
        for kind in ["secret", "configMap", "persistentVolumeClaim", "projected"] {
            if !volume[kind].is_null() {
                return Err(refuse(
                    review,
                    format!("node {node:?} can not create pods that reference {kind} volumes"),
                ));
            }
        }
    }
    Ok(())
}

fn check_bound(node: &str, review: &Review<'_>, pod: &Value, what: &str) -> ApiResult<()> {
    if pod["spec"]["nodeName"] == node {
        return Ok(());
    }
    Err(refuse(review, format!("node {node:?} can only {what} pods with spec.nodeName set to itself")))
}

fn check_pod_status(node: &str, review: &Review<'_>, object: &Value, old: &Value) -> ApiResult<()> {
    if old["spec"]["nodeName"] != node {
        let message =
            format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself");
        return Err(refuse(review, message));
    }
    let labels = |pod: &Value| pod["metadata"].get("labels").cloned().unwrap_or(Value::Null);
    if labels(object) != labels(old) {
        return Err(refuse(review, format!("node {node:?} cannot update labels through pod status")));
    }
    Ok(())
}

fn check_node(node: &str, review: &Review<'_>, object: &Value, old: &Value) -> ApiResult<()> {
    let name = Some(review.name).filter(|name| !name.is_empty()).or(object["metadata"]["name"].as_str());
    if name != Some(node) {
        let message = format!("node {node:?} is not allowed to modify node {:?}", name.unwrap_or_default());
        return Err(refuse(review, message));
    }
    match review.operation {
        Operation::Create => {
            let forbidden = forbidden_labels(&labels_of(object), &Map::new());
            check_labels(node, review, "set", &forbidden)
        }
        Operation::Update => {
            if object["spec"].get("taints").unwrap_or(&Value::Null)
                != old["spec"].get("taints").unwrap_or(&Value::Null)
            {
                return Err(refuse(review, format!("node {node:?} is not allowed to modify taints")));
            }
            let forbidden = forbidden_labels(&labels_of(object), &labels_of(old));
            check_labels(node, review, "modify", &forbidden)
        }
        _ => Ok(()),
    }
}

fn check_labels(node: &str, review: &Review<'_>, what: &str, labels: &BTreeSet<String>) -> ApiResult<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let list: Vec<&str> = labels.iter().map(String::as_str).collect();
    Err(refuse(
        review,
        format!("is not allowed to {what} the following labels: {} (node {node:?})", list.join(", ")),
    ))
}

fn labels_of(node: &Value) -> Map<String, Value> {
    node["metadata"]["labels"].as_object().cloned().unwrap_or_default()
}

/// Labels that differ and are not a kubelet's to set.
fn forbidden_labels(new: &Map<String, Value>, old: &Map<String, Value>) -> BTreeSet<String> {
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = keys.into_iter().filter(|key| new.get(*key) != old.get(*key));
    changed.filter(|key| is_forbidden(key)).cloned().collect()
}

fn is_forbidden(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return false };
    let within = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    if within(RESTRICTED) {
        return true;
    }
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    kubernetes && !KUBELET_LABELS.contains(&label) && !KUBELET_DOMAINS.iter().any(|known| within(known))
}

fn check_lease(node: &str, review: &Review<'_>, lease: &Value) -> ApiResult<()> {
    if review.namespace != LEASE_NAMESPACE {
        let message = format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace");
        return Err(refuse(review, message));
    }
    let name = if review.operation == Operation::Create {
        lease["metadata"]["name"].as_str()
    } else {
        Some(review.name)
    };
    if name == Some(node) {
        return Ok(());
    }
    Err(refuse(review, "can only access node lease with the same name as the requesting node".to_owned()))
}

impl Validate for NodeRestriction {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(self.check(review, object, old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_set_only_their_own_labels() {
        let cases = [
            ("kubernetes.io/hostname", false),
            ("node.kubernetes.io/anything", false),
            ("kubelet.kubernetes.io/x", false),
            ("example.com/x", false),
            ("plain", false),
            ("node-restriction.kubernetes.io/x", true),
            ("team.node-restriction.kubernetes.io/x", true),
            ("node-role.kubernetes.io/control-plane", true),
            ("foo.k8s.io/x", true),
        ];
        for (label, expected) in cases {
            assert_eq!(is_forbidden(label), expected, "{label}");
        }
    }
}
