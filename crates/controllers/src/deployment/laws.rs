//! The laws of a rollout, on random deployments whose pods become available in random bits: it ends, it never has more pods or
//! fewer available ones than allowed, and what has ended stays as it is.

use super::*;
use crate::testing::{at, object};
use nauplius_kinds::api::apps::ReplicaSetStatus;
use proptest::prelude::*;
use serde_json::{Value, json};

/// More looks than any rollout of so few pods takes.
const LOOKS_MAX: usize = 400;

fn deployment(replicas: i32, surge: &str, unavailable: &str) -> Value {
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:0"}]}});
    json!({"metadata": {"name": "d", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "template": template,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2}})
}

/// Applies a plan as the API server would.
fn apply(view: &mut View, plan: &Plan, born: &mut i64) {
    for action in &plan.actions {
        let Action::Write(write) = action else { continue };
        if write.resource == Deployment::PLURAL {
            view.deployment = Arc::new(Deployment::decode(&write.body).unwrap());
            continue;
        }
        let name = write.path.rsplit('/').next().unwrap_or_default().to_owned();
        view.sets.retain(|set| set.name() != name);
        if write.method == http::Method::DELETE {
            continue;
        }
        let mut set = ReplicaSet::decode(&write.body).unwrap();
        if write.method == http::Method::POST {
            *born += 1;
            set.metadata.uid = Some(format!("set-{born}"));
            set.metadata.creation_timestamp = Some(nauplius_kinds::api::meta::Time(at(*born)));
        }
        view.sets.push(Arc::new(set));
    }
}

/// One replica set's pods follow its wish; at most `bit` more become available.
fn run_pods(view: &mut View, which: usize, bit: i32) {
    let count = view.sets.len();
    let Some(set) = view.sets.get_mut(which % count.max(1)) else { return };
    let wanted = set.spec.replicas.unwrap_or(1);
    let available = replica_sets::available(set).min(wanted);
    let available = (available + bit).min(wanted);
    let mut changed = ReplicaSet::clone(set);
    changed.status = Some(ReplicaSetStatus {
        replicas: wanted,
        available_replicas: Some(available),
        ready_replicas: Some(available),
        terminating_replicas: Some(0),
        ..ReplicaSetStatus::default()
    });
    *set = Arc::new(changed);
}

fn assert_within_limits(view: &View) {
    let replicas = nauplius_kinds::deployment::replicas(&view.deployment);
    let (surge, _) = nauplius_kinds::deployment::surge_and_unavailable(&view.deployment);
    let total: i32 = view.sets.iter().map(|set| set.spec.replicas.unwrap_or(1)).sum();
    assert!(total <= replicas + surge, "{total} pods are more than {replicas} + {surge}");
}

/// Available pods that nobody has asked to go.
fn available(view: &View) -> i32 {
    view.sets.iter().map(|set| replica_sets::available(set).min(set.spec.replicas.unwrap_or(1))).sum()
}

/// Rolls out to the end; available pods never fall below what is allowed, once they were there.
fn roll_out(view: &mut View, born: &mut i64, bits: &[i32]) {
    let (_, unavailable) = nauplius_kinds::deployment::surge_and_unavailable(&view.deployment);
    let floor = nauplius_kinds::deployment::replicas(&view.deployment) - unavailable;
    for look in 0..LOOKS_MAX {
        let before = available(view);
        let plan = plan(view, at(1000));
        apply(view, &plan, born);
        assert_within_limits(view);
        assert!(available(view) >= before.min(floor), "{} of {before} are available", available(view));
        let is_through = view.sets.iter().all(|set| {
            set.status.is_some()
                && replica_sets::available(set) == set.spec.replicas.unwrap_or(1)
                && replica_sets::actual(set) == set.spec.replicas.unwrap_or(1)
        });
        if plan.actions.is_empty() && is_through {
            assert!(nauplius_kinds::deployment::is_complete(&view.deployment));
            return;
        }
        // Plans move sets about; in the order of their uids each has its turn.
        view.sets.sort_by(|one, other| one.uid().cmp(other.uid()));
        run_pods(view, look, bits[look % bits.len()]);
    }
    panic!("the rollout does not end: {:#?}", view.deployment.status);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn rollouts_end_within_their_limits(
        replicas in 0..12_i32,
        surge in prop_oneof!["[0-9]%", "[1-9][0-9]%"],
        unavailable in prop_oneof!["[0-9]%", "[1-9][0-9]%"],
        bits in proptest::collection::vec(1..5_i32, 1..7),
    ) {
        let deployment = object(deployment(replicas, &surge, &unavailable));
        let mut view = View { deployment, sets: Vec::new(), occupied: BTreeSet::new() };
        let mut born = 0;
        for image in ["i:0", "i:1", "i:2", "i:0", "i:3", "i:4"] {
            let mut next = Deployment::clone(&view.deployment);
            next.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
            view.deployment = Arc::new(next);
            roll_out(&mut view, &mut born, &bits);
        }
        prop_assert!(view.sets.len() <= 3, "old sets beyond the limit are left");
    }
}
