//! Who in a pod says something: the pod itself, or containers by name, and how messages list them.

use serde_json::Value;
use std::collections::BTreeSet;

/// Every container of a pod, those that run first and those that were added later included.
pub(super) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().filter_map(|list| spec[list].as_array()).flatten()
}

/// The names of the containers of which something is so.
pub(super) fn named(spec: &Value, is_so: impl Fn(&Value) -> bool) -> Vec<&str> {
    let found = containers(spec).filter(|container| is_so(container));
    found.map(|container| container["name"].as_str().unwrap_or_default()).collect()
}

/// The one word for one, the other for more.
pub(super) fn plural<'a>(one: &'a str, more: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { more }
}

/// `"a", "b"`
pub(super) fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    items.into_iter().map(|item| format!("{:?}", item.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`
pub(super) fn listed(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Who sets a field of the security context to what is bad, and the bad values.
pub(super) struct Setters {
    pub(super) who: Vec<String>,
    pub(super) values: BTreeSet<String>,
}

impl Setters {
    /// Looks at the pod and at each container; `bad` gives the bad values of a security context, if there are any.
    pub(super) fn find(spec: &Value, bad: impl Fn(&Value) -> Vec<String>) -> Self {
        let of_pod = bad(&spec["securityContext"]);
        let names = named(spec, |container| !bad(&container["securityContext"]).is_empty());
        let mut who: Vec<String> = (!of_pod.is_empty()).then(|| "pod".to_owned()).into_iter().collect();
        who.extend((!names.is_empty()).then(|| listed(&names)));
        let of_containers = containers(spec).flat_map(|container| bad(&container["securityContext"]));
        let values = of_pod.into_iter().chain(of_containers).collect();
        Self { who, values }
    }

    /// Those who set it, as the subject of a sentence; none if nobody does.
    pub(super) fn subject(&self) -> Option<String> {
        (!self.who.is_empty()).then(|| self.who.join(" and "))
    }
}
