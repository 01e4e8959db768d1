//! NodeRestriction: a kubelet writes its own Node, its own lease, its own pods, and nothing that would raise its rights.

use super::{Mutate, Operation, Review, Validate};
use crate::authz::node::identity;
use crate::cache::Caches;
use crate::error::{ApiResult, stale, unreadable};
use crate::references::{Reference, items};
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

/// Who asks for what: what every rule looks at.
struct Asked<'a> {
    node: &'a str,
    review: &'a Review<'a>,
    object: Option<&'a Value>,
    old: Option<&'a Value>,
}

static NULL: Value = Value::Null;

impl Asked<'_> {
    fn refuse(&self, message: impl Into<String>) -> ApiError {
        self.review.forbidden(self.object, message)
    }

    fn object(&self) -> &Value {
        self.object.unwrap_or(&NULL)
    }

    fn old(&self) -> &Value {
        self.old.unwrap_or(&NULL)
    }

    /// The name in the path, or of a new object the name in the body.
    fn name(&self) -> &str {
        let own = Some(self.review.name).filter(|name| !name.is_empty());
        own.or(self.object()["metadata"]["name"].as_str()).unwrap_or_default()
    }

    fn unexpected(&self) -> ApiError {
        self.refuse(format!("unexpected operation {:?}", verb(self.review.operation)))
    }
}

fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

