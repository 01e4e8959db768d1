//! The Node authorizer: a kubelet may read what the pods bound to its node refer to, write what is its own, and nothing else.
//! Which pods those are is read from the watch cache at the moment of the question.

use super::{Authorize, RuleList, Verdict};
use super::{Rule, rbac};
use crate::cache::{Caches, Entry};
use crate::request::{Attributes, RequestInfo, UserInfo};
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;

/// The group of kubelets.
pub const NODES: &str = "system:nodes";
const USER_PREFIX: &str = "system:node:";
const LEASE_NAMESPACE: &str = "kube-node-lease";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The node that a user is, if it is a kubelet's.
pub fn node_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(USER_PREFIX)?;
    (user.in_group(NODES) && !name.is_empty()).then_some(name)
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
            ("", "secrets") => self.reading_referred(node, info, Reference::Secret),
            ("", "configmaps") => self.reading_referred(node, info, Reference::ConfigMap),
            ("", "persistentvolumeclaims") if info.subresource.is_empty() => {
                self.reading_referred(node, info, Reference::Claim)
            }
            ("", "serviceaccounts") => self.creating_token(node, info),
            ("", "pods") if is_read(info) => self.reading_pods(node, attributes),
            ("", "nodes") if is_read(info) => reading_nodes(node, attributes),
            ("coordination.k8s.io", "leases") => own_lease(node, info),
            ("storage.k8s.io", "csinodes") => own_csi_node(node, info),
            _ if self.rules.iter().any(|rule| rbac::allows(rule, info)) => Verdict::allow(""),
            _ => Verdict::no_opinion(),
        }
    }

    /// get, list and watch of one named object that a pod of the node refers to.
    fn reading_referred(&self, node: &str, info: &RequestInfo, reference: Reference) -> Verdict {
        if !is_read(info) || !info.subresource.is_empty() {
            return refuse("can only read resources of this type");
        }
        if info.name.is_empty() {
            return refuse("No Object name found");
        }
        let related =
            self.pods_of(node, &info.namespace).any(|pod| reference.is_in(&pod["spec"], &info.name));
        if related {
            return Verdict::allow("");
        }
        refuse(&format!("no relationship found between node '{node}' and this object"))
    }

    fn creating_token(&self, node: &str, info: &RequestInfo) -> Verdict {
        if info.subresource != "token" || info.verb != "create" {
            return refuse("can only create tokens for individual service accounts");
        }
        let uses = |pod: &Value| pod["spec"]["serviceAccountName"].as_str() == Some(info.name.as_str());
        if self.pods_of(node, &info.namespace).any(|pod| uses(&pod)) {
            return Verdict::allow("");
        }
        refuse(&format!("no relationship found between node '{node}' and this object"))
    }

    /// Lists and watches must select the node's own pods; a single pod must be bound to the node.
    fn reading_pods(&self, node: &str, attributes: &Attributes) -> Verdict {
        let info = &attributes.info;
        if !info.subresource.is_empty() {
            return Verdict::no_opinion();
        }
        if info.verb == "get" {
            let pod = self.caches.get("", "pods", &info.namespace, &info.name);
            let own = pod.is_none_or(|pod| pod.field("spec.nodeName") == Some(node));
            return if own { Verdict::allow("") } else { refuse("can only get pods bound to this node") };
        }
        if selects(attributes, "spec.nodeName", node) {
            return Verdict::allow("");
        }
        refuse("can only list/watch pods with spec.nodeName field selector")
    }

    /// The pods bound to `node`; mirror pods are the kubelet's own word and prove nothing.
    fn pods_of(&self, node: &str, namespace: &str) -> impl Iterator<Item = Value> {
        let cache = self.caches.resource("", "pods");
        let entries: Vec<Arc<Entry>> = cache.map_or_else(Vec::new, |cache| {
            let (snapshot, prefix) = (cache.snapshot().0, cache.namespace_prefix(namespace));
            let all = snapshot.with_prefix(prefix.as_bytes());
            all.filter(|entry| entry.field("spec.nodeName") == Some(node)).cloned().collect()
        });
        entries.into_iter().filter_map(|entry| match entry.object() {
            Ok(pod) => Some(pod).filter(|pod| pod["metadata"]["annotations"][MIRROR].is_null()),
            Err(error) => {
                tracing::error!(%error, "an unreadable pod proves nothing");
                None
            }
        })
    }
}

#[derive(Clone, Copy)]
enum Reference {
    Secret,
    ConfigMap,
    Claim,
}

