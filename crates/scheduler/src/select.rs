//! Whether labels match: label selectors of pods and namespaces, node selectors and node affinity.

use crate::cluster::NodeInfo;
use nauplius_kinds::Object;
use nauplius_kinds::Pod;
use nauplius_kinds::api::core::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};
use nauplius_kinds::api::meta::LabelSelector;
use std::collections::BTreeMap;

/// Labels as typed objects carry them.
pub type Labels = BTreeMap<String, String>;

/// The labels of a pod.
pub fn labels_of(pod: &Pod) -> &Labels {
    static NONE: Labels = Labels::new();
    pod.meta().labels.as_ref().unwrap_or(&NONE)
}

/// Whether a label selector matches; an absent one matches nothing, an empty one everything.
pub fn matches(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    let exact = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    exact
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            holds(&requirement.operator, labels.get(&requirement.key).map(String::as_str), values)
        })
}

fn holds(operator: &str, value: Option<&str>, values: &[String]) -> bool {
    let contained = || value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    match operator {
        "In" => contained(),
        "NotIn" => !contained(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" | "Lt" => compare(operator, value, values),
        _ => false,
    }
}

fn compare(operator: &str, value: Option<&str>, values: &[String]) -> bool {
    let number = |text: &str| text.parse::<i64>().ok();
    match (value.and_then(number), values.first().and_then(|wanted| number(wanted))) {
        (Some(value), Some(wanted)) if operator == "Gt" => value > wanted,
        (Some(value), Some(wanted)) => value < wanted,
        _ => false,
    }
}

/// Whether a node has what `nodeSelector` and the required node affinity of a pod ask for.
pub fn node_matches(spec: &PodSpec, node: &NodeInfo) -> bool {
    let simple = spec.node_selector.iter().flatten().all(|(key, value)| node.label(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    simple
        && required
            .is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// Whether all of one term holds; a term without requirements matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let requirement = |requirement: &NodeSelectorRequirement, value: Option<&str>| {
        holds(&requirement.operator, value, requirement.values.as_deref().unwrap_or_default())
    };
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|wanted| requirement(wanted, node.label(&wanted.key)))
        && fields.iter().all(|wanted| {
            let value = (wanted.key == "metadata.name").then(|| node.name());
            requirement(wanted, value)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{pod, simple_node};
    use serde_json::json;

    #[test]
    fn node_affinity_matches_as_upstream() {
        let node = NodeInfo::new(simple_node("a", "1"));
        let cases = [
            (json!({"nodeSelector": {"kubernetes.io/hostname": "a"}}), true),
            (json!({"nodeSelector": {"kubernetes.io/hostname": "b"}}), false),
            (affinity(&json!([{"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}])), true),
            (
                affinity(
                    &json!([{"matchExpressions": [{"key": "x", "operator": "Exists"}]}, {"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["a"]}]}]),
                ),
                true,
            ),
            (affinity(&json!([{}])), false),
        ];
        for (spec, expected) in cases {
            let mut spec = spec;
            spec["containers"] = json!([]);
            let pod = pod(&json!({"metadata": {"name": "p"}, "spec": spec}));
            assert_eq!(node_matches(pod.spec.as_ref().unwrap(), &node), expected, "{spec}");
        }
    }

    fn affinity(terms: &serde_json::Value) -> serde_json::Value {
        let required =
            json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
        json!({"affinity": {"nodeAffinity": required}})
    }
}
