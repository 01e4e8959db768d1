//! The scheduler's picture of the cluster: nodes with what is placed on them. It is told which objects to look at again and reads
//! them from snapshots; a pod that was just given a node counts there before the API shows it.

use crate::requests::Amounts;
use nauplius_kinds::api::core::ContainerPort;
use nauplius_kinds::{Node, Object, Pod};
use nauplius_reconcile::Key;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A host port that a pod takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// `0.0.0.0` for all addresses.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be taken on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.ip) || any(&other.ip) || self.ip == other.ip)
    }
}

/// A pod with what the scheduler needs of it, computed once.
#[derive(Debug)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What it requests.
    pub requests: Amounts,
    /// The host ports it takes.
    pub ports: Vec<HostPort>,
}

impl PodInfo {
    /// Reads a pod.
    pub fn new(pod: Arc<Pod>) -> Self {
        let (requests, ports) = (Amounts::of_pod(&pod), host_ports(&pod));
        Self { pod, requests, ports }
    }

    /// Its priority.
    pub fn priority(&self) -> i32 {
        self.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    containers.flat_map(|container| container.ports.iter().flatten()).filter_map(host_port).collect()
}

fn host_port(port: &ContainerPort) -> Option<HostPort> {
    let number = port.host_port.filter(|number| *number > 0)?;
    let ip = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
    Some(HostPort { ip, protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), port: number })
}

/// A node with what is placed on it.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<Node>,
    /// What it offers.
    pub allocatable: Amounts,
    /// How many pods it takes.
    pub pods_max: i64,
    /// What is placed on it.
    pub pods: Vec<Arc<PodInfo>>,
    /// The sum of their requests.
    pub requested: Amounts,
    /// The same, with defaults for pods that ask for nothing.
    pub requested_with_defaults: Amounts,
}

impl NodeInfo {
    /// An empty node.
    pub fn new(node: Arc<Node>) -> Self {
        let list = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let pods_max = list.and_then(|list| list.get("pods")?.0.parse().ok()).unwrap_or(0);
        let allocatable = Amounts::of_list(list);
        Self {
            node,
            allocatable,
            pods_max,
            pods: Vec::new(),
            requested: Amounts::default(),
            requested_with_defaults: Amounts::default(),
        }
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// One label of the node.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.meta().labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Places a pod.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.requested_with_defaults.add(&pod.requests.at_least_default());
        self.pods.push(pod);
    }

    fn remove(&mut self, uid: &str) {
        let Some(index) = self.pods.iter().position(|pod| pod.pod.uid() == uid) else { return };
        let pod = self.pods.swap_remove(index);
        self.requested.sub(&pod.requests);
        self.requested_with_defaults.sub(&pod.requests.at_least_default());
    }

    fn replace_node(&mut self, node: Arc<Node>) {
        let fresh = Self::new(node);
        self.node = fresh.node;
        self.allocatable = fresh.allocatable;
        self.pods_max = fresh.pods_max;
    }
}

struct Placement {
    uid: String,
    node: String,
    assumed: bool,
}

/// Nodes and placements.
#[derive(Default)]
pub struct Cluster {
    nodes: BTreeMap<String, NodeInfo>,
    /// Pods of nodes that are not known (yet).
    homeless: HashMap<String, Vec<Arc<PodInfo>>>,
    placements: HashMap<Key, Placement>,
}

impl Cluster {
    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Takes over what a snapshot says of one node.
    pub fn observe_node(&mut self, name: &str, node: Option<&Arc<Node>>) {
        match (node, self.nodes.get_mut(name)) {
            (Some(node), Some(info)) => info.replace_node(Arc::clone(node)),
            (Some(node), None) => {
                let mut info = NodeInfo::new(Arc::clone(node));
                self.homeless.remove(name).into_iter().flatten().for_each(|pod| info.add(pod));
                self.nodes.insert(name.to_owned(), info);
            }
            (None, Some(_)) => {
                if let Some(info) = self.nodes.remove(name).filter(|info| !info.pods.is_empty()) {
                    self.homeless.insert(name.to_owned(), info.pods);
                }
            }
            (None, None) => {}
        }
    }

