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
    }
}
