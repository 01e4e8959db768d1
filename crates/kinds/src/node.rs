//! Questions about a node that several components ask. It never changes one.

use crate::api::core::{Node, NodeCondition, Taint};
use crate::pod_requests::{Resources, typed_resources};

/// One condition.
pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether its kubelet says that it works.
pub fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Whether nobody has cordoned it.
pub fn is_schedulable(node: &Node) -> bool {
    !node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
}

/// What pods must tolerate.
pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// What its pods may ask for together.
pub fn allocatable(node: &Node) -> Resources {
    typed_resources(node.status.as_ref().and_then(|status| status.allocatable.as_ref()))
}

/// What it has.
pub fn capacity(node: &Node) -> Resources {
    typed_resources(node.status.as_ref().and_then(|status| status.capacity.as_ref()))
}

/// Its first address of a sort: `InternalIP`, `Hostname`, ...
pub fn address<'a>(node: &'a Node, type_: &str) -> Option<&'a str> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == type_).map(|address| address.address.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Object;
    use serde_json::json;

    #[test]
    fn a_node_tells_its_state() {
        let node = json!({"spec": {"unschedulable": true, "taints": [{"key": "a", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "1500m"},
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
        let node = Node::decode(node.to_string().as_bytes()).expect("a node");
        assert!(is_ready(&node) && !is_schedulable(&node));
        assert_eq!((taints(&node).len(), address(&node, "InternalIP")), (1, Some("10.0.0.1")));
        assert_eq!(allocatable(&node)["cpu"].milli_value(), 1500);
        assert!(capacity(&node).is_empty());
    }
}