    /// Takes over what a snapshot says of one pod.
    pub fn observe_pod(&mut self, key: &Key, pod: Option<&Arc<Pod>>) {
        let bound = pod.filter(|pod| !nauplius_kinds::pod::is_terminal(pod)).and_then(|pod| {
            let node = pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())?;
            Some((pod, node.to_owned()))
        });
        match bound {
            Some((pod, node)) => self.place(key, Arc::new(PodInfo::new(Arc::clone(pod))), node, false),
            // Its binding is under way: the API just does not show it yet.
            None if self.is_assumed(key, pod) => {}
            None => self.forget(key),
        }
    }

    fn is_assumed(&self, key: &Key, pod: Option<&Arc<Pod>>) -> bool {
        let placement = self.placements.get(key);
        placement
            .is_some_and(|placement| placement.assumed && pod.is_some_and(|pod| pod.uid() == placement.uid))
    }

    /// Counts a pod on `node` before the API shows it.
    pub fn assume(&mut self, key: &Key, pod: Arc<PodInfo>, node: &str) {
        self.place(key, pod, node.to_owned(), true);
    }

    /// The pod is on no node (any more).
    pub fn forget(&mut self, key: &Key) {
        let Some(placement) = self.placements.remove(key) else { return };
        if let Some(info) = self.nodes.get_mut(&placement.node) {
            info.remove(&placement.uid);
        }
        if let Some(pods) = self.homeless.get_mut(&placement.node) {
            pods.retain(|pod| pod.pod.uid() != placement.uid);
        }
    }

    fn place(&mut self, key: &Key, pod: Arc<PodInfo>, node: String, assumed: bool) {
        self.forget(key);
        let placement = Placement { uid: pod.pod.uid().to_owned(), node: node.clone(), assumed };
        self.placements.insert(key.clone(), placement);
        match self.nodes.get_mut(&node) {
            Some(info) => info.add(pod),
            None => self.homeless.entry(node).or_default().push(pod),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Nodes and pods from JSON, for the tests of this crate.

    use super::*;

    pub fn node(json: &serde_json::Value) -> Arc<Node> {
        Arc::new(Node::decode(json.to_string().as_bytes()).unwrap())
    }

    pub fn pod(json: &serde_json::Value) -> Arc<Pod> {
        Arc::new(Pod::decode(json.to_string().as_bytes()).unwrap())
    }

    pub fn simple_node(name: &str, cpu: &str) -> Arc<Node> {
        node(&serde_json::json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "3"}},
        }))
    }

    pub fn simple_pod(name: &str, cpu: &str, node: Option<&str>) -> Arc<Pod> {
        pod(&serde_json::json!({
            "metadata": {"name": name, "namespace": "d", "uid": format!("uid-{name}")},
            "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{simple_node, simple_pod};
    use super::*;

    fn requested(cluster: &Cluster) -> Vec<(String, i64)> {
        cluster.nodes().map(|info| (info.name().to_owned(), info.requested.milli_cpu)).collect()
    }

    #[test]
    fn an_assumed_pod_counts_until_the_api_shows_or_drops_it() {
        let mut cluster = Cluster::default();
        cluster.observe_node("a", Some(&simple_node("a", "4")));
        let (key, pending) = (Key::new("d", "p"), simple_pod("p", "500m", None));
        cluster.assume(&key, Arc::new(PodInfo::new(Arc::clone(&pending))), "a");
        cluster.observe_pod(&key, Some(&pending));
        assert_eq!(requested(&cluster), [("a".to_owned(), 500)]);
        cluster.observe_pod(&key, Some(&simple_pod("p", "500m", Some("a"))));
        assert_eq!(requested(&cluster), [("a".to_owned(), 500)]);
        cluster.observe_pod(&key, None);
        assert_eq!(requested(&cluster), [("a".to_owned(), 0)]);
    }

    #[test]
    fn pods_of_a_node_that_comes_later_are_counted_then() {
        let mut cluster = Cluster::default();
        cluster.observe_pod(&Key::new("d", "p"), Some(&simple_pod("p", "1", Some("a"))));
        cluster.observe_node("a", Some(&simple_node("a", "4")));
        assert_eq!(requested(&cluster), [("a".to_owned(), 1000)]);
        cluster.observe_node("a", None);
        cluster.observe_pod(&Key::new("d", "p"), None);
        cluster.observe_node("a", Some(&simple_node("a", "4")));
        assert_eq!(requested(&cluster), [("a".to_owned(), 0)]);
    }
}
