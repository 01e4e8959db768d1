//! Reports the node's status: looks every ten seconds, and writes when something changed or five minutes have passed.

use super::machine::Machine;
use super::status::{self, Sources};
use crate::context::Context;
use crate::error::KubeletError;
use nauplius_base::task::CancellationToken;
use nauplius_base::time::{self, Instant, MissedTickBehavior};
use nauplius_client::{ClientError, Patch};
use nauplius_cri::v1;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Node, NodeStatus};
use nauplius_reconcile::EventKind;
use nauplius_reconcile::events::ObjectRef;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const LOOK: Duration = Duration::from_secs(10);
/// Until the node is ready it is looked at more often, so that it is not late.
const LOOK_UNREADY: Duration = Duration::from_millis(200);
const REPORT: Duration = Duration::from_secs(300);

/// How the kubelet is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether the API has the node as ready.
    pub ready: bool,
    /// Why not, or that it is.
    pub message: String,
}

/// Reports one node.
pub struct Reporter {
    context: Arc<Context>,
    machine: Machine,
    runtime: v1::VersionResponse,
    port: u16,
    health: watch::Sender<Health>,
    known: NodeStatus,
    sent: NodeStatus,
    is_new: bool,
    reported: Option<Instant>,
}

impl Reporter {
    /// Of this node; `health` is told what the API was told.
    pub fn new(
        context: Arc<Context>,
        machine: Machine,
        runtime: v1::VersionResponse,
        port: u16,
        health: watch::Sender<Health>,
    ) -> Self {
        Self {
            context,
            machine,
            runtime,
            port,
            health,
            known: NodeStatus::default(),
            sent: NodeStatus::default(),
            is_new: false,
            reported: None,
        }
    }

    /// Looks at everything once.
    ///
    /// # Errors
    /// When the machine does not tell.
    pub async fn look(&self) -> Result<NodeStatus, KubeletError> {
        let answer = self.context.runtime.status(v1::StatusRequest { verbose: false }).await;
        let abilities = answer.as_ref().map(status::Abilities::of).unwrap_or_default();
        let runtime_status =
            answer.map_err(|error| error.to_string()).map(|answer| answer.status.unwrap_or_default());
        if let Ok(status) = &runtime_status {
            self.context.network.learn(status);
        }
        let images = match self.context.images.list_images(v1::ListImagesRequest { filter: None }).await {
            Ok(answer) => answer.images,
            Err(error) => {
                tracing::warn!(%error, "the runtime does not list its images");
                Vec::new()
            }
        };
        Ok(status::status(&Sources {
            config: &self.context.config,
            port: self.port,
            machine: &self.machine,
            pressure: *self.context.pressure.borrow(),
            runtime: &self.runtime,
            runtime_status: &runtime_status,
            abilities: &abilities,
            images: &images,
            before: &self.known,
            now: time::now(),
        }))
    }

    /// The node is registered with this status; a new one was not ready before.
    pub fn registered(&mut self, status: NodeStatus, is_new: bool) {
        self.known = status;
        self.is_new = is_new;
    }

    /// Reports until shutdown.
    ///
    /// # Errors
    /// Never: what cannot be written is tried again at the next look.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        self.event("Starting", "Starting kubelet.".to_owned());
        shutdown.run_until_cancelled(self.report_on()).await;
        Ok(())
    }

    async fn report_on(&mut self) {
        let mut ticks = time::interval(LOOK_UNREADY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hurried = true;
        loop {
            ticks.tick().await;
            match self.look().await {
                Ok(status) => self.report(status).await,
                Err(error) => tracing::warn!(%error, "the node's status cannot be read"),
            }
            if hurried && self.health.borrow().ready {
                hurried = false;
                ticks = time::interval(LOOK);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks.reset();
            }
        }
    }

    async fn report(&mut self, status: NodeStatus) {
        let late = self.reported.is_none_or(|at| at.elapsed() >= REPORT);
        if !late && !status::changed(&self.sent, &status) {
            return;
        }
        match self.write(&status).await {
            Ok(node) => {
                self.events(&status);
                self.reported = Some(time::monotonic());
                self.known = node.status.unwrap_or_else(|| status.clone());
                self.sent = status;
                self.health.send_replace(health(&self.known));
            }
            Err(error) => tracing::warn!(%error, "the node's status could not be written"),
        }
    }

    async fn write(&self, status: &NodeStatus) -> Result<Node, ClientError> {
        let patch = json!({ "status": difference(&self.known, status) });
        let nodes = self.context.client.all::<Node>();
        nodes.patch(&self.context.config.node_name, Some("status"), Patch::Strategic(patch)).await
    }

    fn events(&self, status: &NodeStatus) {
        let truth = |status: &NodeStatus, type_: &str| {
            let conditions = status.conditions.as_deref().unwrap_or_default();
            conditions
                .iter()
                .find(|condition| condition.type_ == type_)
                .map(|condition| condition.status == "True")
        };
        let table = [
            ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
            ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
            ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
            ("Ready", "NodeReady", "NodeNotReady"),
        ];
        for (type_, holds, fails) in table {
            let now = truth(status, type_);
            // The first report of a kubelet tells all, as upstream's does; that a known node is ready is only told when it was not.
            let first = self.reported.is_none() && (self.is_new || type_ != "Ready");
            let told = if first { None } else { truth(&self.known, type_) };
            if now != told {
                let reason = if now == Some(true) { holds } else { fails };
                self.event(reason, format!("Node {} status is now: {reason}", self.context.config.node_name));
            }
        }
    }

    fn event(&self, reason: &str, message: String) {
        record(&self.context, EventKind::Normal, reason, message);
    }
}

/// Records an event about the node.
pub fn record(context: &Context, kind: EventKind, reason: &str, message: String) {
    let name = &context.config.node_name;
    // Upstream's kubelet writes the node's name for its uid, and kubectl describe looks for that.
    let about =
        ObjectRef { kind: "Node".to_owned(), name: name.clone(), uid: name.clone(), ..ObjectRef::default() };
    context.recorder.record(&about, kind, reason, message);
}

fn health(status: &NodeStatus) -> Health {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) => {
            Health { ready: ready.status == "True", message: ready.message.clone().unwrap_or_default() }
        }
        None => Health { ready: false, message: "the node's status is not known yet".to_owned() },
    }
}

/// What to patch: conditions by their type, lists that would be merged by key as a whole.
fn difference(old: &NodeStatus, new: &NodeStatus) -> Value {
    let tree = |status: &NodeStatus| {
        let node = Node { status: Some(status.clone()), ..Node::default() };
        // What was encoded a moment ago is JSON.
        let mut value: Value = serde_json::from_slice(&node.encode()).unwrap_or_default();
        value["status"].take()
    };
    let (old, new) = (tree(old), tree(new));
    let mut changed = serde_json::Map::new();
    for (key, value) in new.as_object().into_iter().flatten() {
        if old.get(key) == Some(value) {
            continue;
        }
        let mut value = value.clone();
        if key == "addresses"
            && let Some(list) = value.as_array_mut()
        {
            list.insert(0, json!({"$patch": "replace"}));
        }
        changed.insert(key.clone(), value);
    }
    Value::Object(changed)
}
