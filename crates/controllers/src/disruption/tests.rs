//! Budgets as golden cases.

use super::*;
use crate::testing::{at, object, trace};
use serde_json::{Value, json};

fn view(spec: Value, ready: usize, total: usize, scale: Result<i32, String>) -> View {
    let budget = object(json!({"metadata": {"name": "b", "namespace": "n", "generation": 1}, "spec": spec}));
    let pod = |index: usize| {
        let ready = json!({"type": "Ready", "status": if index < ready { "True" } else { "False" }});
        object(
            json!({"metadata": {"name": format!("p{index}"), "namespace": "n"}, "status": {"conditions": [ready]}}),
        )
    };
    View { budget, pods: (0..total).map(pod).collect(), scale }
}

fn check(spec: Value, ready: usize, total: usize, expected: (i32, i32, i32)) {
    let mut view = view(spec, ready, total, Ok(10));
    let (status, _) = status::of(&view, at(1)).unwrap();
    let seen =
        (status.expected_pods.unwrap(), status.desired_healthy.unwrap(), status.disruptions_allowed.unwrap());
    assert_eq!(seen, expected);
    let mut budget = PodDisruptionBudget::clone(&view.budget);
    budget.status = Some(status);
    view.budget = Arc::new(budget);
    assert_eq!(trace(&plan(&view, at(9))), Vec::<String>::new());
}

#[test]
fn budgets_count() {
    check(json!({"minAvailable": 2}), 3, 4, (4, 2, 1));
    check(json!({"minAvailable": "50%"}), 8, 10, (10, 5, 3));
    check(json!({"maxUnavailable": 1}), 10, 10, (10, 9, 1));
    check(json!({"maxUnavailable": "25%"}), 8, 10, (10, 7, 1));
    check(json!({"minAvailable": 2}), 0, 0, (0, 2, 0));
}

#[test]
fn a_granted_eviction_counts_until_it_is_late() {
    let mut view = view(json!({"minAvailable": 1}), 2, 2, Ok(2));
    let mut budget = PodDisruptionBudget::clone(&view.budget);
    let since = nauplius_kinds::api::meta::Time(at(100));
    budget.status.get_or_insert_default().disrupted_pods = Some(BTreeMap::from([("p0".to_owned(), since)]));
    view.budget = Arc::new(budget);
    let (early, again) = status::of(&view, at(150)).unwrap();
    assert_eq!((early.disruptions_allowed, again), (Some(0), Some(std::time::Duration::from_secs(70))));
    let (late, again) = status::of(&view, at(221)).unwrap();
    assert_eq!((late.disruptions_allowed, again), (Some(1), None));
}

#[test]
fn uncountable_pods_allow_nothing() {
    let view = view(json!({"maxUnavailable": 1}), 2, 2, Err("found no controller ref for pod \"p0\"".into()));
    let lines = trace(&plan(&view, at(1)));
    let event = "event Warning CalculateExpectedPodCountFailed: Failed to calculate the number of expected pods: found no \
                 controller ref for pod \"p0\"";
    assert_eq!(lines, [event, "PUT n/poddisruptionbudgets/b/status"]);
}
