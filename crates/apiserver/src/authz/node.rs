//! The Node authorizer: a kubelet may read what the pods bound to its node refer to, write what is its own, and nothing else.
//! Which pods those are is read from the watch cache at the moment of the question.

use super::{Authorize, RuleList, Verdict};
use super::{Rule, rbac};
use crate::cache::{Caches, Entry};
use crate::references::{Reference, secrets_of_volume};
use crate::request::{Attributes, RequestInfo, UserInfo};
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;

/// The group of kubelets.
pub const NODES: &str = "system:nodes";
const USER_PREFIX: &str = "system:node:";
const LEASE_NAMESPACE: &str = "kube-node-lease";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a user is a kubelet, and of which node; the name is empty for one that does not say.
pub fn identity(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix(USER_PREFIX).filter(|_| user.in_group(NODES))
}

/// The node that a user is, if it is a kubelet's.
pub fn node_of(user: &UserInfo) -> Option<&str> {
    identity(user).filter(|name| !name.is_empty())
}

/// The Node authorizer.
pub struct NodeAuthorizer {
    caches: Arc<Caches>,
    rules: Vec<Rule>,
}

impl NodeAuthorizer {
    /// Decides by what `caches` hold; `rules` are those of the ClusterRole `system:node`, for what depends on no pod.
    pub fn new(caches: Arc<Caches>, rules: Vec<Rule>) -> Self {
        Self { caches, rules }
    }

    fn decide(&self, node: &str, attributes: &Attributes) -> Verdict {
        let info = &attributes.info;
        match (info.group.as_str(), info.resource.as_str()) {
            ("", "secrets") => self.reading_namespaced(node, info, Reference::Secret),
            ("", "configmaps") => self.reading_namespaced(node, info, Reference::ConfigMap),
            ("", "persistentvolumeclaims") if info.subresource == "status" => {
                self.writing_claim_status(node, info)
            }
            ("", "persistentvolumeclaims") => {
                self.getting(node, info, || self.refers(node, info, Reference::Claim))
            }
            ("", "persistentvolumes") => self.getting(node, info, || self.mounts(node, &info.name)),
            ("resource.k8s.io", "resourceclaims") => {
                self.getting(node, info, || self.refers(node, info, Reference::ResourceClaim))
            }
            ("storage.k8s.io", "volumeattachments") => {
                self.getting(node, info, || self.names_node("volumeattachments", node, info))
            }
            ("", "serviceaccounts") => self.service_account(node, info),
            ("", "pods") => self.pods(node, attributes),
            ("", "nodes") => nodes(node, info),
            ("coordination.k8s.io", "leases") => own_lease(node, info),
            ("storage.k8s.io", "csinodes") => own_csi_node(node, info),
            ("resource.k8s.io", "resourceslices") => self.slices(node, attributes),
            _ if self.rules.iter().any(|rule| rbac::allows(rule, info)) => Verdict::allow(""),
            _ => Verdict::no_opinion(),
        }
    }

    fn refers(&self, node: &str, info: &RequestInfo, reference: Reference) -> bool {
        self.pods_of(node, &info.namespace).any(|pod| reference.is_in(&pod, &info.name))
    }

    /// `get`, and nothing else, of what is related to the node.
    fn getting(&self, node: &str, info: &RequestInfo, related: impl FnOnce() -> bool) -> Verdict {
        if info.verb != "get" {
            return refuse("can only get individual resources of this type");
        }
        if !info.subresource.is_empty() {
            return refuse("cannot get subresource");
        }
        by_relation(node, info, related)
    }

    /// get, list and watch of one named object that a pod of the node refers to.
    fn reading_namespaced(&self, node: &str, info: &RequestInfo, reference: Reference) -> Verdict {
        if !is_read(info) {
            return refuse("can only read resources of this type");
        }
        if !info.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if info.namespace.is_empty() {
            return refuse("can only read namespaced object of this type");
        }
        by_relation(node, info, || {
            self.refers(node, info, reference)
                || (reference == Reference::Secret && self.needs_for_a_volume(node, info))
        })
    }

