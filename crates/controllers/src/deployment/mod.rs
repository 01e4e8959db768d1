//! A deployment leads its pods from one template to the next through replica sets. The plan takes one step; the sets'
//! changes bring it back for the next.

mod annotations;
mod conditions;
mod hash;
mod recreate;
mod replica_sets;
mod revision;
mod rolling;
mod scale;
mod status;

use crate::claim::{Owner, controller_key};
use crate::context::{CONTROLLER, Context, enqueue, enqueue_all, orphans};
use nauplius_base::time::Timestamp;
use nauplius_client::{Client, ClientError};
use nauplius_kinds::{Deployment, Object, Pod, ReplicaSet, deployment, labels, pod};
use nauplius_reconcile::{Action, Asked, Controller, EventKind, Informer, Key, Plan, Queue, Snapshot};
use replica_sets::Sets;
use std::collections::BTreeSet;
use std::sync::Arc;

const WORKERS: usize = 5;

struct Deployments {
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

#[derive(Debug, Clone)]
pub(crate) struct View {
    deployment: Arc<Deployment>,
    /// The sets it controls and those nobody controls.
    sets: Vec<Arc<ReplicaSet>>,
    /// The uids of sets that have pods which may still run; asked for only where pods are recreated.
    occupied: BTreeSet<String>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    enqueue(&context.deployments, &queue, |change| Some(Key::of(&**change.object())));
    let deployments = context.deployments.clone();
    enqueue_all(&context.replica_sets, &queue, move |set: &ReplicaSet| {
        match labels::controller_of(&set.metadata) {
            Some(_) => controller_key::<Deployment, _>(set).into_iter().collect(),
            None => selecting(&deployments.snapshot(), set),
        }
    });
    let (deployments, sets) = (context.deployments.clone(), context.replica_sets.clone());
    enqueue(&context.pods, &queue, move |change| {
        recreated(&deployments.snapshot(), &sets.snapshot(), change.object())
    });
    let controller = Deployments {
        deployments: context.deployments.clone(),
        sets: context.replica_sets.clone(),
        pods: context.pods.clone(),
    };
    context.control(controller, &queue, WORKERS, |driver| {
        driver.sees(&context.deployments).sees(&context.replica_sets)
    });
}

fn selecting(deployments: &Snapshot<Deployment>, set: &ReplicaSet) -> Vec<Key> {
    let Some(labels) = &set.metadata.labels else { return Vec::new() };
    let all = deployments.in_namespace(set.namespace());
    let selecting = all.filter(|deployment| labels::selects(&deployment.spec.selector, labels));
    selecting.map(|deployment| Key::of(&**deployment)).collect()
}

/// A deployment that waits for its old pods to end looks at each that does; others look at their sets only.
fn recreated(deployments: &Snapshot<Deployment>, sets: &Snapshot<ReplicaSet>, pod: &Pod) -> Option<Key> {
    let set = sets.get(&controller_key::<ReplicaSet, _>(pod)?)?;
    let deployment = deployments.get(&controller_key::<Deployment, _>(&**set)?)?;
    (!deployment::is_rolling(deployment)).then(|| Key::of(&**deployment))
}

impl Controller for Deployments {
    type View = View;
    const NAME: &'static str = "deployment-controller";
    const QUEUE: &'static str = "deployment";

    fn view(&self, key: &Key) -> Option<View> {
        let deployment = Arc::clone(self.deployments.snapshot().get(key)?);
        let sets = self.sets.snapshot();
        let orphans = orphans(deployment.namespace());
        let sets = sets.indexed(CONTROLLER, deployment.uid()).chain(sets.indexed(CONTROLLER, &orphans));
        let sets: Vec<_> = sets.cloned().collect();
        let pods = self.pods.snapshot();
        let occupied =
            |set: &&Arc<ReplicaSet>| pods.indexed(CONTROLLER, set.uid()).any(|pod| !pod::is_terminal(pod));
        let occupied = if deployment::is_rolling(&deployment) {
            BTreeSet::new()
        } else {
            sets.iter().filter(occupied).map(|set| set.uid().to_owned()).collect()
        };
        Some(View { deployment, sets, occupied })
    }

    /// A deployment that was deleted, or replaced by a namesake, while the cache lagged must adopt nothing.
    fn ask<'a>(&'a self, client: &'a Client, mut view: View) -> Asked<'a, View> {
        Box::pin(async move {
            if !view.adopts() {
                return Ok(view);
            }
            let name = view.deployment.name();
            let deployment: Deployment = client.namespaced(view.deployment.namespace()).get(name).await?;
            if deployment.uid() != view.deployment.uid() || deployment.metadata.deletion_timestamp.is_some() {
                view.sets.retain(|set| labels::controller_of(&set.metadata).is_some());
            }
            Ok(view)
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan(view, now)
    }

    fn after_failure(&self, view: &View, error: &ClientError, now: Timestamp) -> Vec<Action> {
        if error.is_namespace_terminating() || error.is_conflict() || error.is_not_found() {
            return Vec::new();
        }
        let sets = Sets::of(view);
        if sets.new.is_some() {
            return Vec::new();
        }
        status::after_failed_create(view, error, now).into_iter().collect()
    }
}

impl View {
    fn owner(&self) -> Owner<'_> {
        Owner::new(&*self.deployment, &self.deployment.spec.selector)
    }

    fn adopts(&self) -> bool {
        let owner = self.owner();
        self.sets.iter().any(|set| owner.claim(&**set) == crate::claim::Claim::Adopt)
    }
}

/// The whole decision.
fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let deployment = &view.deployment;
    if labels::is_empty(&deployment.spec.selector) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        plan.act(Action::event(&**deployment, EventKind::Warning, "SelectingAll", message));
        return plan;
    }
    plan.actions = view.owner().sort(&view.sets).changes;
    if !plan.actions.is_empty() {
        // Steps start when the caches show whose sets these are.
        return plan;
    }
    let sets = Sets::of(view);
    if deployment.metadata.deletion_timestamp.is_some() {
        plan.actions.extend(status::counted(view, &sets, now));
    } else if let Some(update) = conditions::paused_or_resumed(deployment, now) {
        plan.act(update);
    } else if deployment.spec.paused == Some(true) || sets.is_scaled(deployment) {
        scale::resize(view, &sets, now, &mut plan);
    } else if deployment::is_rolling(deployment) {
        rolling::step(view, &sets, now, &mut plan);
    } else {
        recreate::step(view, &sets, now, &mut plan);
    }
    plan
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