impl NodeRestriction {
    /// Looks pods and nodes up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    async fn check(&self, review: &Review<'_>, object: Option<&Value>, old: Option<&Value>) -> ApiResult<()> {
        let Some(node) = identity(review.user) else { return Ok(()) };
        let asked = Asked { node, review, object, old };
        if node.is_empty() {
            return Err(asked.refuse(format!("could not determine node from user {:?}", review.user.name)));
        }
        match (review.resource.group.as_str(), review.resource.resource.as_str()) {
            ("", "pods") => self.check_pods(&asked).await,
            ("", "nodes") => check_node(&asked),
            ("", "persistentvolumeclaims") => check_claim(&asked),
            ("", "serviceaccounts") if review.subresource == "token" => self.check_token(&asked).await,
            ("coordination.k8s.io", "leases") => check_lease(&asked),
            ("storage.k8s.io", "csinodes") if asked.name() != node => {
                Err(asked.refuse("can only access CSINode with the same name as the requesting node"))
            }
            ("resource.k8s.io", "resourceslices") => check_slice(&asked),
            _ => Ok(()),
        }
    }

    async fn check_pods(&self, asked: &Asked<'_>) -> ApiResult<()> {
        let node = asked.node;
        match (asked.review.subresource, asked.review.operation) {
            ("", Operation::Create) => self.check_mirror(asked),
            ("", Operation::Delete) => check_bound(asked, asked.old(), "delete"),
            ("", operation) => Err(asked.refuse(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                verb(operation)
            ))),
            ("status", Operation::Update) => check_pod_status(asked),
            ("eviction", Operation::Create) => {
                let pod = self.get("pods", asked.review.namespace, asked.name()).await?;
                if pod["spec"]["nodeName"] == node {
                    return Ok(());
                }
                // Without quotes here, as upstream.
                let message = format!("node {node} can only evict pods with spec.nodeName set to itself");
                Err(asked.refuse(message))
            }
            ("status" | "eviction", _) => Err(asked.unexpected()),
            (other, _) => Err(asked.refuse(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            ))),
        }
    }

    async fn get(&self, plural: &str, namespace: &str, name: &str) -> ApiResult<Value> {
        let known = || self.caches.get("", plural, namespace, name);
        let entry = match known() {
            Some(entry) => Some(entry),
            None => {
                self.caches.catch_up().await.map_err(stale)?;
                known()
            }
        };
        let missing = || ApiError::not_found(&GroupResource::new("", plural), name);
        entry.ok_or_else(missing)?.object().map_err(unreadable)
    }

    /// Nodes make pods only to show what runs already, and these ask for nothing.
    fn check_mirror(&self, asked: &Asked<'_>) -> ApiResult<()> {
        let (node, pod) = (asked.node, asked.object());
        if pod["metadata"]["annotations"][MIRROR].is_null() {
            let message =
                format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods");
            return Err(asked.refuse(message));
        }
        check_bound(asked, pod, "create")?;
        self.check_owner(asked)?;
        let refers = if pod["spec"]["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
            "a service account"
        } else if !Reference::Secret.names(pod).is_empty() {
            "secrets"
        } else if !Reference::ConfigMap.names(pod).is_empty() {
            "configmaps"
        } else if projects_trust_bundle(pod) {
            "clustertrustbundles"
        } else if !Reference::Claim.names(pod).is_empty() {
            "persistentvolumeclaims"
        } else {
            return Ok(());
        };
        Err(asked.refuse(format!("node {node:?} can not create pods that reference {refers}")))
    }

    fn check_owner(&self, asked: &Asked<'_>) -> ApiResult<()> {
        let node = asked.node;
        let refuse = |what: &str| Err(asked.refuse(format!("node {node:?} {what}")));
        let owners: Vec<&Value> = items(&asked.object()["metadata"]["ownerReferences"]).collect();
        let owner = match owners.as_slice() {
            [owner] => *owner,
            [] => return refuse("can only create pods with an owner reference set to itself"),
            _ => return refuse("can only create pods with a single owner reference set to itself"),
        };
        if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
            return refuse("can only create pods with an owner reference set to itself");
        }
        if owner["controller"] != true {
            return refuse("can only create pods with a controller owner reference set to itself");
        }
        if owner["blockOwnerDeletion"] == true {
            return refuse("must not set blockOwnerDeletion on an owner reference");
        }
        let missing = || ApiError::not_found(&GroupResource::new("", "nodes"), node);
        let own = self.caches.get("", "nodes", "", node).ok_or_else(missing)?.object().map_err(unreadable)?;
        let uid = |object: &Value| object.as_str().unwrap_or_default().to_owned();
        let (said, known) = (uid(&owner["uid"]), uid(&own["metadata"]["uid"]));
        if said == known {
            return Ok(());
        }
        Err(asked.refuse(format!("node {node} UID mismatch: expected {said} got {known}")))
    }

    /// A kubelet asks for tokens of the pods that run on its node, and these must be bound to the pod and for an audience that the
    /// pod has a use for.
    async fn check_token(&self, asked: &Asked<'_>) -> ApiResult<()> {
        if asked.review.operation != Operation::Create {
            return Ok(());
        }
        let spec = &asked.object()["spec"];
        let text = |key: &str| spec["boundObjectRef"][key].as_str().unwrap_or_default();
        if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
            return Err(asked.refuse("node requested token not bound to a pod"));
        }
        if text("uid").is_empty() {
            return Err(asked.refuse("node requested token with a pod binding without a uid"));
        }
        let pod = self.get("pods", asked.review.namespace, text("name")).await?;
        if pod["metadata"]["uid"].as_str() != Some(text("uid")) {
            return Err(asked.refuse(format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been \
                 deleted and then recreated",
                text("uid")
            )));
        }
        if pod["spec"]["nodeName"] != asked.node {
            return Err(asked.refuse("node requested token bound to a pod scheduled on a different node"));
        }
        self.check_audience(asked, &pod)
    }

    fn check_audience(&self, asked: &Asked<'_>, pod: &Value) -> ApiResult<()> {
        let wanted: Vec<&str> =
            items(&asked.object()["spec"]["audiences"]).filter_map(Value::as_str).collect();
        let audience = match wanted.as_slice() {
            [] => "",
            [one] => *one,
            _ => return Err(asked.refuse("node may only request 0 or 1 audiences")),
        };
        if projects_audience(pod, audience) || self.driver_wants(pod, asked.review.namespace, audience) {
            return Ok(());
        }
        Err(asked.refuse(format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            asked.review.user.name
        )))
    }

    /// Whether a CSI driver of one of the pod's volumes asks for tokens of this audience.
    fn driver_wants(&self, pod: &Value, namespace: &str, audience: &str) -> bool {
        let read = |group: &str, plural: &str, namespace: &str, name: &str| {
            let entry = self.caches.get(group, plural, namespace, name)?;
            // What cannot be read wants nothing.
            entry.object().ok()
        };
        let of_claim = |name: &str| {
            let claim = read("", "persistentvolumeclaims", namespace, name)?;
            let volume = read("", "persistentvolumes", "", claim["spec"]["volumeName"].as_str()?)?;
            volume["spec"]["csi"]["driver"].as_str().map(str::to_owned)
        };
        let inline = items(&pod["spec"]["volumes"]).filter_map(|volume| volume["csi"]["driver"].as_str());
        let claimed = Reference::Claim.names(pod).into_iter().filter_map(of_claim);
        let mut drivers = inline.map(str::to_owned).chain(claimed);
        drivers.any(|driver| {
            let driver = read("storage.k8s.io", "csidrivers", "", &driver).unwrap_or_default();
            items(&driver["spec"]["tokenRequests"])
                .any(|request| request["audience"].as_str().unwrap_or_default() == audience)
        })
    }
}

