//! Nodes that fall silent: their conditions become unknown, taints follow conditions, and their pods are no longer ready. Nothing
//! is asked or written while leases are renewed; the next look is due when one would be late.

mod health;
mod taints;

use crate::context::{Context, NODE, enqueue};
use nauplius_base::time::{self, Instant, Timestamp};
use nauplius_client::Patch;
use nauplius_kinds::{Lease, Node, Object, Pod, node, pod};
use nauplius_reconcile::events::ObjectRef;
use nauplius_reconcile::{Action, Change, Controller, EventKind, Informer, Key, Note, Plan, Queue};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const WORKERS: usize = 4;

/// When each node was heard of last, and which are known by name; by node name.
#[derive(Default)]
struct Memory {
    heard: HashMap<String, Instant>,
    known: HashMap<String, ObjectRef>,
}

#[derive(Clone, Default)]
struct SharedMemory(Arc<Mutex<Memory>>);

impl SharedMemory {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct NodeLifecycle {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    memory: SharedMemory,
}

#[derive(Debug, Clone)]
enum View {
    /// The node is gone; what it was.
    Gone(ObjectRef),
    Here(Box<Here>),
}

#[derive(Debug, Clone)]
struct Here {
    node: Arc<Node>,
    /// The controller has not met it before.
    is_new: bool,
    silent_for: Duration,
    /// No node at all is ready: evicting everything everywhere would help nobody.
    all_disrupted: bool,
    /// Its pods that say they are ready.
    ready_pods: Vec<Arc<Pod>>,
}

pub(crate) fn start(context: &Context) {
    let (queue, memory) = (Queue::new(), SharedMemory::default());
    let heard = memory.clone();
    enqueue(&context.nodes, &queue, move |change| {
        if says_something(change) {
            heard.lock().heard.insert(change.object().name().to_owned(), time::monotonic());
        }
        Some(Key::of(&**change.object()))
    });
    let (nodes, keys) = (context.nodes.clone(), queue.clone());
    context.nodes.on_change(move |change| {
        // Whether any node is ready decides for all.
        if turns(change) {
            nodes.snapshot().iter().for_each(|node| keys.add(Key::of(&**node)));
        }
    });
    let heard = memory.clone();
    context.leases.on_change(move |change: &Change<Lease>| {
        if is_renewed(change) {
            heard.lock().heard.insert(change.object().name().to_owned(), time::monotonic());
        }
    });
    let controller = NodeLifecycle { nodes: context.nodes.clone(), pods: context.pods.clone(), memory };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.nodes).sees(&context.pods));
}

/// A new node, or one whose kubelet has written its condition anew.
fn says_something(change: &Change<Node>) -> bool {
    let heartbeat =
        |node: &Node| node::condition(node, "Ready").map(|ready| ready.last_heartbeat_time.clone());
    match change {
        Change::Added(_) => true,
        Change::Updated { old, new } => heartbeat(old) != heartbeat(new),
        Change::Deleted(_) => false,
    }
}

fn turns(change: &Change<Node>) -> bool {
    match change {
        Change::Added(node) | Change::Deleted(node) => node::is_ready(node),
        Change::Updated { old, new } => node::is_ready(old) != node::is_ready(new),
    }
}

fn is_renewed(change: &Change<Lease>) -> bool {
    let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
    match change {
        Change::Added(_) => true,
        Change::Updated { old, new } => renewed(old) != renewed(new),
        Change::Deleted(_) => false,
    }
}

impl NodeLifecycle {
    fn gone(&self, key: &Key) -> Option<View> {
        let mut memory = self.memory.lock();
        memory.heard.remove(&key.name);
        memory.known.remove(&key.name).map(View::Gone)
    }

    fn ready_pods(&self, node: &Node) -> Vec<Arc<Pod>> {
        let pods = self.pods.snapshot();
        pods.indexed(NODE, node.name()).filter(|pod| pod::is_ready(pod)).cloned().collect()
    }
}

impl Controller for NodeLifecycle {
    type View = View;
    const NAME: &'static str = "node-controller";
    const QUEUE: &'static str = "node_lifecycle_controller";

    fn view(&self, key: &Key) -> Option<View> {
        let nodes = self.nodes.snapshot();
        let Some(node) = nodes.get(key).cloned() else { return self.gone(key) };
        let all_disrupted = !nodes.iter().any(|node| node::is_ready(node));
        let is_unknown = node::condition(&node, "Ready").is_some_and(|ready| ready.status == "Unknown");
        let ready_pods = if is_unknown { self.ready_pods(&node) } else { Vec::new() };
        let mut memory = self.memory.lock();
        let is_new = memory.known.insert(node.name().to_owned(), ObjectRef::of(&*node)).is_none();
        let now = time::monotonic();
        let silent_for = now.duration_since(*memory.heard.entry(node.name().to_owned()).or_insert(now));
        Some(View::Here(Box::new(Here { node, is_new, silent_for, all_disrupted, ready_pods })))
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        match view {
            View::Gone(node) => {
                let mut plan = Plan::nothing();
                let message = format!("Node {0} event: Removing Node {0} from Controller", node.name);
                let (about, kind) = (node.clone(), EventKind::Normal);
                plan.act(Action::Event(Box::new(Note { about, kind, reason: "RemovingNode", message })));
                plan
            }
            View::Here(here) => plan(here, now),
        }
    }
}

fn plan(here: &Here, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let node = &here.node;
    if here.is_new {
        let message = format!("Node {0} event: Registered Node {0} in Controller", node.name());
        plan.act(Action::event(&**node, EventKind::Normal, "RegisteredNode", message));
    }
    let grace = health::grace(node);
    if here.silent_for > grace {
        if let Some(silent) = health::silenced(node, now) {
            if node::is_ready(node) {
                let message = format!("Node {} status is now: NodeNotReady", node.name());
                plan.act(Action::event(&**node, EventKind::Normal, "NodeNotReady", message));
            }
            // Taints and pods follow when the caches show it.
            plan.act(Action::update_status(&silent));
            return plan;
        }
    } else if !health::is_silenced(node) {
        plan.again(grace - here.silent_for + Duration::from_millis(1));
    }
    if let Some(taints) = taints::wanted(node, here.all_disrupted, now) {
        let version = node.resource_version();
        let patch =
            json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints::json(&taints)}});
        plan.act(Action::patch(&**node, None, Patch::Merge(patch)));
    }
    for pod in &here.ready_pods {
        plan.act(Action::event(&**pod, EventKind::Warning, "NodeNotReady", "Node is not ready"));
        plan.act(Action::update_status(&health::unready(pod, now)));
    }
    plan
}

#[cfg(test)]
mod tests;
