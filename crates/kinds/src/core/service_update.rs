//! How a service changes: what was allocated stays without being repeated, goes with the type that needed it, and otherwise
//! does not change.

use super::service::{
    is_externally_accessible, is_headless, needs_cluster_ip, needs_health_check, needs_node_port,
};
use crate::check::Errors;
use crate::kind::carry;
use crate::tree::{count, each, is_unset, list, remove, same, set, text, texts};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

/// A client need not repeat what was allocated for it.
pub(super) fn keep_allocated(spec: &mut Value, old: &Value) {
    if needs_cluster_ip(spec) && needs_cluster_ip(old) {
        if is_unset(spec, "clusterIP") {
            carry(spec, old, "clusterIP");
        }
        if is_unset(spec, "clusterIPs") && text(spec, "clusterIP") == text(old, "clusterIP") {
            carry(spec, old, "clusterIPs");
        }
    }
    if needs_node_port(spec) && needs_node_port(old) {
        let taken: Vec<_> = list(spec, "ports").iter().map(|port| count(port, "nodePort")).collect();
        each(spec, "ports", |port| {
            let key = |port: &Value| (text(port, "protocol").to_owned(), count(port, "port"));
            let before = list(old, "ports").iter().find(|other| key(other) == key(port));
            let node_port = before.map_or(0, |before| count(before, "nodePort"));
            if count(port, "nodePort") == 0 && node_port != 0 && !taken.contains(&node_port) {
                set(port, "nodePort", node_port);
            }
        });
    }
    if needs_health_check(spec) && needs_health_check(old) && count(spec, "healthCheckNodePort") == 0 {
        carry(spec, old, "healthCheckNodePort");
    }
}

/// Whoever changes one of `clusterIP` and `clusterIPs` means both.
pub(super) fn normalize_addresses(spec: &mut Value, old: &Value) {
    let list_is_same = same(spec, old, "clusterIPs");
    let first_is_same = text(spec, "clusterIP") == text(old, "clusterIP");
    if !first_is_same && (list_is_same || is_unset(spec, "clusterIPs")) {
        let addresses = if is_unset(spec, "clusterIP") { Value::Null } else { json!([spec["clusterIP"]]) };
        set(spec, "clusterIPs", addresses);
    } else if first_is_same && !list_is_same {
        let first = texts(spec, "clusterIPs").first().copied().unwrap_or_default().to_owned();
        set(spec, "clusterIP", first);
    }
    for key in ["clusterIP", "clusterIPs"] {
        if is_unset(spec, key) {
            remove(spec, key);
        }
    }
}

/// What only the old type needed goes, unless the client has set something new there.
pub(super) fn drop_type_dependent(spec: &mut Value, old: &Value) {
    let drop_same = |spec: &mut Value, keys: &[&str]| {
        for key in keys {
            if same(spec, old, key) {
                remove(spec, key);
            }
        }
    };
    if needs_cluster_ip(old) && !needs_cluster_ip(spec) {
        drop_same(spec, &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
    }
    if needs_node_port(old) && !needs_node_port(spec) && node_ports(spec) == node_ports(old) {
        each(spec, "ports", |port| drop(remove(port, "nodePort")));
    }
    if needs_health_check(old) && !needs_health_check(spec) {
        drop_same(spec, &["healthCheckNodePort"]);
    }
    if text(old, "type") == "LoadBalancer" && text(spec, "type") != "LoadBalancer" {
        drop_same(spec, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if is_externally_accessible(old) && !is_externally_accessible(spec) {
        drop_same(spec, &["externalTrafficPolicy"]);
    }
}

fn node_ports(spec: &Value) -> Vec<i64> {
    let mut ports: Vec<_> = list(spec, "ports").iter().map(|port| count(port, "nodePort")).collect();
    ports.sort_unstable();
    ports
}

/// What may not change.
pub(super) fn validate(spec: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let named = text(spec, "type") == "ExternalName" || text(old, "type") == "ExternalName";
    let both_headless = is_headless(spec) && is_headless(old);
    if !named && !both_headless {
        kept(spec, old, "clusterIPs", "primary clusterIP can not be unset", "clusterIP", &path, &mut errors);
    }
    if !named && !is_headless(spec) && !is_headless(old) {
        kept(spec, old, "ipFamilies", "primary ipFamily can not be unset", "ipFamily", &path, &mut errors);
    }
    let balanced = |spec: &Value| text(spec, "type") == "LoadBalancer";
    if balanced(spec) && balanced(old) && !same(spec, old, "loadBalancerClass") {
        let value = spec.get("loadBalancerClass").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path.child("loadBalancerClass"), value, "may not change once set"));
    }
    if needs_health_check(spec) && needs_health_check(old) && !same(spec, old, "healthCheckNodePort") {
        errors.push(FieldError::forbidden(&path.child("healthCheckNodePort"), "field is immutable"));
    }
    errors
}

/// The first item of a list stays; a second one comes and goes with the policy.
fn kept(spec: &Value, old: &Value, key: &str, unset: &str, item: &str, path: &Path, errors: &mut Errors) {
    let (new_items, old_items) = (texts(spec, key), texts(old, key));
    let field = path.child(key);
    let value = || spec.get(key).cloned().unwrap_or_else(|| json!([]));
    if new_items.len() == old_items.len() {
        for (index, _) in new_items.iter().zip(&old_items).enumerate().filter(|(_, (new, old))| new != old) {
            // Upstream blames the first family for each.
            let index = if key == "ipFamilies" { 0 } else { index };
            errors.push(FieldError::invalid(&field.index(index), value(), "may not change once set"));
        }
        return;
    }
    match (new_items.first(), old_items.first()) {
        (None, Some(_)) => errors.push(FieldError::invalid(&field.index(0), value(), unset)),
        (Some(new), Some(old)) if new != old => {
            errors.push(FieldError::invalid(&field.index(0), value(), "may not change once set"));
        }
        _ => {}
    }
    if new_items.len() == 1 && old_items.len() > 1 && text(spec, "ipFamilyPolicy") != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {item}");
        let policy = spec.get("ipFamilyPolicy").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), policy, detail));
    }
}
