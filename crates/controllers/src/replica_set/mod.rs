//! A replica set has as many pods as it asks for. The plan creates or deletes the difference, adopts and releases, and counts.

mod rank;
mod status;

use crate::claim::{Owner, controller_key, controller_reference};
use crate::context::{CONTROLLER, Context, enqueue, enqueue_all, orphans};
use nauplius_base::time::Timestamp;
use nauplius_client::{Client, ClientError};
use nauplius_kinds::api::core::PodTemplateSpec;
use nauplius_kinds::{Object, Pod, ReplicaSet, labels, pod};
use nauplius_reconcile::{Action, Asked, Controller, EventKind, Informer, Key, Note, Plan, Queue, Snapshot};
use status::{Failure, status};
use std::collections::BTreeMap;
use std::sync::Arc;

const WORKERS: usize = 5;
/// At most so many pods are created or deleted at one look.
const BURST: usize = 500;

struct ReplicaSets {
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

#[derive(Debug, Clone)]
pub(crate) struct View {
    set: Arc<ReplicaSet>,
    /// The pods it controls and those nobody controls, ended and leaving ones too.
    pods: Vec<Arc<Pod>>,
    /// How many active pods of the set and of its siblings (the sets with the same controller) each node has.
    neighbours: BTreeMap<String, usize>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    enqueue(&context.replica_sets, &queue, |change| Some(Key::of(&**change.object())));
    let sets = context.replica_sets.clone();
    enqueue_all(&context.pods, &queue, move |pod: &Pod| match labels::controller_of(&pod.metadata) {
        Some(_) => controller_key::<ReplicaSet, _>(pod).into_iter().collect(),
        None => selecting(&sets.snapshot(), pod),
    });
    let controller = ReplicaSets { sets: context.replica_sets.clone(), pods: context.pods.clone() };
    context.control(controller, &queue, WORKERS, |driver| {
        driver.sees(&context.replica_sets).sees(&context.pods)
    });
}

fn selecting(sets: &Snapshot<ReplicaSet>, pod: &Pod) -> Vec<Key> {
    let Some(labels) = &pod.metadata.labels else { return Vec::new() };
    let selecting =
        sets.in_namespace(pod.namespace()).filter(|set| labels::selects(&set.spec.selector, labels));
    selecting.map(|set| Key::of(&**set)).collect()
}

impl ReplicaSets {
    fn siblings(&self, set: &ReplicaSet) -> Vec<String> {
        let Some(owner) = labels::controller_of(&set.metadata) else { return vec![set.uid().to_owned()] };
        self.sets.snapshot().indexed(CONTROLLER, &owner.uid).map(|set| set.uid().to_owned()).collect()
    }
}

impl Controller for ReplicaSets {
    type View = View;
    const NAME: &'static str = "replicaset-controller";
    const QUEUE: &'static str = "replicaset";

    fn view(&self, key: &Key) -> Option<View> {
        let set = Arc::clone(self.sets.snapshot().get(key)?);
        let pods = self.pods.snapshot();
        let mut neighbours = BTreeMap::new();
        for uid in self.siblings(&set) {
            for pod in pods.indexed(CONTROLLER, &uid).filter(|pod| pod::is_active(pod)) {
                *neighbours.entry(pod::node_name(pod).to_owned()).or_insert(0) += 1;
            }
        }
        let orphans = orphans(set.namespace());
        let pods = pods.indexed(CONTROLLER, set.uid()).chain(pods.indexed(CONTROLLER, &orphans));
        let pods = pods.cloned().collect();
        Some(View { set, pods, neighbours })
    }

    /// A set that was deleted, or replaced by a namesake, while the cache lagged must adopt nothing.
    fn ask<'a>(&'a self, client: &'a Client, mut view: View) -> Asked<'a, View> {
        Box::pin(async move {
            if view.pods.iter().all(|pod| labels::controller_of(&pod.metadata).is_some()) || !view.adopts() {
                return Ok(view);
            }
            let set: ReplicaSet = client.namespaced(view.set.namespace()).get(view.set.name()).await?;
            if set.uid() != view.set.uid() || set.metadata.deletion_timestamp.is_some() {
                view.pods.retain(|pod| labels::controller_of(&pod.metadata).is_some());
            }
            Ok(view)
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan(view, now)
    }

    fn after_failure(&self, view: &View, error: &ClientError, now: Timestamp) -> Vec<Action> {
        if error.is_namespace_terminating() || error.is_conflict() {
            return Vec::new();
        }
        let reason = if view.difference() < 0 { "FailedCreate" } else { "FailedDelete" };
        let failure = Failure::Is { reason, message: error.to_string() };
        view.update_status(&failure, now).into_iter().collect()
    }
}

impl View {
    fn owner(&self) -> Owner<'_> {
        Owner::new(&*self.set, &self.set.spec.selector)
    }

    fn adopts(&self) -> bool {
        let owner = self.owner();
        self.active().any(|pod| owner.claim(&**pod) == crate::claim::Claim::Adopt)
    }

    fn active(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| pod::is_active(pod))
    }

