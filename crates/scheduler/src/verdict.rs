//! Why a pod fits nowhere, in upstream's words.

use std::collections::BTreeMap;

/// Why one node was filtered out; several for resources that are short together.
pub type Reasons = Vec<String>;

/// Counts reasons over nodes: `0/2 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
pub fn summary<'a>(nodes: usize, filtered: impl IntoIterator<Item = &'a Reasons>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in filtered.into_iter().flatten() {
        *counts.entry(reason).or_insert(0) += 1;
    }
    let mut reasons: Vec<String> =
        counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}

/// The same for a reason that no node can help: `0/2 nodes are available: persistentvolumeclaim "x" not found.`
pub fn hopeless(nodes: usize, reason: &str) -> String {
    if nodes == 0 {
        return summary(0, []);
    }
    format!("0/{nodes} nodes are available: {reason}.")
}

/// What upstream's plugins say when neither giving back claims of devices nor preemption helps: on `hopeless` of the nodes it could not help at all.
pub fn preemption(nodes: usize, hopeless: usize) -> String {
    let counts = [
        (nodes - hopeless, "No preemption victims found for incoming pod"),
        (hopeless, "Preemption is not helpful for scheduling"),
    ];
    let told = counts.into_iter().filter(|(count, _)| *count > 0);
    let mut told: Vec<String> = told.map(|(count, words)| format!("{count} {words}")).collect();
    told.sort();
    format!("no new claims to deallocate, preemption: 0/{nodes} nodes are available: {}.", told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_upstream_does() {
        let cpu = vec!["Insufficient cpu".to_owned()];
        let both = vec!["Insufficient cpu".to_owned(), "Insufficient memory".to_owned()];
        assert_eq!(
            summary(2, [&cpu, &both]),
            "0/2 nodes are available: 1 Insufficient memory, 2 Insufficient cpu."
        );
        assert_eq!(summary(0, []), "no nodes available to schedule pods");
        assert_eq!(hopeless(2, "no claim"), "0/2 nodes are available: no claim.");
        assert_eq!(hopeless(0, "no claim"), "no nodes available to schedule pods");
    }

    #[test]
    fn preemption_is_told_as_upstream_does() {
        let helpless = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
        assert_eq!(preemption(1, 1), helpless);
        assert_eq!(
            preemption(3, 2),
            "no new claims to deallocate, preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
        );
    }
}
