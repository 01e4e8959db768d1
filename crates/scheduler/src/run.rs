//! The driver: follows pods, nodes, namespaces and claims, decides for one pod after the other, and binds beside that.

use crate::affinity::{Namespaces, PodAffinity};
use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::filter::{Prepared, filter, may_make_room};
use crate::pending::Pending;
use crate::score::score;
use crate::spread::Spread;
use crate::storage::Storage;
use crate::verdict::{Reasons, hopeless, preemption, summary};
use crate::volumes::{self, Volumes};
use nauplius_base::task::{CancellationToken, Group};
use nauplius_base::{id, time};
use nauplius_client::{Api, Client, ClientError, ListOptions, Patch};
use nauplius_kinds::{Namespace, Node, Object, Pod};
use nauplius_reconcile::events::{Source, recorder};
use nauplius_reconcile::{Informer, Key, Recorder};
use serde_json::json;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// The scheduler that pods name, unless they name another.
const NAME: &str = "default-scheduler";
/// Bindings under way at once; beyond it decisions wait.
const BINDS_MAX: usize = 64;
/// Upstream looks at no more than this many fitting nodes in small clusters.
const ENOUGH_NODES: usize = 100;

/// Whether the scheduler follows the cluster.
#[derive(Debug, Clone)]
pub struct SchedulerHealth(watch::Receiver<bool>);

