//! Questions about a deployment that several components ask. It never changes one.

use crate::api::IntOrString;
use crate::api::apps::{Deployment, DeploymentCondition};

/// One condition.
pub fn condition<'a>(deployment: &'a Deployment, type_: &str) -> Option<&'a DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_.as_deref() == Some(type_))
}

/// How many pods are wanted.
pub fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

/// Whether its pods are replaced step by step, not all at once.
pub fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref();
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
}

/// A number, or a part of `total`.
pub fn scaled(value: &IntOrString, total: i32, rounds_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            // The API server stores only percentages as text.
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let parts = percent * i64::from(total);
            let rounded = if rounds_up { (parts + 99).div_euclid(100) } else { parts.div_euclid(100) };
            // Percentages of a 32-bit count that are wanted at all fit.
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

/// How many pods may be there beyond the wanted ones, and how many of these may be missing, while pods are replaced. Both
/// are not zero at once, or nothing would move.
pub fn surge_and_unavailable(deployment: &Deployment) -> (i32, i32) {
    let strategy = deployment.spec.strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let total = replicas(deployment);
    let Some(rolling) = rolling.filter(|_| is_rolling(deployment) && total != 0) else { return (0, 0) };
    let surge = rolling.max_surge.as_ref().map_or(0, |value| scaled(value, total, true));
    let unavailable = rolling.max_unavailable.as_ref().map_or(0, |value| scaled(value, total, false));
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(total)) }
}

/// Whether every wanted pod has the newest template and is available, and no other is left.
pub fn is_complete(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    let wanted = replicas(deployment);
    let counts = [status.updated_replicas, status.replicas, status.available_replicas];
    counts.iter().all(|count| count.unwrap_or(0) == wanted)
        && status.observed_generation >= deployment.metadata.generation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Object;
    use serde_json::{Value, json};

    fn deployment(value: Value) -> Deployment {
        Deployment::decode(value.to_string().as_bytes()).expect("a deployment")
    }

    #[test]
    fn parts_round_so_that_something_moves() {
        let check = |replicas: i32, surge: Value, unavailable: Value, expected| {
            let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
            let deployment = deployment(
                json!({"spec": {"replicas": replicas, "selector": {}, "template": {}, "strategy": strategy}}),
            );
            assert_eq!(surge_and_unavailable(&deployment), expected);
        };
        check(3, json!("25%"), json!("25%"), (1, 0));
        check(10, json!("25%"), json!("25%"), (3, 2));
        check(1, json!(0), json!("25%"), (0, 1));
        check(2, json!(5), json!(5), (5, 2));
        check(0, json!("25%"), json!("25%"), (0, 0));
    }

    #[test]
    fn complete_is_what_the_controller_has_seen() {
        let status = |generation: i64| json!({"observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        let with = |generation| {
            deployment(
                json!({"metadata": {"generation": 2}, "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": status(generation)}),
            )
        };
        assert!(is_complete(&with(2)) && !is_complete(&with(1)));
    }
}