fn projects_audience(pod: &Value, audience: &str) -> bool {
    let mut sources =
        items(&pod["spec"]["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]));
    sources.any(|source| {
        let token = &source["serviceAccountToken"];
        !token.is_null() && token["audience"].as_str().unwrap_or_default() == audience
    })
}

fn projects_trust_bundle(pod: &Value) -> bool {
    let mut sources =
        items(&pod["spec"]["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]));
    sources.any(|source| !source["clusterTrustBundle"].is_null())
}

fn check_bound(asked: &Asked<'_>, pod: &Value, what: &str) -> ApiResult<()> {
    let node = asked.node;
    if pod["spec"]["nodeName"] == node {
        return Ok(());
    }
    Err(asked.refuse(format!("node {node:?} can only {what} pods with spec.nodeName set to itself")))
}

fn check_pod_status(asked: &Asked<'_>) -> ApiResult<()> {
    let (node, new, old) = (asked.node, asked.object(), asked.old());
    if old["spec"]["nodeName"] != node {
        let message =
            format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself");
        return Err(asked.refuse(message));
    }
    if labels_of(new) != labels_of(old) {
        return Err(asked.refuse(format!("node {node:?} cannot update labels through pod status")));
    }
    let claims = |pod: &Value| {
        let statuses = items(&pod["status"]["resourceClaimStatuses"]);
        statuses.map(|claim| [claim["name"].clone(), claim["resourceClaimName"].clone()]).collect::<Vec<_>>()
    };
    if claims(new) != claims(old) {
        // Upstream's spelling.
        return Err(asked.refuse(format!("node {node:?} cannot update resource claim statues")));
    }
    Ok(())
}

fn check_node(asked: &Asked<'_>) -> ApiResult<()> {
    let (node, name) = (asked.node, asked.name());
    if name != node {
        return Err(asked.refuse(format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let (new, old) = (asked.object(), asked.old());
    match asked.review.operation {
        Operation::Create => {
            let labels = forbidden_labels(&labels_of(new), &Map::new());
            refuse_labels(&labels, |list| {
                asked.refuse(format!("node {node:?} is not allowed to set the following labels: {list}"))
            })
        }
        Operation::Update => {
            if items(&new["spec"]["taints"]).ne(items(&old["spec"]["taints"])) {
                return Err(asked.refuse(format!("node {node:?} is not allowed to modify taints")));
            }
            let labels = forbidden_labels(&labels_of(new), &labels_of(old));
            refuse_labels(&labels, |list| asked.refuse(format!("is not allowed to modify labels: {list}")))
        }
        Operation::Delete | Operation::Connect => Ok(()),
    }
}

fn refuse_labels(labels: &BTreeSet<String>, refuse: impl FnOnce(String) -> ApiError) -> ApiResult<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let list: Vec<&str> = labels.iter().map(String::as_str).collect();
    Err(refuse(list.join(", ")))
}

/// A kubelet tells how far a claim was expanded, nothing else of it.
fn check_claim(asked: &Asked<'_>) -> ApiResult<()> {
    if asked.review.subresource != "status" {
        return Err(asked.refuse("may only update PVC status"));
    }
    if asked.review.operation != Operation::Update {
        return Err(asked.unexpected());
    }
    let bare = |claim: &Value| {
        let mut claim = claim.clone();
        for (part, field) in [
            ("metadata", "resourceVersion"),
            ("metadata", "managedFields"),
            ("status", "capacity"),
            ("status", "conditions"),
            ("status", "allocatedResources"),
            ("status", "allocatedResourceStatuses"),
        ] {
            if let Some(part) = claim.get_mut(part).and_then(Value::as_object_mut) {
                part.remove(field);
            }
        }
        claim
    };
    if bare(asked.object()) == bare(asked.old()) {
        return Ok(());
    }
    Err(asked.refuse(format!(
        "node {:?} is not allowed to update fields other than status.capacity and status.conditions",
        asked.node
    )))
}

fn check_slice(asked: &Asked<'_>) -> ApiResult<()> {
    let slice = asked.object.or(asked.old).unwrap_or(&NULL);
    if slice["spec"]["nodeName"] == asked.node {
        return Ok(());
    }
    let what = match asked.review.operation {
        Operation::Create => "create",
        Operation::Delete => "delete",
        Operation::Update | Operation::Connect => return Ok(()),
    };
    Err(asked.refuse(format!("can only {what} ResourceSlice with the same NodeName as the requesting node")))
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

fn check_lease(asked: &Asked<'_>) -> ApiResult<()> {
    if asked.review.namespace != LEASE_NAMESPACE {
        let message = format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace");
        return Err(asked.refuse(message));
    }
    if asked.name() == asked.node {
        return Ok(());
    }
    Err(asked.refuse("can only access node lease with the same name as the requesting node"))
}

impl Mutate for NodeRestriction {
    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            match review.operation {
                Operation::Create | Operation::Update => self.check(review, Some(object), old).await,
                Operation::Delete | Operation::Connect => Ok(()),
            }
        })
    }
}

impl Validate for NodeRestriction {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        _object: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            if review.operation == Operation::Delete { self.check(review, None, old).await } else { Ok(()) }
        })
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
