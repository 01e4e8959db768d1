//! Affinity between pods: which topology domains a pod must, must not, or would like to share with others. Counted once over
//! the cluster for each pod, then looked up for each node.

use crate::cluster::{NodeInfo, PodInfo};
use crate::select::{Labels, labels_of, matches};
use crate::verdict::Reasons;
use nauplius_kinds::api::core::{PodAffinityTerm, WeightedPodAffinityTerm};
use nauplius_kinds::{Object, Pod};
use std::collections::{BTreeMap, HashMap};

/// A topology key and the value that a node has there.
type Domain = (String, String);
/// Namespaces with their labels, for `namespaceSelector`.
pub type Namespaces = BTreeMap<String, Labels>;

/// What affinity means for one pod in this cluster.
#[derive(Debug, Default)]
pub struct PodAffinity {
    required: Vec<PodAffinityTerm>,
    /// Domains in which all required terms have a match.
    wanted: Vec<HashMap<Domain, usize>>,
    /// Whether the pod itself satisfies all its terms and nobody else does: then it may be the first.
    may_be_first: bool,
    forbidden: Vec<HashMap<Domain, usize>>,
    forbidden_keys: Vec<String>,
    /// Domains that pods there keep this pod out of.
    repelled: HashMap<Domain, usize>,
    liked: HashMap<Domain, i64>,
}

fn terms(pod: &Pod, anti: bool) -> &[PodAffinityTerm] {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let list = affinity.and_then(|affinity| {
        if anti {
            affinity
                .pod_anti_affinity
                .as_ref()?
                .required_during_scheduling_ignored_during_execution
                .as_deref()
        } else {
            affinity.pod_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_deref()
        }
    });
    list.unwrap_or_default()
}

fn preferred(pod: &Pod, anti: bool) -> &[WeightedPodAffinityTerm] {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let list = affinity.and_then(|affinity| {
        if anti {
            affinity
                .pod_anti_affinity
                .as_ref()?
                .preferred_during_scheduling_ignored_during_execution
                .as_deref()
        } else {
            affinity.pod_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.as_deref()
        }
    });
    list.unwrap_or_default()
}

/// Whether `term` of `owner` means `other`.
fn means(term: &PodAffinityTerm, owner: &Pod, other: &Pod, namespaces: &Namespaces) -> bool {
    in_namespaces(term, owner, other.namespace(), namespaces) && matches_keys(term, owner, labels_of(other))
}

fn in_namespaces(term: &PodAffinityTerm, owner: &Pod, namespace: &str, namespaces: &Namespaces) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    if named.is_empty() && term.namespace_selector.is_none() {
        return namespace == owner.namespace();
    }
    named.iter().any(|name| name == namespace)
        || namespaces.get(namespace).is_some_and(|labels| matches(term.namespace_selector.as_ref(), labels))
}

/// The selector, with the owner's own values of `matchLabelKeys` and without those of `mismatchLabelKeys`.
fn matches_keys(term: &PodAffinityTerm, owner: &Pod, labels: &Labels) -> bool {
    let own = labels_of(owner);
    let same = |key: &String| own.get(key).is_none_or(|value| labels.get(key) == Some(value));
    let other = |key: &String| own.get(key).is_none_or(|value| labels.get(key) != Some(value));
    matches(term.label_selector.as_ref(), labels)
        && term.match_label_keys.iter().flatten().all(same)
        && term.mismatch_label_keys.iter().flatten().all(other)
}

fn domain(key: &str, node: &NodeInfo) -> Option<Domain> {
    node.label(key).map(|value| (key.to_owned(), value.to_owned()))
}

