//! A deployment's replica sets, told apart: the one with its template, and the old ones.

use super::View;
use super::annotations::{DESIRED, number, revision};
use nauplius_kinds::api::core::PodTemplateSpec;
use nauplius_kinds::{Deployment, Object, ReplicaSet, deployment};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The label that tells the sets of one deployment apart.
pub(super) const HASH: &str = "pod-template-hash";

pub(super) struct Sets {
    /// The oldest set with the deployment's template.
    pub new: Option<Arc<ReplicaSet>>,
    /// All others, oldest first.
    pub old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    pub fn of(view: &View) -> Self {
        let mut own = view.owner().sort(&view.sets).own;
        own.sort_by(|one, other| age(one).cmp(&age(other)));
        let template = plain(&view.deployment.spec.template);
        let new = own.iter().position(|set| set.spec.template.as_ref().map(plain) == Some(template.clone()));
        let new = new.map(|index| own.remove(index));
        Self { new, old: own }
    }

    /// Old ones first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    /// Those with pods to have, oldest first.
    pub fn active(&self) -> Vec<&Arc<ReplicaSet>> {
        let mut active: Vec<_> = self.all().filter(|set| wanted(set) > 0).collect();
        active.sort_by(|one, other| age(one).cmp(&age(other)));
        active
    }

    /// The revision that the newest set has, or will have.
    pub fn next_revision(&self) -> i64 {
        self.old.iter().map(|set| revision(set)).max().unwrap_or(0).saturating_add(1)
    }

    /// Whether the deployment was scaled since its sets were.
    pub fn is_scaled(&self, deployment: &Deployment) -> bool {
        let desired = |set: &&Arc<ReplicaSet>| number::<i32>(&set.metadata, DESIRED);
        self.active().iter().filter_map(desired).any(|desired| desired != deployment::replicas(deployment))
    }
}

/// By creation, then by name.
pub(super) fn age(set: &ReplicaSet) -> (Option<nauplius_base::time::Timestamp>, &str) {
    (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.name())
}

/// How many pods a set shall have.
pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// How many pods sets shall have together.
pub(super) fn wanted_by<'a>(sets: impl IntoIterator<Item = &'a Arc<ReplicaSet>>) -> i32 {
    sets.into_iter().map(|set| wanted(set)).sum()
}

/// How many available pods a set says it has.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// How many pods a set says it has.
pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

/// A template without the label that its set adds.
fn plain(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let mut metadata = template.metadata.take().unwrap_or_default();
    let mut labels: BTreeMap<_, _> = metadata.labels.take().unwrap_or_default();
    labels.remove(HASH);
    metadata.labels = Some(labels);
    metadata.creation_timestamp = None;
    template.metadata = Some(metadata);
    template
}