    fn writing_claim_status(&self, node: &str, info: &RequestInfo) -> Verdict {
        if !matches!(info.verb.as_str(), "update" | "patch") {
            return refuse("can only get/update/patch this type");
        }
        by_relation(node, info, || self.refers(node, info, Reference::Claim))
    }

    /// Tokens of, and since credential providers get tokens the accounts themselves of, pods on the node.
    fn service_account(&self, node: &str, info: &RequestInfo) -> Verdict {
        if is_read(info) {
            return self.reading_namespaced(node, info, Reference::ServiceAccount);
        }
        if info.verb != "create" || info.name.is_empty() {
            return refuse("can only create tokens for individual service accounts");
        }
        if info.subresource != "token" {
            return refuse("can only create token subresource of serviceaccount");
        }
        by_relation(node, info, || self.refers(node, info, Reference::ServiceAccount))
    }

    /// Lists and watches must select the node's own pods; a single pod must be bound to the node. What is written is judged by
    /// NodeRestriction, which sees it.
    fn pods(&self, node: &str, attributes: &Attributes) -> Verdict {
        let info = &attributes.info;
        match (info.subresource.as_str(), info.verb.as_str()) {
            ("", "get") => by_relation(node, info, || self.is_bound(node, info)),
            ("", "list" | "watch") if selects(attributes, "spec.nodeName", node) => Verdict::allow(""),
            ("", "list" | "watch") if !info.name.is_empty() => {
                by_relation(node, info, || self.is_bound(node, info))
            }
            ("", "list" | "watch") => refuse("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Verdict::allow("")
            }
            _ => Verdict::no_opinion(),
        }
    }

    /// A pod that is not there is answered with 404 by the registry: kubelets learn so that it is gone.
    fn is_bound(&self, node: &str, info: &RequestInfo) -> bool {
        let pod = self.caches.get("", "pods", &info.namespace, &info.name);
        pod.is_none_or(|pod| pod.field("spec.nodeName") == Some(node))
    }