impl PodAffinity {
    /// Counts the cluster for `pod`.
    pub fn new<'a>(
        pod: &PodInfo,
        nodes: impl Iterator<Item = &'a NodeInfo>,
        namespaces: &Namespaces,
    ) -> Self {
        let own = &*pod.pod;
        let (required, forbidden) = (terms(own, false), terms(own, true));
        let mut affinity = Self {
            required: required.to_vec(),
            wanted: vec![HashMap::new(); required.len()],
            forbidden: vec![HashMap::new(); forbidden.len()],
            forbidden_keys: forbidden.iter().map(|term| term.topology_key.clone()).collect(),
            ..Self::default()
        };
        for node in nodes {
            for other in &node.pods {
                affinity.count(own, &other.pod, node, namespaces);
            }
        }
        let alone = affinity.wanted.iter().all(HashMap::is_empty);
        affinity.may_be_first = alone && required.iter().all(|term| means(term, own, own, namespaces));
        affinity
    }

    fn count(&mut self, own: &Pod, other: &Pod, node: &NodeInfo, namespaces: &Namespaces) {
        let all_match = self.required.iter().all(|term| means(term, own, other, namespaces));
        for (term, domains) in self.required.iter().zip(&mut self.wanted) {
            if let Some(domain) = domain(&term.topology_key, node).filter(|_| all_match) {
                *domains.entry(domain).or_insert(0) += 1;
            }
        }
        for (term, domains) in terms(own, true).iter().zip(&mut self.forbidden) {
            if let Some(domain) =
                domain(&term.topology_key, node).filter(|_| means(term, own, other, namespaces))
            {
                *domains.entry(domain).or_insert(0) += 1;
            }
        }
        for term in terms(other, true) {
            if let Some(domain) =
                domain(&term.topology_key, node).filter(|_| means(term, other, own, namespaces))
            {
                *self.repelled.entry(domain).or_insert(0) += 1;
            }
        }
        self.like(own, other, node, namespaces);
        self.like(other, own, node, namespaces);
    }

    /// What `owner` prefers of `other`.
    fn like(&mut self, owner: &Pod, other: &Pod, node: &NodeInfo, namespaces: &Namespaces) {
        for (anti, sign) in [(false, 1), (true, -1)] {
            for weighted in preferred(owner, anti) {
                let term = &weighted.pod_affinity_term;
                if let Some(domain) =
                    domain(&term.topology_key, node).filter(|_| means(term, owner, other, namespaces))
                {
                    *self.liked.entry(domain).or_insert(0) += sign * i64::from(weighted.weight);
                }
            }
        }
    }

    /// The filter.
    ///
    /// # Errors
    /// Upstream's words for each of the three rules.
    pub fn check(&self, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Reasons> {
        let refuse = |reason: &str| Err(vec![reason.to_owned()]);
        let has = |counts: &HashMap<Domain, usize>, key: &str| {
            domain(key, node).is_some_and(|domain| counts.contains_key(&domain))
        };
        let mut wanted = self.required.iter().zip(&self.wanted);
        let satisfied = wanted.all(|(term, counts)| has(counts, &term.topology_key));
        let first =
            self.may_be_first && self.required.iter().all(|term| node.label(&term.topology_key).is_some());
        if !satisfied && !first {
            return refuse("node(s) didn't match pod affinity rules");
        }
        if self.forbidden_keys.iter().zip(&self.forbidden).any(|(key, counts)| has(counts, key)) {
            return refuse("node(s) didn't match pod anti-affinity rules");
        }
        let repelled = self.repelled.keys().any(|(key, value)| node.label(key) == Some(value));
        if repelled {
            return refuse("node(s) didn't satisfy existing pods anti-affinity rules");
        }
        Ok(())
    }

    /// How much the pod and those there like each other; normalised by the caller.
    pub fn score(&self, node: &NodeInfo) -> i64 {
        let here = self.liked.iter().filter(|((key, value), _)| node.label(key) == Some(value));
        here.map(|(_, weight)| weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{pod, simple_node};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn app(name: &str, affinity: &Value) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(pod(&json!({
            "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"}},
            "spec": {"containers": [], "affinity": affinity},
        }))))
    }

    fn rule(kind: &str) -> Value {
        let term = json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"});
        json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    }

    fn check(pod: &PodInfo, nodes: &[NodeInfo]) -> Vec<Option<String>> {
        let affinity = PodAffinity::new(pod, nodes.iter(), &Namespaces::new());
        nodes.iter().map(|node| affinity.check(pod, node).err().map(|reasons| reasons[0].clone())).collect()
    }

    #[test]
    fn pods_attract_and_repel() {
        let mut nodes = [NodeInfo::new(simple_node("a", "1")), NodeInfo::new(simple_node("b", "1"))];
        let (together, apart) = (app("t", &rule("podAffinity")), app("x", &rule("podAntiAffinity")));
        // The first of its kind may start anywhere.
        assert_eq!(check(&together, &nodes), [None, None]);
        nodes[0].add(app("old", &json!({})));
        let no_friends = Some("node(s) didn't match pod affinity rules".to_owned());
        assert_eq!(check(&together, &nodes), [None, no_friends]);
        let no_enemies = Some("node(s) didn't match pod anti-affinity rules".to_owned());
        assert_eq!(check(&apart, &nodes), [no_enemies, None]);
        let mut nodes = [NodeInfo::new(simple_node("a", "1"))];
        nodes[0].add(apart);
        let repelled = Some("node(s) didn't satisfy existing pods anti-affinity rules".to_owned());
        assert_eq!(check(&app("new", &json!({})), &nodes), [repelled]);
    }
}
