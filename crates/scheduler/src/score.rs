//! Scores: which of the nodes that fit is best. Each plugin gives 0 to 100; weights are upstream's.

use crate::affinity::PodAffinity;
use crate::cluster::{NodeInfo, PodInfo};
use crate::filter::is_tolerated;
use crate::select::term_matches;
use crate::spread::Spread;

const MAX: i64 = 100;
/// Images smaller or larger than these do not move the score further.
const IMAGE_MIN_BYTES: i64 = 23 << 20;
const IMAGE_MAX_BYTES: i64 = 1000 << 20;

/// One total for each of `nodes`.
pub fn score(pod: &PodInfo, nodes: &[&NodeInfo], affinity: &PodAffinity, spread: &Spread) -> Vec<i64> {
    let each =
        |score: &dyn Fn(&NodeInfo) -> i64| -> Vec<i64> { nodes.iter().map(|node| score(node)).collect() };
    let weighted: [(i64, Vec<i64>); 7] = [
        (3, normalized(each(&|node| intolerable(pod, node)), true)),
        (2, normalized(each(&|node| preferred_affinity(pod, node)), false)),
        (2, between_pods(each(&|node| affinity.score(node)))),
        (2, spread_scores(nodes, spread)),
        (1, each(&|node| least_allocated(pod, node))),
        (1, each(&|node| balanced(pod, node))),
        (1, each(&|node| image_locality(pod, node))),
    ];
    (0..nodes.len())
        .map(|index| weighted.iter().map(|(weight, scores)| weight * scores[index]).sum())
        .collect()
}

/// Scales to 0..=100 by the largest; `reverse` when less is better.
fn normalized(raw: Vec<i64>, reverse: bool) -> Vec<i64> {
    let largest = raw.iter().copied().max().unwrap_or(0);
    if largest == 0 {
        return vec![if reverse { MAX } else { 0 }; raw.len()];
    }
    raw.into_iter()
        .map(|value| value * MAX / largest)
        .map(|value| if reverse { MAX - value } else { value })
        .collect()
}

/// Likes and dislikes may be negative: scaled between the least and the most.
fn between_pods(raw: Vec<i64>) -> Vec<i64> {
    let (least, most) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
    if least == most {
        return vec![0; raw.len()];
    }
    raw.into_iter().map(|value| MAX * (value - least) / (most - least)).collect()
}

fn spread_scores(nodes: &[&NodeInfo], spread: &Spread) -> Vec<i64> {
    let raw: Vec<Option<i64>> = nodes.iter().map(|node| spread.crowding(node)).collect();
    let (Some(least), Some(most)) = (raw.iter().flatten().min(), raw.iter().flatten().max()) else {
        return vec![0; nodes.len()];
    };
    let score = |value: i64| if *most == 0 { MAX } else { MAX * (most + least - value) / most };
    // A node without the topology's label spreads nothing.
    raw.iter().map(|value| value.map_or(0, score)).collect()
}

/// Soft taints that the pod does not tolerate.
fn intolerable(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let tolerations = pod.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let soft = taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    let count = soft.filter(|taint| !is_tolerated(taint, tolerations)).count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn preferred_affinity(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let affinity = pod.pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let terms = affinity
        .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref());
    let matching = terms.unwrap_or_default().iter().filter(|term| term_matches(&term.preference, node));
    matching.map(|term| i64::from(term.weight)).sum()
}

fn shares(pod: &PodInfo, node: &NodeInfo) -> [(i64, i64); 2] {
    let mut used = node.requested_with_defaults.clone();
    used.add(&pod.requests.at_least_default());
    [(used.milli_cpu, node.allocatable.milli_cpu), (used.memory, node.allocatable.memory)]
}

fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let free = |(used, has): (i64, i64)| if has <= 0 || used > has { 0 } else { (has - used) * MAX / has };
    shares(pod, node).into_iter().map(free).sum::<i64>() / 2
}

/// Nodes whose CPU and memory fill up alike are better.
fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let percent = |(used, has): (i64, i64)| if has <= 0 { MAX } else { (used * MAX / has).min(MAX) };
    let [cpu, memory] = shares(pod, node).map(percent);
    MAX - (cpu - memory).abs() / 2
}

fn image_locality(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let Some(spec) = &pod.pod.spec else { return 0 };
    let present = node.node.status.as_ref().and_then(|status| status.images.as_deref()).unwrap_or_default();
    let size_of = |image: &str| {
        let has = |names: &Option<Vec<String>>| names.iter().flatten().any(|name| name == image);
        present.iter().find(|known| has(&known.names)).and_then(|known| known.size_bytes).unwrap_or(0)
    };
    let containers = i64::try_from(spec.containers.len().max(1)).unwrap_or(1);
    let total: i64 =
        spec.containers.iter().filter_map(|container| container.image.as_deref()).map(size_of).sum();
    let most = IMAGE_MAX_BYTES * containers;
    MAX * (total.clamp(IMAGE_MIN_BYTES, most) - IMAGE_MIN_BYTES) / (most - IMAGE_MIN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{simple_node, simple_pod};
    use std::sync::Arc;

    #[test]
    fn the_emptier_node_wins() {
        let (mut busy, free) = (NodeInfo::new(simple_node("a", "4")), NodeInfo::new(simple_node("b", "4")));
        busy.add(Arc::new(PodInfo::new(simple_pod("old", "3", None))));
        let pod = PodInfo::new(simple_pod("new", "500m", None));
        let scores = score(&pod, &[&busy, &free], &PodAffinity::default(), &Spread::default());
        assert!(scores[1] > scores[0], "{scores:?}");
    }

    #[test]
    fn scales_to_a_hundred() {
        assert_eq!(normalized(vec![0, 2, 4], false), [0, 50, 100]);
        assert_eq!(normalized(vec![0, 2, 4], true), [100, 50, 0]);
        assert_eq!(normalized(vec![0, 0], true), [100, 100]);
        assert_eq!(between_pods(vec![-10, 0, 10]), [0, 50, 100]);
    }
}