    fn slices(&self, node: &str, attributes: &Attributes) -> Verdict {
        let info = &attributes.info;
        if !info.subresource.is_empty() {
            return refuse("cannot authorize ResourceSlice subresources");
        }
        match info.verb.as_str() {
            "create" => Verdict::allow(""),
            "get" | "update" | "patch" | "delete" => {
                by_relation(node, info, || self.names_node("resourceslices", node, info))
            }
            "watch" | "list" | "deletecollection" if selects(attributes, "nodeName", node) => {
                Verdict::allow("")
            }
            "watch" | "list" | "deletecollection" => {
                refuse("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => refuse(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            ),
        }
    }

    /// Whether the cluster-scoped object of the request has the node in its spec.
    fn names_node(&self, plural: &str, node: &str, info: &RequestInfo) -> bool {
        let entry = self.caches.get(&info.group, plural, "", &info.name);
        entry.and_then(|entry| read(&entry)).is_some_and(|object| object["spec"]["nodeName"] == node)
    }

    /// Whether a pod of the node uses the claim that a persistent volume is bound to.
    fn mounts(&self, node: &str, volume: &str) -> bool {
        let entry = self.caches.get("", "persistentvolumes", "", volume);
        entry.and_then(|entry| read(&entry)).is_some_and(|volume| self.mounts_volume(node, &volume))
    }

    fn mounts_volume(&self, node: &str, volume: &Value) -> bool {
        let claim = &volume["spec"]["claimRef"];
        let (Some(namespace), Some(name)) = (claim["namespace"].as_str(), claim["name"].as_str()) else {
            return false;
        };
        self.pods_of(node, namespace).any(|pod| Reference::Claim.is_in(&pod, name))
    }

    /// Whether a volume that a pod of the node mounts needs this secret.
    fn needs_for_a_volume(&self, node: &str, info: &RequestInfo) -> bool {
        let Some(cache) = self.caches.resource("", "persistentvolumes") else { return false };
        let (volumes, _) = cache.snapshot();
        volumes.iter().filter_map(|entry| read(entry)).any(|volume| {
            secrets_of_volume(&volume).contains(&(info.namespace.as_str(), info.name.as_str()))
                && self.mounts_volume(node, &volume)
        })
    }

    /// The pods bound to `node`; mirror pods are the kubelet's own word and prove nothing.
    fn pods_of(&self, node: &str, namespace: &str) -> impl Iterator<Item = Value> {
        let cache = self.caches.resource("", "pods");
        let entries: Vec<Arc<Entry>> = cache.map_or_else(Vec::new, |cache| {
            let (snapshot, prefix) = (cache.snapshot().0, cache.namespace_prefix(namespace));
            let all = snapshot.with_prefix(prefix.as_bytes());
            all.filter(|entry| entry.field("spec.nodeName") == Some(node)).cloned().collect()
        });
        let pods = entries.into_iter().filter_map(|entry| read(&entry));
        pods.filter(|pod| pod["metadata"]["annotations"][MIRROR].is_null())
    }
}

fn read(entry: &Entry) -> Option<Value> {
    match entry.object() {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(%error, "an unreadable object proves nothing");
            None
        }
    }
}

fn by_relation(node: &str, info: &RequestInfo, related: impl FnOnce() -> bool) -> Verdict {
    if info.name.is_empty() {
        return refuse("No Object name found");
    }
    if related() {
        return Verdict::allow("");
    }
    refuse(&format!("no relationship found between node '{node}' and this object"))
}

fn is_read(info: &RequestInfo) -> bool {
    matches!(info.verb.as_str(), "get" | "list" | "watch")
}

fn refuse(reason: &str) -> Verdict {
    Verdict { reason: reason.to_owned(), ..Verdict::no_opinion() }
}

fn selects(attributes: &Attributes, field: &str, value: &str) -> bool {
    let selector = attributes.field_selector.as_deref().unwrap_or_default();
    selector.split(',').any(|term| {
        let named = term.trim().strip_prefix(field).and_then(|rest| rest.strip_prefix('='));
        named.is_some_and(|wanted| wanted.strip_prefix('=').unwrap_or(wanted) == value)
    })
}

/// The name is compared, not looked up, so that a kubelet can ask for its node before it has made it.
fn nodes(node: &str, info: &RequestInfo) -> Verdict {
    match (info.subresource.as_str(), info.verb.as_str()) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Verdict::allow(""),
        ("", "get" | "list" | "watch") => match info.name.as_str() {
            name if name == node => Verdict::allow(""),
            "" => refuse(&format!("node '{node}' cannot read all nodes, only its own Node object")),
            name => refuse(&format!("node '{node}' cannot read '{name}', only its own Node object")),
        },
        _ => Verdict::no_opinion(),
    }
}

fn writes_own(info: &RequestInfo) -> bool {
    matches!(info.verb.as_str(), "get" | "create" | "update" | "patch" | "delete")
}

fn own_lease(node: &str, info: &RequestInfo) -> Verdict {
    if !writes_own(info) {
        return refuse("can only get, create, update, patch, or delete a node lease");
    }
    if info.namespace != LEASE_NAMESPACE {
        return refuse(&format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    // The name of a new object is in its body: NodeRestriction checks that.
    if info.verb != "create" && info.name != node {
        return refuse("can only access node lease with the same name as the requesting node");
    }
    Verdict::allow("")
}

fn own_csi_node(node: &str, info: &RequestInfo) -> Verdict {
    if !writes_own(info) {
        return refuse("can only get, create, update, patch, or delete a CSINode");
    }
    if !info.subresource.is_empty() {
        return refuse("cannot authorize CSINode subresources");
    }
    if info.verb != "create" && info.name != node {
        return refuse("can only access CSINode with the same name as the requesting node");
    }
    Verdict::allow("")
}

impl Authorize for NodeAuthorizer {
    fn authorize<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Verdict> {
        let verdict = match identity(&attributes.user) {
            Some("") => refuse(&format!("unknown node for user {:?}", attributes.user.name)),
            Some(node) => self.decide(node, attributes),
            None => Verdict::no_opinion(),
        };
        Box::pin(std::future::ready(verdict))
    }

    fn rules<'a>(&'a self, user: &'a UserInfo, _namespace: &'a str) -> BoxFuture<'a, RuleList> {
        let mut list = RuleList::default();
        if identity(user).is_some() {
            list.incomplete = true;
            "node authorizer does not support user rule resolution".clone_into(&mut list.evaluation_error);
        }
        Box::pin(std::future::ready(list))
    }
}