    /// Its active pods, in no order.
    fn own(&self) -> Vec<Arc<Pod>> {
        let active: Vec<_> = self.active().cloned().collect();
        self.owner().sort(&active).own
    }

    fn terminating(&self) -> usize {
        let owner = self.owner();
        let leaving = self.pods.iter().filter(|pod| pod::is_terminating(pod) && !pod::is_terminal(pod));
        leaving.filter(|pod| owner.claim(&***pod) == crate::claim::Claim::Own).count()
    }

    fn wanted(&self) -> i64 {
        i64::from(self.set.spec.replicas.unwrap_or(1))
    }

    /// How many pods there are beyond the wanted ones; negative if some are missing.
    fn difference(&self) -> i64 {
        self.own().len().cast_signed() as i64 - self.wanted()
    }

    fn update_status(&self, failure: &Failure, now: Timestamp) -> Option<Action> {
        let status = status(&self.set, &self.own(), self.terminating(), failure, now);
        (self.set.status.as_ref() != Some(&status)).then(|| {
            let mut set = ReplicaSet::clone(&self.set);
            set.status = Some(status);
            Action::update_status(&set)
        })
    }
}

/// The whole decision.
fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let active: Vec<_> = view.active().cloned().collect();
    let claimed = view.owner().sort(&active);
    plan.actions = claimed.changes;
    if !plan.actions.is_empty() {
        // Counting starts when the caches show whose pods these are.
        return plan;
    }
    if view.set.metadata.deletion_timestamp.is_none() {
        scale(view, &claimed.own, now, &mut plan);
    }
    plan.actions.extend(view.update_status(&Failure::None, now));
    if let Some(delay) = status::next_available(&view.set, &claimed.own, now) {
        plan.because("waiting for pods to be ready for minReadySeconds");
        plan.again(delay);
    }
    plan
}

fn scale(view: &View, own: &[Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let difference = view.difference();
    // Both are at most BURST.
    let count = usize::try_from(difference.abs()).unwrap_or(BURST).min(BURST);
    if difference < 0 {
        let pod = new_pod(&view.set);
        plan.actions.extend((0..count).map(|_| create(&view.set, &pod)));
    } else {
        let victims = rank::first_to_go(own, &view.neighbours, now, count);
        plan.actions.extend(victims.iter().map(|pod| delete(&view.set, pod)));
    }
}

fn create(set: &ReplicaSet, pod: &Pod) -> Action {
    Action::create(pod)
        .on_success(Note::about(set, EventKind::Normal, "SuccessfulCreate", "Created pod: {name}"))
        .on_failure(Note::about(set, EventKind::Warning, "FailedCreate", "Error creating: {error}"))
}

fn delete(set: &ReplicaSet, pod: &Pod) -> Action {
    let done = format!("Deleted pod: {}", pod.name());
    Action::delete(pod)
        .on_success(Note::about(set, EventKind::Normal, "SuccessfulDelete", done))
        .on_failure(Note::about(set, EventKind::Warning, "FailedDelete", "Error deleting: {error}"))
}

fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    pod_of(set, template)
}

/// A pod as `owner`'s template describes it.
fn pod_of<T: Object>(owner: &T, template: PodTemplateSpec) -> Pod {
    let mut pod = Pod { spec: template.spec, ..Pod::default() };
    let template = template.metadata.unwrap_or_default();
    pod.metadata.labels = template.labels;
    pod.metadata.annotations = template.annotations;
    pod.metadata.finalizers = template.finalizers;
    pod.metadata.namespace = Some(owner.namespace().to_owned());
    pod.metadata.generate_name = Some(format!("{}-", owner.name()));
    pod.metadata.owner_references = Some(vec![controller_reference(owner)]);
    pod
}

#[cfg(test)]
mod tests;