impl SchedulerHealth {
    /// True once the caches are filled.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until [`Self::is_ready`].
    pub async fn ready(&self) {
        // The sender lives until the shutdown, which ends this wait otherwise.
        if self.0.clone().wait_for(|ready| *ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Objects to look at again; bounded by the number of objects.
#[derive(Default)]
struct Dirty {
    state: Mutex<DirtyState>,
    notify: Notify,
}

#[derive(Default)]
struct DirtyState {
    pods: BTreeSet<Key>,
    nodes: BTreeSet<String>,
    claims: BTreeSet<Key>,
    /// A volume or a class changed, which may help any pod that has claims.
    volumes: bool,
}

impl Dirty {
    fn mark(&self, mark: impl FnOnce(&mut DirtyState)) {
        mark(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.notify.notify_one();
    }

    fn take(&self) -> DirtyState {
        std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts the scheduler's tasks in `group`. `client` acts as `system:kube-scheduler`.
pub fn run(client: &Client, group: &Group) -> SchedulerHealth {
    let pods = Informer::new(client.all::<Pod>(), ListOptions::default());
    let nodes = Informer::new(client.all::<Node>(), ListOptions::default());
    let namespaces = Informer::new(client.all::<Namespace>(), ListOptions::default());
    let dirty = Arc::new(Dirty::default());
    let marker = Arc::clone(&dirty);
    pods.on_change(move |change| {
        let key = Key::of(&**change.object());
        marker.mark(|state| {
            state.pods.insert(key);
        });
    });
    let marker = Arc::clone(&dirty);
    nodes.on_change(move |change| {
        let name = change.object().name().to_owned();
        marker.mark(|state| {
            state.nodes.insert(name);
        });
    });
    let storage = Storage::new(client);
    let marker = Arc::clone(&dirty);
    storage.on_claim(move |claim| {
        marker.mark(|state| {
            state.claims.insert(claim);
        });
    });
    let marker = Arc::clone(&dirty);
    storage.on_volume(move || marker.mark(|state| state.volumes = true));
    let (recorder, writer) = recorder(client.clone(), Source { component: NAME, host: String::new() });
    group.spawn("scheduler: pods", pods.clone().run(group.token()));
    group.spawn("scheduler: nodes", nodes.clone().run(group.token()));
    group.spawn("scheduler: namespaces", namespaces.clone().run(group.token()));
    storage.start(group);
    group.spawn("scheduler: events", writer.run(group.token()));
    let (ready, health) = watch::channel(false);
    let scheduler = Scheduler {
        client: client.clone(),
        pods,
        nodes,
        namespaces,
        storage,
        dirty,
        recorder,
        cluster: Cluster::default(),
        pending: Pending::default(),
        binds: JoinSet::new(),
    };
    group.spawn("scheduler", scheduler.run(ready, group.token()));
    SchedulerHealth(health)
}

struct Scheduler {
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    namespaces: Informer<Namespace>,
    storage: Storage,
    dirty: Arc<Dirty>,
    recorder: Recorder,
    cluster: Cluster,
    pending: Pending,
    binds: JoinSet<Bound>,
}

/// How one binding went.
struct Bound {
    key: Key,
    outcome: Result<(), ClientError>,
}

/// Waits for a pod that is ours to place.
fn is_waiting(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.node_name.as_deref().unwrap_or_default().is_empty()
        && spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME
        && spec.scheduling_gates.as_deref().unwrap_or_default().is_empty()
        && pod.meta().deletion_timestamp.is_none()
        && !nauplius_kinds::pod::is_terminal(pod)
}

impl Scheduler {
    async fn run(
        mut self,
        ready: watch::Sender<bool>,
        shutdown: CancellationToken,
    ) -> Result<(), Infallible> {
        let synced = async {
            tokio::join!(
                self.pods.synced(),
                self.nodes.synced(),
                self.namespaces.synced(),
                self.storage.synced()
            );
        };
        if shutdown.clone().run_until_cancelled(synced).await.is_none() {
            return Ok(());
        }
        ready.send_replace(true);
        while !shutdown.is_cancelled() {
            self.observe();
            match self.pending.next(time::monotonic()) {
                Some(key) => self.decide(&key).await,
                None => self.wait(&shutdown).await,
            }
        }
        Ok(())
    }

    /// Waits for a change, a binding's end, or a pod whose back-off ends.
    async fn wait(&mut self, shutdown: &CancellationToken) {
        let due = self.pending.next_due();
        let dirty = Arc::clone(&self.dirty);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = dirty.notify.notified() => {}
            Some(bound) = self.binds.join_next() => self.finish(bound),
            () = sleep_until(due), if due.is_some() => {}
        }
    }

    /// Takes over what has changed since the last look.
    fn observe(&mut self) {
        let changes = self.dirty.take();
        let now = time::monotonic();
        let is_room = self.observe_nodes(&changes.nodes) | self.observe_pods(&changes.pods);
        if is_room {
            self.pending.changed(now, |_| true);
        }
        if changes.volumes || !changes.claims.is_empty() {
            let pods = self.pods.snapshot();
            let helps = |key: &Key| pods.get(key).is_some_and(|pod| is_helped(pod, &changes));
            self.pending.changed(now, helps);
        }
    }

    /// Whether there may be room where there was none.
    fn observe_nodes(&mut self, changed: &BTreeSet<String>) -> bool {
        let nodes = self.nodes.snapshot();
        for name in changed {
            self.cluster.observe_node(name, nodes.find("", name));
        }
        !changed.is_empty()
    }

    /// Whether there may be room where there was none.
    fn observe_pods(&mut self, changed: &BTreeSet<Key>) -> bool {
        let pods = self.pods.snapshot();
        let mut is_room = false;
        for key in changed {
            let pod = pods.get(key);
            self.cluster.observe_pod(key, pod);
            match pod.filter(|pod| is_waiting(pod)) {
                Some(pod) => {
                    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
                    self.pending.add(key, pod.uid(), priority);
                }
                None => {
                    self.pending.remove(key);
                    is_room |= pod.is_none_or(|pod| nauplius_kinds::pod::is_terminal(pod));
                    // A new neighbour may be what a waiting pod's affinity wants.
                    is_room |= pod.is_some_and(|pod| pod.meta().labels.is_some());
                }
            }
        }
        is_room
    }

    async fn decide(&mut self, key: &Key) {
        let Some(pod) = self.pods.snapshot().get(key).cloned().filter(|pod| is_waiting(pod)) else {
            self.pending.remove(key);
            return;
        };
        let info = Arc::new(PodInfo::new(pod));
        match self.choose(&info) {
            Ok(node) => {
                self.cluster.assume(key, Arc::clone(&info), &node);
                self.bind(key.clone(), &info.pod, node).await;
            }
            Err(message) => {
                self.pending.unschedulable(key, time::monotonic());
                self.explain(&info.pod, &message).await;
            }
        }
    }

    /// The best node, or why there is none.
    fn choose(&self, pod: &PodInfo) -> Result<String, String> {
        let nodes: Vec<&NodeInfo> = self.cluster.nodes().collect();
        let volumes = volumes::prepare(&pod.pod, &self.storage.wanted(&pod.pod))
            .map_err(|reason| nowhere(nodes.len(), &reason))?;
        let namespaces = self.namespace_labels();
        let prepared = Prepared {
            affinity: PodAffinity::new(pod, nodes.iter().copied(), &namespaces),
            spread: Spread::new(pod, &nodes),
            volumes,
        };
        let mut refused: Vec<Reasons> = Vec::new();
        let mut fitting: Vec<&NodeInfo> = Vec::new();
        // Start at a random node, so that a large cluster fills evenly although not all nodes are looked at.
        let start = usize::try_from(id::below(nodes.len() as u64)).unwrap_or(0);
        for node in nodes.iter().cycle().skip(start).take(nodes.len()) {
            match filter(pod, node, &prepared) {
                Ok(()) => fitting.push(node),
                Err(reasons) => refused.push(reasons),
            }
            if fitting.len() >= ENOUGH_NODES.max(nodes.len() / 10) {
                break;
            }
        }
        if fitting.is_empty() {
            return Err(self.refusal(pod, nodes.len(), &refused, &prepared.volumes));
        }
        let scores = score(pod, &fitting, &prepared.affinity, &prepared.spread);
        let best = scores.iter().copied().max().unwrap_or(0);
        let best: Vec<&&NodeInfo> =
            fitting.iter().zip(&scores).filter(|(_, score)| **score == best).map(|(node, _)| node).collect();
        let pick = usize::try_from(id::below(best.len() as u64)).unwrap_or(0);
        Ok(best[pick].name().to_owned())
    }

    fn refusal(&self, pod: &PodInfo, nodes: usize, refused: &[Reasons], volumes: &Volumes) -> String {
        let mut message = summary(nodes, refused);
        let is_below = |node: &NodeInfo| node.pods.iter().any(|other| other.priority() < pod.priority());
        let (hopeful, hopeless): (Vec<&NodeInfo>, Vec<&NodeInfo>) =
            self.cluster.nodes().partition(|node| may_make_room(pod, node, volumes));
        let has_victims = hopeful.into_iter().any(is_below);
        // Preemption is not built: with possible victims the message says nothing of it rather than something wrong.
        if nodes > 0 && !has_victims {
            message += " ";
            message += &preemption(nodes, hopeless.len());
        }
        message
    }

    fn namespace_labels(&self) -> Namespaces {
        let snapshot = self.namespaces.snapshot();
        let labels = |namespace: &Arc<Namespace>| {
            (namespace.name().to_owned(), namespace.meta().labels.clone().unwrap_or_default())
        };
        snapshot.iter().map(labels).collect()
    }

    async fn bind(&mut self, key: Key, pod: &Arc<Pod>, node: String) {
        while self.binds.len() >= BINDS_MAX {
            if let Some(bound) = self.binds.join_next().await {
                self.finish(bound);
            }
        }
        let api: Api<Pod> = self.client.namespaced(&key.namespace);
        let (recorder, pod) = (self.recorder.clone(), Arc::clone(pod));
        self.binds.spawn(async move {
            let body = json!({
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.uid()},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            let outcome = api.post(&key.name, "binding", body.to_string().into_bytes()).await.map(drop);
            if outcome.is_ok() {
                recorder.normal(&*pod, "Scheduled", format!("Successfully assigned {key} to {node}"));
            }
            Bound { key, outcome }
        });
    }

    fn finish(&mut self, joined: Result<Bound, tokio::task::JoinError>) {
        let bound = match joined {
            Ok(bound) => bound,
            Err(error) => {
                tracing::error!(%error, "a binding's task failed");
                return;
            }
        };
        let Err(error) = bound.outcome else { return };
        self.cluster.forget(&bound.key);
        if error.is_not_found() || error.is_conflict() {
            tracing::debug!(pod = %bound.key, %error, "the pod was gone or placed before it was bound");
        } else {
            tracing::warn!(pod = %bound.key, %error, "cannot bind a pod, trying again");
        }
        self.pending.back_off(&bound.key, time::monotonic());
        self.dirty.mark(|state| {
            state.pods.insert(bound.key);
        });
    }

    /// Tells the pod why it waits: a condition when the reason is news, and an event.
    async fn explain(&self, pod: &Pod, message: &str) {
        self.recorder.warning(pod, "FailedScheduling", message);
        let conditions =
            pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let known = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
        if known.is_some_and(|known| known.status == "False" && known.message.as_deref() == Some(message)) {
            return;
        }
        let changed = known
            .filter(|known| known.status == "False")
            .and_then(|known| known.last_transition_time.as_ref());
        let since = changed.map_or_else(time::now, |changed| changed.0);
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": time::rfc3339_seconds(since),
            "observedGeneration": pod.meta().generation,
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        let api: Api<Pod> = self.client.namespaced(pod.namespace());
        if let Err(error) = api.patch(pod.name(), Some("status"), patch).await
            && !error.is_not_found()
        {
            tracing::warn!(pod = pod.name(), %error, "cannot say why a pod waits");
        }
    }
}

/// Whether a change of claims, volumes or classes may be what the pod waits for.
fn is_helped(pod: &Pod, changes: &DirtyState) -> bool {
    let mut claims = volumes::claim_names(pod);
    claims.any(|(name, _)| changes.volumes || changes.claims.contains(&Key::new(pod.namespace(), &*name)))
}

/// The message for a pod that no node can help.
fn nowhere(nodes: usize, reason: &str) -> String {
    let message = hopeless(nodes, reason);
    if nodes == 0 { message } else { format!("{message} {}", preemption(nodes, nodes)) }
}

async fn sleep_until(at: Option<time::Instant>) {
    match at {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
