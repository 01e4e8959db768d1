//! Spreading over topology domains: hard constraints filter, soft ones score, and pods of one owner are spread softly by default.

use crate::cluster::{NodeInfo, PodInfo};
use crate::select::{Labels, labels_of, matches, node_matches};
use crate::verdict::Reasons;
use nauplius_kinds::api::core::TopologySpreadConstraint;
use nauplius_kinds::api::meta::{LabelSelector, LabelSelectorRequirement};
use nauplius_kinds::{Object, Pod};
use std::collections::HashMap;

/// What upstream applies to pods that name no constraint of their own.
const DEFAULTS: [(&str, i32); 2] = [("kubernetes.io/hostname", 3), ("topology.kubernetes.io/zone", 5)];

#[derive(Debug)]
struct Rule {
    key: String,
    max_skew: i64,
    selector: LabelSelector,
    min_domains: Option<i64>,
    counts: HashMap<String, i64>,
    is_own: bool,
}

/// The constraints of one pod, counted over the cluster.
#[derive(Debug, Default)]
pub struct Spread {
    hard: Vec<Rule>,
    soft: Vec<Rule>,
}

impl Spread {
    /// Counts the cluster for `pod`.
    pub fn new(pod: &PodInfo, nodes: &[&NodeInfo]) -> Self {
        let own = &*pod.pod;
        let constraints = own.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_deref());
        let constraints = constraints.unwrap_or_default();
        let (hard, soft): (Vec<_>, Vec<_>) =
            constraints.iter().partition(|constraint| constraint.when_unsatisfiable == "DoNotSchedule");
        let rule = |constraint: &&TopologySpreadConstraint| Rule::of(constraint, own, nodes);
        let mut spread =
            Self { hard: hard.iter().map(rule).collect(), soft: soft.iter().map(rule).collect() };
        if constraints.is_empty() {
            spread.soft = default_rules(own, nodes);
        }
        spread
    }

    /// The filter.
    ///
    /// # Errors
    /// Upstream's words.
    pub fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        for rule in &self.hard {
            let Some(value) = node.label(&rule.key) else {
                return Err(vec![
                    "node(s) didn't match pod topology spread constraints (missing required label)"
                        .to_owned(),
                ]);
            };
            let here = rule.counts.get(value).copied().unwrap_or(0) + i64::from(rule.is_own);
            if here - rule.minimum() > rule.max_skew {
                return Err(vec!["node(s) didn't match pod topology spread constraints".to_owned()]);
            }
        }
        Ok(())
    }

    /// How crowded the node's domains are with pods like this one: lower is better.
    pub fn crowding(&self, node: &NodeInfo) -> Option<i64> {
        let counts = self.soft.iter().filter_map(|rule| {
            let value = node.label(&rule.key)?;
            // A domain of few nodes weighs more than one of many: upstream weighs by the logarithm of their number.
            Some(rule.counts.get(value).copied().unwrap_or(0) * rule.weight() + (rule.max_skew - 1))
        });
        let counts: Vec<i64> = counts.collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    }
}

fn default_rules(own: &Pod, nodes: &[&NodeInfo]) -> Vec<Rule> {
    let Some(selector) = owner_selector(own) else { return Vec::new() };
    let rule = |(key, max_skew): (&str, i32)| {
        let constraint = TopologySpreadConstraint {
            topology_key: key.to_owned(),
            max_skew,
            label_selector: Some(selector.clone()),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            ..TopologySpreadConstraint::default()
        };
        Rule::of(&constraint, own, nodes)
    };
    DEFAULTS.into_iter().map(rule).collect()
}

/// Pods of one owner share their labels: what the owner's selector would find.
fn owner_selector(own: &Pod) -> Option<LabelSelector> {
    let owned = own.meta().owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
    let labels = labels_of(own);
    (owned && !labels.is_empty())
        .then(|| LabelSelector { match_labels: Some(labels.clone()), match_expressions: None })
}

impl Rule {
    fn of(constraint: &TopologySpreadConstraint, own: &Pod, nodes: &[&NodeInfo]) -> Self {
        let mut selector = constraint.label_selector.clone().unwrap_or_default();
        add_own_values(
            &mut selector,
            constraint.match_label_keys.as_deref().unwrap_or_default(),
            labels_of(own),
        );
        let mut rule = Self {
            key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            is_own: matches(Some(&selector), labels_of(own)),
            selector,
            min_domains: constraint.min_domains.map(i64::from),
            counts: HashMap::new(),
        };
        let honors = constraint.node_affinity_policy.as_deref() != Some("Ignore");
        for node in nodes {
            let eligible = !honors || own.spec.as_ref().is_none_or(|spec| node_matches(spec, node));
            if let Some(value) = node.label(&rule.key).filter(|_| eligible) {
                let count = rule.matching(node, own.namespace());
                *rule.counts.entry(value.to_owned()).or_insert(0) += count;
            }
        }
        rule
    }

    fn matching(&self, node: &NodeInfo, namespace: &str) -> i64 {
        let alike = node.pods.iter().filter(|other| {
            other.pod.namespace() == namespace
                && other.pod.meta().deletion_timestamp.is_none()
                && matches(Some(&self.selector), labels_of(&other.pod))
        });
        i64::try_from(alike.count()).unwrap_or(i64::MAX)
    }

    /// The emptiest domain; with too few domains, one that does not exist yet.
    fn minimum(&self) -> i64 {
        let domains = i64::try_from(self.counts.len()).unwrap_or(i64::MAX);
        if self.min_domains.is_some_and(|wanted| domains < wanted) {
            return 0;
        }
        self.counts.values().copied().min().unwrap_or(0)
    }

    fn weight(&self) -> i64 {
        let domains = self.counts.len().max(1);
        i64::from(usize::BITS - domains.leading_zeros())
    }
}

fn add_own_values(selector: &mut LabelSelector, keys: &[String], labels: &Labels) {
    for key in keys {
        let Some(value) = labels.get(key) else { continue };
        selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
            key: key.clone(),
            operator: "In".to_owned(),
            values: Some(vec![value.clone()]),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{pod, simple_node};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn hard_constraints_bound_the_skew() {
        let make = |name: &str| {
            Arc::new(PodInfo::new(pod(&json!({
                "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"}},
                "spec": {"containers": [], "topologySpreadConstraints": [{
                    "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"app": "web"}},
                }]},
            }))))
        };
        let mut nodes = [NodeInfo::new(simple_node("a", "1")), NodeInfo::new(simple_node("b", "1"))];
        nodes[0].add(make("one"));
        let fits = |nodes: &[NodeInfo]| -> Vec<bool> {
            let spread = Spread::new(&make("new"), &nodes.iter().collect::<Vec<_>>());
            nodes.iter().map(|node| spread.check(node).is_ok()).collect()
        };
        assert_eq!(fits(&nodes), [false, true]);
        nodes[1].add(make("two"));
        assert_eq!(fits(&nodes), [true, true]);
    }
}