impl Reference {
    fn is_in(self, spec: &Value, name: &str) -> bool {
        let containers = ["containers", "initContainers", "ephemeralContainers"];
        let mut all = containers.iter().flat_map(|list| items(&spec[*list]));
        let in_volumes = items(&spec["volumes"]).any(|volume| self.is_in_volume(volume, name));
        in_volumes
            || self.is_pull_secret(spec, name)
            || all.any(|container| self.is_in_environment(container, name))
    }

    fn is_pull_secret(self, spec: &Value, name: &str) -> bool {
        matches!(self, Reference::Secret)
            && items(&spec["imagePullSecrets"]).any(|secret| secret["name"] == name)
    }

    fn is_in_volume(self, volume: &Value, name: &str) -> bool {
        let mut projected = items(&volume["projected"]["sources"]);
        match self {
            Reference::Secret => {
                let driver_secrets =
                    ["azureFile", "cephfs", "csi", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"];
                volume["secret"]["secretName"] == name
                    || projected.any(|source| source["secret"]["name"] == name)
                    || driver_secrets.iter().any(|driver| names_secret(&volume[*driver], name))
            }
            Reference::ConfigMap => {
                volume["configMap"]["name"] == name
                    || projected.any(|source| source["configMap"]["name"] == name)
            }
            Reference::Claim => volume["persistentVolumeClaim"]["claimName"] == name,
        }
    }

    fn is_in_environment(self, container: &Value, name: &str) -> bool {
        let (value, whole) = match self {
            Reference::Secret => ("secretKeyRef", "secretRef"),
            Reference::ConfigMap => ("configMapKeyRef", "configMapRef"),
            Reference::Claim => return false,
        };
        items(&container["env"]).any(|variable| variable["valueFrom"][value]["name"] == name)
            || items(&container["envFrom"]).any(|source| source[whole]["name"] == name)
    }
}

fn names_secret(source: &Value, name: &str) -> bool {
    source["secretName"] == name
        || ["secretRef", "nodePublishSecretRef"].iter().any(|key| source[*key]["name"] == name)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn is_read(info: &RequestInfo) -> bool {
    matches!(info.verb.as_str(), "get" | "list" | "watch")
}

fn refuse(reason: &str) -> Verdict {
    Verdict { reason: reason.to_owned(), ..Verdict::no_opinion() }
}

fn selects(attributes: &Attributes, field: &str, value: &str) -> bool {
    let selector = attributes.field_selector.as_deref().unwrap_or_default();
    let wanted = [format!("{field}={value}"), format!("{field}=={value}")];
    selector.split(',').any(|term| wanted.iter().any(|wanted| wanted == term))
}

fn reading_nodes(node: &str, attributes: &Attributes) -> Verdict {
    let info = &attributes.info;
    if info.name == node || selects(attributes, "metadata.name", node) {
        return Verdict::allow("");
    }
    refuse(&format!("node '{node}' cannot read '{}', only its own Node object", info.name))
}

fn own_lease(node: &str, info: &RequestInfo) -> Verdict {
    if info.namespace != LEASE_NAMESPACE {
        return refuse(&format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    let verbs = ["get", "create", "update", "patch", "delete"];
    if !verbs.contains(&info.verb.as_str()) {
        return refuse("can only get, create, update, patch, or delete a node lease");
    }
    // The name of a new object is in its body: NodeRestriction checks that.
    if info.verb != "create" && info.name != node {
        return refuse("can only access node lease with the same name as the requesting node");
    }
    Verdict::allow("")
}

fn own_csi_node(node: &str, info: &RequestInfo) -> Verdict {
    let verbs = ["get", "create", "update", "patch", "delete"];
    if !verbs.contains(&info.verb.as_str()) {
        return refuse("can only get, create, update, patch, or delete a CSINode");
    }
    if info.verb != "create" && info.name != node {
        return refuse("can only access CSINode with the same name as the requesting node");
    }
    Verdict::allow("")
}

impl Authorize for NodeAuthorizer {
    fn authorize<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Verdict> {
        let verdict = match node_of(&attributes.user) {
            Some(node) => self.decide(node, attributes),
            None if attributes.user.in_group(NODES) => {
                refuse(&format!("unknown node for user {:?}", attributes.user.name))
            }
            None => Verdict::no_opinion(),
        };
        Box::pin(std::future::ready(verdict))
    }

    fn rules<'a>(&'a self, user: &'a UserInfo, _namespace: &'a str) -> BoxFuture<'a, RuleList> {
        let mut list = RuleList::default();
        if node_of(user).is_some() {
            list.incomplete = true;
            "node authorizer does not support user rule resolution".clone_into(&mut list.evaluation_error);
        }
        Box::pin(std::future::ready(list))
    }
}
