//! What a pod asks of a node: the sums over its containers, with init containers, sidecars, the pod's own resources and
//! overhead, and the quality of service that follows. One arithmetic serves the API server's trees and the typed pods of
//! components. It knows no node.

use crate::api;
use crate::api::core::{Container, PodSpec, ResourceRequirements};
use crate::resource::quantity;
use crate::tree::{entries, list, text};
use nauplius_meta::quantity::{Format, Quantity};
use serde_json::Value;
use std::collections::BTreeMap;

/// Amounts by resource name.
pub type Resources = BTreeMap<String, Quantity>;

/// What one container, or the pod as a whole, asks for.
#[derive(Default)]
struct Needs {
    requests: Resources,
    limits: Resources,
    /// An init container that keeps running beside the others.
    is_sidecar: bool,
}

/// What the arithmetic has to know of a pod spec.
#[derive(Default)]
pub(crate) struct Shape {
    init: Vec<Needs>,
    containers: Vec<Needs>,
    pod: Option<Needs>,
    overhead: Resources,
}

fn tree_resources(object: &Value, key: &str) -> Resources {
    entries(object, key).map(|(name, value)| (name.to_owned(), quantity(value))).collect()
}

fn tree_needs(resources: &Value) -> Needs {
    Needs {
        requests: tree_resources(resources, "requests"),
        limits: tree_resources(resources, "limits"),
        is_sidecar: false,
    }
}

fn tree_containers(spec: &Value, key: &str) -> Vec<Needs> {
    let needs = |container: &Value| Needs {
        is_sidecar: text(container, "restartPolicy") == "Always",
        ..tree_needs(&container["resources"])
    };
    list(spec, key).iter().map(needs).collect()
}

impl Shape {
    /// The shape of a pod spec in a tree.
    pub(crate) fn of_tree(spec: &Value) -> Self {
        Self {
            init: tree_containers(spec, "initContainers"),
            containers: tree_containers(spec, "containers"),
            pod: crate::tree::get(spec, "resources").map(tree_needs),
            overhead: tree_resources(spec, "overhead"),
        }
    }

    /// The shape of a typed pod spec.
    pub(crate) fn of(spec: &PodSpec) -> Self {
        Self {
            init: spec.init_containers.iter().flatten().map(typed_container).collect(),
            containers: spec.containers.iter().map(typed_container).collect(),
            pod: spec.resources.as_ref().map(typed_needs),
            overhead: typed_resources(spec.overhead.as_ref()),
        }
    }

    /// What the containers need at the moment when they need most.
    fn aggregate(&self, amounts: fn(&Needs) -> &Resources) -> Resources {
        let mut total = sum(&self.containers, amounts);
        let mut sidecars = Resources::new();
        let mut most = Resources::new();
        for needs in &self.init {
            if needs.is_sidecar {
                add(&mut sidecars, amounts(needs));
                raise(&mut most, &sidecars);
            } else {
                let mut moment = amounts(needs).clone();
                add(&mut moment, &sidecars);
                raise(&mut most, &moment);
            }
        }
        add(&mut total, &sidecars);
        raise(&mut total, &most);
        total
    }

    /// What a node must have free for the pod.
    pub(crate) fn requests(&self) -> Resources {
        let mut total = self.total(|needs| &needs.requests);
        add(&mut total, &self.overhead);
        total
    }

    /// What the containers need, or the pod as a whole where it says so.
    fn total(&self, amounts: fn(&Needs) -> &Resources) -> Resources {
        let mut total = self.aggregate(amounts);
        if let Some(pod) = &self.pod {
            total.extend(amounts(pod).clone());
        }
        total
    }

    /// What the pod may use at most, of that of which it says so; overhead counts where there is a limit at all.
    fn limits(&self) -> Resources {
        let mut total = self.total(|needs| &needs.limits);
        for (name, amount) in &self.overhead {
            total.entry(name.clone()).and_modify(|sum| sum.add(amount));
        }
        total
    }

    /// `Guaranteed`, `Burstable` or `BestEffort`.
    pub(crate) fn qos_class(&self) -> &'static str {
        let pod_level = self.pod.as_ref().filter(|pod| !pod.requests.is_empty() || !pod.limits.is_empty());
        let all: Vec<&Needs> = match pod_level {
            Some(pod) => vec![pod],
            None => self.init.iter().chain(&self.containers).collect(),
        };
        if all.iter().all(|needs| positive(&needs.requests).is_empty() && positive(&needs.limits).is_empty())
        {
            return "BestEffort";
        }
        let limited = all.iter().all(|needs| positive(&needs.limits).len() == 2);
        let (requests, limits) = (compute_sum(&all, |n| &n.requests), compute_sum(&all, |n| &n.limits));
        if limited && requests == limits { "Guaranteed" } else { "Burstable" }
    }
}

/// The requests of all containers of a pod spec in a tree.
pub(crate) fn containers(spec: &Value) -> Resources {
    Shape::of_tree(spec).aggregate(|needs| &needs.requests)
}

