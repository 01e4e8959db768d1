//! How many pods of a disruption budget may be evicted now: its status, which the eviction API reads.

mod status;

use crate::claim::controller_key;
use crate::context::{Context, enqueue, enqueue_all};
use nauplius_base::time::Timestamp;
use nauplius_kinds::{Deployment, Object, Pod, PodDisruptionBudget, ReplicaSet, deployment, labels};
use nauplius_reconcile::{Action, Controller, EventKind, Informer, Key, Plan, Queue};
use std::collections::BTreeMap;
use std::sync::Arc;

const WORKERS: usize = 2;

struct Disruption {
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
}

#[derive(Debug, Clone)]
struct View {
    budget: Arc<PodDisruptionBudget>,
    pods: Vec<Arc<Pod>>,
    /// How many pods their controllers want together; `Err` names a pod whose controller cannot tell.
    scale: Result<i32, String>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    enqueue(&context.disruption_budgets, &queue, |change| Some(Key::of(&**change.object())));
    let budgets = context.disruption_budgets.clone();
    enqueue_all(&context.pods, &queue, move |pod: &Pod| {
        let budgets = budgets.snapshot();
        let covering = budgets.in_namespace(pod.namespace()).filter(|budget| covers(budget, pod));
        covering.map(|budget| Key::of(&**budget)).collect()
    });
    let budgets = context.disruption_budgets.clone();
    enqueue_all(&context.replica_sets, &queue, move |set: &ReplicaSet| {
        budgets.snapshot().in_namespace(set.namespace()).map(|budget| Key::of(&**budget)).collect()
    });
    let budgets = context.disruption_budgets.clone();
    enqueue_all(&context.deployments, &queue, move |deployment: &Deployment| {
        budgets.snapshot().in_namespace(deployment.namespace()).map(|budget| Key::of(&**budget)).collect()
    });
    let controller = Disruption {
        budgets: context.disruption_budgets.clone(),
        pods: context.pods.clone(),
        sets: context.replica_sets.clone(),
        deployments: context.deployments.clone(),
    };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.disruption_budgets));
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let Some(selector) = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return false };
    let none = BTreeMap::new();
    labels::selects(selector, pod.metadata.labels.as_ref().unwrap_or(&none))
}

impl Disruption {
    fn scale(&self, pods: &[Arc<Pod>]) -> Result<i32, String> {
        let mut controllers = BTreeMap::new();
        for pod in pods {
            let (uid, replicas) = self.controller(pod)?;
            controllers.insert(uid, replicas);
        }
        Ok(controllers.values().sum())
    }

    fn controller(&self, pod: &Pod) -> Result<(String, i32), String> {
        let Some(owner) = labels::controller_of(&pod.metadata) else {
            return Err(format!("found no controller ref for pod \"{}\"", pod.name()));
        };
        let unknown = || format!("found no controllers for pod \"{}\"", pod.name());
        let set = controller_key::<ReplicaSet, _>(pod).ok_or_else(unknown)?;
        let set = self.sets.snapshot().get(&set).filter(|set| set.uid() == owner.uid).cloned();
        let set = set.ok_or_else(unknown)?;
        let deployment = controller_key::<Deployment, _>(&*set);
        let deployment = deployment.and_then(|key| self.deployments.snapshot().get(&key).cloned());
        Ok(match deployment {
            Some(deployment) => (deployment.uid().to_owned(), deployment::replicas(&deployment)),
            None => (set.uid().to_owned(), set.spec.replicas.unwrap_or(1)),
        })
    }
}

impl Controller for Disruption {
    type View = View;
    const NAME: &'static str = "disruption-controller";
    const COMPONENT: &'static str = "controllermanager";
    const QUEUE: &'static str = "disruption";

    fn view(&self, key: &Key) -> Option<View> {
        let budget = Arc::clone(self.budgets.snapshot().get(key)?);
        let pods = self.pods.snapshot();
        let pods: Vec<_> =
            pods.in_namespace(budget.namespace()).filter(|pod| covers(&budget, pod)).cloned().collect();
        let scale = self.scale(&pods);
        Some(View { budget, pods, scale })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan(view, now)
    }
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let budget = &view.budget;
    if view.pods.is_empty() {
        plan.because("no pods match");
    }
    let status = match status::of(view, now) {
        Ok((status, again)) => {
            again.into_iter().for_each(|delay| plan.again(delay));
            status
        }
        Err(message) => {
            let text = format!("Failed to calculate the number of expected pods: {message}");
            let failed = status::failed(budget, &message, now);
            if budget.status.as_ref() != Some(&failed) {
                let reason = "CalculateExpectedPodCountFailed";
                plan.act(Action::event(&**budget, EventKind::Warning, reason, text));
            }
            failed
        }
    };
    if budget.status.as_ref() != Some(&status) {
        let mut budget = PodDisruptionBudget::clone(budget);
        budget.status = Some(status);
        plan.act(Action::update_status(&budget));
    }
    plan
}

#[cfg(test)]
mod tests;
