//! The dependency rules of the house, read from cargo's own metadata.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crates of the fifth floor: they never know each other.
const FLOOR_5: &[&str] =
    &["apiserver", "controllers", "scheduler", "kubelet", "net", "kubectl", "dashboard", "bench"];
/// Crates without an async runtime or system calls.
const PURE: &[&str] = &["meta", "kinds"];
const IMPURE: &[&str] = &["tokio", "hyper", "rustix", "libc", "mio"];
/// The floor of each crate; a crate depends only on lower ones.
const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("meta", 1),
    ("store", 1),
    ("cri", 1),
    ("link", 1),
    ("streaming", 1),
    ("pki", 1),
    ("descriptions", 1),
    ("images", 1),
    ("runtime", 2),
    ("kinds", 2),
    ("client", 3),
    ("reconcile", 4),
    ("apiserver", 5),
    ("controllers", 5),
    ("scheduler", 5),
    ("kubelet", 5),
    ("net", 5),
    ("bench", 5),
    ("nauplius", 6),
    ("testkit", 6),
    ("xtask", 6),
    ("fuzz", 6),
];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Normal and build dependencies of our crates, by short name.
fn graph() -> Graph {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let short = |name: &Value| name.as_str().unwrap().trim_start_matches("nauplius-").to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let normal = dependencies.filter(|dependency| dependency["kind"] != "dev");
            (short(&package["name"]), normal.map(|dependency| short(&dependency["name"])).collect())
        })
        .collect()
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

#[test]
fn every_crate_has_a_floor_and_depends_only_on_lower_ones() {
    let graph = graph();
    for (name, dependencies) in &graph {
        let own = floor(name).unwrap_or_else(|| panic!("{name} has no floor in this test"));
        for dependency in dependencies.iter().filter(|dependency| graph.contains_key(*dependency)) {
            let below = floor(dependency).unwrap();
            // The embedded runtime stands on its neighbours of the first floor and base; nothing on its own floor.
            assert!(below < own, "{name} (floor {own}) depends on {dependency} (floor {below})");
        }
    }
}

#[test]
fn only_the_api_server_the_wiring_and_the_test_tools_know_the_store() {
    for (name, dependencies) in graph() {
        let allowed = ["apiserver", "nauplius", "testkit"].contains(&name.as_str());
        assert!(allowed || !dependencies.contains("store"), "{name} depends on the store");
    }
}

#[test]
fn neighbours_on_the_fifth_floor_never_know_each_other() {
    let graph = graph();
    for name in FLOOR_5.iter().filter(|name| graph.contains_key(**name)) {
        let known: Vec<_> = FLOOR_5.iter().filter(|other| graph[*name].contains(**other)).collect();
        assert!(known.is_empty(), "{name} depends on {known:?}");
    }
}

#[test]
fn the_kubelet_knows_cri_and_no_runtime() {
    let graph = graph();
    assert!(graph["kubelet"].contains("cri"));
    assert!(!graph["kubelet"].contains("runtime"));
}

#[test]
fn pure_crates_have_no_async_runtime_and_no_system_calls() {
    let graph = graph();
    for name in PURE {
        let impure: Vec<_> = IMPURE.iter().filter(|other| graph[*name].contains(**other)).collect();
        assert!(impure.is_empty(), "{name} depends on {impure:?}");
    }
}
