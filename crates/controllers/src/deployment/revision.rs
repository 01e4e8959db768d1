//! The newest replica set: made where it is missing, and kept in step with the deployment's annotations.

use super::annotations::{REVISION, of_new_set, sizes, text};
use super::replica_sets::{HASH, Sets, wanted, wanted_by};
use super::{View, conditions, hash, status};
use crate::claim::controller_reference;
use nauplius_base::time::Timestamp;
use nauplius_kinds::{Deployment, Object, ReplicaSet, deployment};
use nauplius_reconcile::{Action, EventKind, Note, Plan};

/// Brings the newest set up to date, or makes it if `creates`; whether there was anything to do.
pub(super) fn sync(view: &View, sets: &Sets, creates: bool, now: Timestamp, plan: &mut Plan) -> bool {
    match &sets.new {
        Some(new) => update(view, sets, new, now, plan),
        None if creates => {
            create(view, sets, now, plan);
            true
        }
        None => false,
    }
}

fn update(view: &View, sets: &Sets, new: &ReplicaSet, now: Timestamp, plan: &mut Plan) -> bool {
    let wanted = renewed(&view.deployment, sets, new);
    if wanted != *new {
        plan.act(Action::update(&wanted));
        return true;
    }
    let update = noted(&view.deployment, new, now);
    let changes = update.is_some();
    plan.actions.extend(update);
    changes
}

fn renewed(deployment: &Deployment, sets: &Sets, new: &ReplicaSet) -> ReplicaSet {
    let mut set = new.clone();
    of_new_set(deployment, set.metadata.annotations.get_or_insert_default(), sets.next_revision());
    if set.spec.min_ready_seconds.unwrap_or(0) != deployment.spec.min_ready_seconds.unwrap_or(0) {
        set.spec.min_ready_seconds = deployment.spec.min_ready_seconds;
    }
    set
}

/// The deployment's own revision, and that its set was found.
fn noted(deployment: &Deployment, new: &ReplicaSet, now: Timestamp) -> Option<Action> {
    let mut noted = deployment.clone();
    let revision = text(&new.metadata, REVISION);
    set_revision(&mut noted, revision);
    if conditions::has_deadline(deployment)
        && deployment::condition(deployment, conditions::PROGRESSING).is_none()
    {
        let message = format!("Found new replica set \"{}\"", new.name());
        conditions::set(&mut noted, conditions::progressing("True", "FoundNewReplicaSet", message, now));
    }
    (noted != *deployment).then(|| Action::update_status(&noted))
}

fn set_revision(deployment: &mut Deployment, revision: &str) {
    deployment.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision.to_owned());
}

fn create(view: &View, sets: &Sets, now: Timestamp, plan: &mut Plan) {
    let deployment = &view.deployment;
    let set = new_set(deployment, sets);
    let replicas = wanted(&set);
    let mut create = Action::create(&set);
    if replicas > 0 {
        let message = format!("Scaled up replica set {} from 0 to {replicas}", set.name());
        create =
            create.on_success(Note::about(&**deployment, EventKind::Normal, "ScalingReplicaSet", message));
    }
    let failed = format!("Failed to create new replica set \"{}\": {{error}}", set.name());
    plan.act(create.on_failure(Note::about(
        &**deployment,
        EventKind::Warning,
        "ReplicaSetCreateError",
        failed,
    )));
    let mut noted = Deployment::clone(deployment);
    set_revision(&mut noted, text(&set.metadata, REVISION));
    if conditions::has_deadline(deployment) {
        let message = format!("Created new replica set \"{}\"", set.name());
        conditions::set(&mut noted, conditions::progressing("True", "NewReplicaSetCreated", message, now));
    }
    noted.status = Some(status::counts(&noted, sets, now));
    plan.act(Action::update_status(&noted));
}

fn new_set(deployment: &Deployment, sets: &Sets) -> ReplicaSet {
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash::of(&deployment.spec.template, collisions);
    let mut set = ReplicaSet::default();
    let mut template = deployment.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.clone());
    set.metadata.labels = Some(labels.clone());
    set.metadata.name = Some(format!("{}-{hash}", deployment.name()));
    set.metadata.namespace = Some(deployment.namespace().to_owned());
    set.metadata.owner_references = Some(vec![controller_reference(deployment)]);
    let annotations = set.metadata.annotations.get_or_insert_default();
    of_new_set(deployment, annotations, sets.next_revision());
    let (surge, _) = deployment::surge_and_unavailable(deployment);
    sizes(annotations, deployment::replicas(deployment), deployment::replicas(deployment) + surge);
    set.spec.selector = deployment.spec.selector.clone();
    set.spec.selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash);
    set.spec.template = Some(template);
    set.spec.min_ready_seconds = deployment.spec.min_ready_seconds;
    set.spec.replicas = Some(room(deployment, sets, 0));
    set
}

/// How many pods the newest set, which has `current`, may have now.
pub(super) fn room(deployment: &Deployment, sets: &Sets, current: i32) -> i32 {
    let replicas = deployment::replicas(deployment);
    if !deployment::is_rolling(deployment) {
        return replicas;
    }
    let (surge, _) = deployment::surge_and_unavailable(deployment);
    let (total, limit) = (wanted_by(sets.all()), replicas + surge);
    if total >= limit { current } else { current + (limit - total).min(replicas - current) }
}
