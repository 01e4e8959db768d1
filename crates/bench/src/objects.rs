//! The bodies that are written: config maps of 1 KB of data, and pods that no scheduler takes.

use crate::options::Resource;
use serde_json::json;

/// Bytes of data of a config map.
const FILLING: usize = 1 << 10;
/// One object in so many carries the label and the scheduler name that selectors look for.
const SELECTED: usize = 10;
/// The label selector of that share.
pub const LABEL_SELECTOR: &str = "part%3Dselected";
/// The field selector of that share of pods.
pub const POD_SELECTOR: &str = "spec.schedulerName%3Dnauplius-bench-selected";

/// The name of an object.
pub fn name(prefix: &str, index: usize) -> String {
    format!("{prefix}-{index:07}")
}

/// An object as it is created.
pub fn body(resource: Resource, name: &str, index: usize) -> String {
    match resource {
        Resource::Configmaps => config_map(name, index, "0"),
        Resource::Pods => pod(name, index),
    }
}

fn part(index: usize) -> &'static str {
    if index.is_multiple_of(SELECTED) { "selected" } else { "rest" }
}

/// A config map; `mark` stands first in its data.
pub fn config_map(name: &str, index: usize, mark: &str) -> String {
    let filling = "x".repeat(FILLING);
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "nauplius-bench", "part": part(index)}},
        "data": {"mark": mark, "filling": filling},
    })
    .to_string()
}

fn pod(name: &str, index: usize) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "nauplius-bench", "part": part(index)}},
        "spec": {
            "schedulerName": format!("nauplius-bench-{}", part(index)),
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "main",
                "image": "registry.invalid/nauplius-bench:1",
                "command": ["/bin/server", "--listen", ":8080"],
                "env": [{"name": "MODE", "value": "bench"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "ports": [{"containerPort": 8080, "name": "http"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
            }],
        },
    })
    .to_string()
}

/// A pod that is nearly as large as a body may be.
pub fn large_pod(name: &str) -> String {
    const BYTES: usize = 2_900_000;
    let mut pod = pod(name, 1);
    let at = pod.find("--listen").unwrap_or(0);
    pod.insert_str(at, &"x".repeat(BYTES));
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_is_about_a_kilobyte_and_one_in_ten_is_selected() {
        // The server adds uid and time of creation.
        assert!((1_150..1_300).contains(&config_map("writes-0000001", 1, "0").len()));
        let large = large_pod("p");
        assert!((2_900_000..3 << 20).contains(&large.len()));
        assert!(serde_json::from_str::<serde_json::Value>(&large).is_ok());
        let selected = (0..100).filter(|index| body(Resource::Pods, "p", *index).contains("bench-selected"));
        assert_eq!(selected.count(), 10);
    }
}
