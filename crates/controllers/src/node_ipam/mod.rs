//! Every node has a range of pod addresses of its own, cut from the cluster's.

use crate::context::{Context, enqueue};
use nauplius_base::time::Timestamp;
use nauplius_client::Patch;
use nauplius_kinds::{Node, Object};
use nauplius_reconcile::{Action, Controller, EventKind, Informer, Key, Plan, Queue};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// One worker: two would cut the same piece.
const WORKERS: usize = 1;

struct NodeIpam {
    nodes: Informer<Node>,
    range: Option<Range>,
}

/// The cluster's range and the length of its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    pieces: u32,
    prefix: u8,
}

struct View {
    node: Arc<Node>,
    taken: BTreeSet<String>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    enqueue(&context.nodes, &queue, |change| Some(Key::of(&**change.object())));
    let range = Range::parse(&context.settings.cluster_cidr, context.settings.node_prefix);
    if range.is_none() {
        tracing::error!(
            range = context.settings.cluster_cidr,
            "the pod range cannot be cut into ranges for nodes"
        );
    }
    let controller = NodeIpam { nodes: context.nodes.clone(), range };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.nodes));
}

impl Range {
    fn parse(cidr: &str, prefix: u8) -> Option<Self> {
        let (address, length) = cidr.split_once('/')?;
        let (address, length): (Ipv4Addr, u8) = (address.parse().ok()?, length.parse().ok()?);
        let bits = prefix.checked_sub(length).filter(|bits| *bits < 32)?;
        Some(Self { first: u32::from(address), pieces: 1 << bits, prefix })
    }

    fn piece(self, index: u32) -> String {
        let address = Ipv4Addr::from(self.first + (index << (32 - self.prefix)));
        format!("{address}/{}", self.prefix)
    }

    fn first_free(self, taken: &BTreeSet<String>) -> Option<String> {
        (0..self.pieces).map(|index| self.piece(index)).find(|piece| !taken.contains(piece))
    }
}

fn range_of(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|range| !range.is_empty())
}

impl Controller for NodeIpam {
    type View = View;
    const NAME: &'static str = "node-controller";
    const QUEUE: &'static str = "cidrallocator_node";

    fn view(&self, key: &Key) -> Option<View> {
        let nodes = self.nodes.snapshot();
        let node = Arc::clone(nodes.get(key)?);
        let taken = nodes.iter().filter_map(|node| range_of(node)).map(str::to_owned).collect();
        Some(View { node, taken })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(range) = self.range.filter(|_| range_of(&view.node).is_none()) else { return plan };
        match range.first_free(&view.taken) {
            Some(piece) => {
                let patch = Patch::Strategic(json!({"spec": {"podCIDR": piece, "podCIDRs": [piece]}}));
                plan.act(Action::patch(&*view.node, None, patch));
            }
            None => {
                let message = format!("Node {} status is now: CIDRNotAvailable", view.node.name());
                plan.act(Action::event(&*view.node, EventKind::Normal, "CIDRNotAvailable", message));
                plan.because("no range of pod addresses is left");
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_the_range_into_pieces() {
        let range = Range::parse("10.244.0.0/16", 24).unwrap();
        let taken = BTreeSet::from(["10.244.0.0/24".to_owned()]);
        assert_eq!(range.first_free(&taken).as_deref(), Some("10.244.1.0/24"));
        let tiny = Range::parse("10.244.0.0/24", 24).unwrap();
        assert_eq!(tiny.first_free(&taken), None);
        assert_eq!(Range::parse("nonsense", 24), None);
        assert_eq!(Range::parse("10.0.0.0/25", 24), None);
    }
}
