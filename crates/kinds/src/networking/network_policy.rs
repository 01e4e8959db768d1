//! NetworkPolicy: which pods may talk to which.

use crate::check::{self, Errors, messages, port_number};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::table::{self, string};
use crate::tree::{child, default, each, get, is_unset, list, number, set, text, texts};
use crate::{label_selector, name, warnings};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names::{self, network, parse_cidr};
use serde_json::Value;

pub(crate) struct NetworkPolicy(Descriptor);

pub(crate) fn kind() -> NetworkPolicy {
    let descriptor = describe("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies");
    NetworkPolicy(descriptor.short(&["netpol"]).defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    let spec = child(object, "spec");
    if list(spec, "policyTypes").is_empty() {
        let both = !list(spec, "egress").is_empty();
        set(spec, "policyTypes", if both { vec!["Ingress", "Egress"] } else { vec!["Ingress"] });
    }
    for rules in ["ingress", "egress"] {
        each(spec, rules, |rule| each(rule, "ports", |port| default(port, "protocol", "TCP")));
    }
}

impl Kind for NetworkPolicy {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        check_spec(&object["spec"], &[])
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        check_spec(&new["spec"], &networks(&old["spec"]))
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut found = Vec::new();
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            let path = Path::new("spec").child(direction);
            for (index, rule) in list(&new["spec"], direction).iter().enumerate() {
                let path = path.index(index).child(peers);
                for (index, peer) in list(rule, peers).iter().enumerate() {
                    bad_networks(&peer["ipBlock"], &path.index(index).child("ipBlock"), &mut found);
                }
            }
        }
        found
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), string("Pod-Selector", "The pods that it is about."), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let pods = label_selector::cell(&object["spec"]["podSelector"]);
        vec![table::name_cell(object), pods, table::age_cell(object, now_s)]
    }
}

const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// Checks a spec; networks among `known` may have odd forms.
fn check_spec(spec: &Value, known: &[&str]) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    label_selector::validate(&spec["podSelector"], &path.child("podSelector"), &mut errors);
    for (rules, peers) in DIRECTIONS {
        for (index, rule) in list(spec, rules).iter().enumerate() {
            check_rule(rule, peers, known, &path.child(rules).index(index), &mut errors);
        }
    }
    policy_types(spec, &path.child("policyTypes"), &mut errors);
    errors
}

/// All networks that a spec names.
fn networks(spec: &Value) -> Vec<&str> {
    let rules = DIRECTIONS
        .iter()
        .flat_map(|(rules, peers)| list(spec, rules).iter().flat_map(move |rule| list(rule, peers)));
    let blocks = rules.map(|peer| &peer["ipBlock"]);
    blocks.flat_map(|block| texts(block, "except").into_iter().chain([text(block, "cidr")])).collect()
}

fn policy_types(spec: &Value, path: &Path, errors: &mut Errors) {
    const TYPES: &[&str] = &["Ingress", "Egress"];
    let types = texts(spec, "policyTypes");
    if types.len() > TYPES.len() {
        let detail = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(path, spec["policyTypes"].clone(), detail));
        return;
    }
    for (index, type_) in types.into_iter().enumerate().filter(|(_, type_)| !TYPES.contains(type_)) {
        errors.push(FieldError::not_supported(&path.index(index), type_, TYPES));
    }
}

fn check_rule(rule: &Value, peers: &str, known: &[&str], path: &Path, errors: &mut Errors) {
    for (index, port) in list(rule, "ports").iter().enumerate() {
        check_port(port, &path.child("ports").index(index), errors);
    }
    for (index, peer) in list(rule, peers).iter().enumerate() {
        check_peer(peer, known, &path.child(peers).index(index), errors);
    }
}

fn check_port(port: &Value, path: &Path, errors: &mut Errors) {
    check::one_of_if_set(port, "protocol", &["TCP", "UDP", "SCTP"], path, errors);
    let end = number(port, "endPort");
    let end_path = path.child("endPort");
    let mut refuse_end = |detail: &str| {
        if let Some(end) = end {
            errors.push(FieldError::invalid(&end_path, end, detail));
        }
    };
    match get(port, "port") {
        None => refuse_end("may not be specified when `port` is not specified"),
        Some(Value::String(port_name)) => {
            refuse_end("may not be specified when `port` is non-numeric");
            messages(names::port_name(port_name), port_name, &path.child("port"), errors);
        }
        Some(first) => {
            let first = first.as_i64().unwrap_or(0);
            port_number(first, &path.child("port"), errors);
            let Some(end) = end else { return };
            if end < first {
                let detail = "must be greater than or equal to `port`";
                // Upstream shows the first port as the wrong value.
                errors.push(FieldError::invalid(&end_path, first, detail));
            }
            port_number(end, &end_path, errors);
        }
    }
}

fn check_peer(peer: &Value, known: &[&str], path: &Path, errors: &mut Errors) {
    let mut peers = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = get(peer, key) {
            peers += 1;
            label_selector::validate(selector, &path.child(key), errors);
        }
    }
    let block = get(peer, "ipBlock");
    if let Some(block) = block {
        peers += 1;
        check_block(block, known, &path.child("ipBlock"), errors);
    }
    if peers == 0 {
        errors.push(FieldError::required(path, "must specify a peer"));
    } else if peers > 1 && block.is_some() {
        errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
    }
}

fn check_block(block: &Value, known: &[&str], path: &Path, errors: &mut Errors) {
    let field = path.child("cidr");
    if is_unset(block, "cidr") {
        errors.push(FieldError::required(&field, ""));
        return;
    }
    check::cidr_or_known(text(block, "cidr"), known, &field, errors);
    let Some((address, length)) = parse_cidr(text(block, "cidr")) else { return };
    for (index, except) in texts(block, "except").into_iter().enumerate() {
        let path = path.child("except").index(index);
        check::cidr_or_known(except, known, &path, errors);
        let Some((inner, inner_length)) = parse_cidr(except) else { continue };
        let is_inside = inner.is_ipv4() == address.is_ipv4()
            && inner_length > length
            && network(inner, length) == network(address, length);
        if !is_inside {
            errors.push(FieldError::invalid(&path, except, "must be a strict subset of `cidr`"));
        }
    }
}

/// Warns of networks in odd forms.
fn bad_networks(block: &Value, path: &Path, found: &mut Vec<String>) {
    warnings::cidr(text(block, "cidr"), &path.child("cidr"), found);
    for (path, except) in check::each_text(block, "except", path) {
        warnings::cidr(except, &path, found);
    }
}