/// The limits of all containers of a pod spec in a tree.
pub(crate) fn aggregate_limits(spec: &Value) -> Resources {
    Shape::of_tree(spec).aggregate(|needs| &needs.limits)
}

/// What a pod spec in a tree asks for, and what it may use at most.
pub fn pod_totals(spec: &Value) -> (Resources, Resources) {
    let shape = Shape::of_tree(spec);
    (shape.requests(), shape.limits())
}

/// The amounts of a list in a tree.
pub fn resource_list(list: &Value) -> Resources {
    list.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), quantity(value))).collect()
}

fn typed_container(container: &Container) -> Needs {
    let needs = container.resources.as_ref().map(typed_needs).unwrap_or_default();
    Needs { is_sidecar: container.restart_policy.as_deref() == Some("Always"), ..needs }
}

fn typed_needs(resources: &ResourceRequirements) -> Needs {
    Needs {
        requests: typed_resources(resources.requests.as_ref()),
        limits: typed_resources(resources.limits.as_ref()),
        is_sidecar: false,
    }
}

/// Amounts of a typed resource list; what is no quantity counts as zero, for the API server stores none.
pub(crate) fn typed_resources(list: Option<&BTreeMap<String, api::Quantity>>) -> Resources {
    let parse = |text: &api::Quantity| {
        // The API server stores only quantities.
        Quantity::parse(&text.0).unwrap_or_else(|_| Quantity::zero(Format::DecimalSI))
    };
    list.into_iter().flatten().map(|(name, text)| (name.clone(), parse(text))).collect()
}

fn add(total: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        total.entry(name.clone()).and_modify(|sum| sum.add(amount)).or_insert_with(|| amount.clone());
    }
}

fn raise(total: &mut Resources, floor: &Resources) {
    for (name, amount) in floor {
        let sum = total.entry(name.clone()).or_insert_with(|| amount.clone());
        if *sum < *amount {
            *sum = amount.clone();
        }
    }
}

fn sum(all: &[Needs], amounts: fn(&Needs) -> &Resources) -> Resources {
    all.iter().fold(Resources::new(), |mut total, needs| {
        add(&mut total, amounts(needs));
        total
    })
}

/// The cpu and memory of a list that are more than nothing.
fn positive(resources: &Resources) -> Resources {
    let counts = |name: &String, amount: &Quantity| (name == "cpu" || name == "memory") && amount.sign() > 0;
    resources
        .iter()
        .filter(|(name, amount)| counts(name, amount))
        .map(|(n, a)| (n.clone(), a.clone()))
        .collect()
}

fn compute_sum(all: &[&Needs], field: fn(&Needs) -> &Resources) -> Resources {
    all.iter().fold(Resources::new(), |mut total, needs| {
        add(&mut total, &positive(field(needs)));
        total
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(resources: Resources) -> String {
        let texts: Vec<_> =
            resources.iter().map(|(name, amount)| format!("{name}={}", amount.canonical())).collect();
        texts.join(",")
    }

    fn needs(cpu: &str, sidecar: bool) -> Value {
        let mut container = json!({"resources": {"requests": {"cpu": cpu}}});
        if sidecar {
            container["restartPolicy"] = "Always".into();
        }
        container
    }

    #[test]
    fn the_hungriest_moment_counts() {
        let check = |spec: Value, expected: &str| {
            assert_eq!(shown(Shape::of_tree(&spec).requests()), expected, "{spec}")
        };
        check(json!({"containers": [needs("1", false), needs("500m", false)]}), "cpu=1500m");
        check(json!({"initContainers": [needs("2", false)], "containers": [needs("1", false)]}), "cpu=2");
        check(
            json!({"initContainers": [needs("1", true), needs("2", false)], "containers": [needs("1", false)]}),
            "cpu=3",
        );
        check(
            json!({"initContainers": [needs("2", false), needs("1", true)], "containers": [needs("2", false)]}),
            "cpu=3",
        );
        check(
            json!({"containers": [needs("1", false)], "overhead": {"cpu": "250m", "memory": "1Mi"}}),
            "cpu=1250m,memory=1Mi",
        );
        check(json!({"containers": [needs("1", false)], "resources": {"requests": {"cpu": "4"}}}), "cpu=4");
    }

    #[test]
    fn the_quality_of_service_follows() {
        let check = |resources: Value, expected| {
            let spec = json!({"containers": [{"resources": resources}]});
            assert_eq!(Shape::of_tree(&spec).qos_class(), expected, "{spec}");
        };
        let both = json!({"cpu": "1", "memory": "1Mi"});
        check(json!({}), "BestEffort");
        check(json!({"requests": {"example.com/gpu": "1"}}), "BestEffort");
        check(json!({"limits": both, "requests": both}), "Guaranteed");
        check(json!({"limits": both, "requests": {"cpu": "500m", "memory": "1Mi"}}), "Burstable");
        check(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}), "Burstable");
        check(json!({"requests": {"cpu": "1"}}), "Burstable");
    }
}
