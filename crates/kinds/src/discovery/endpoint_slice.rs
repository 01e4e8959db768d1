//! EndpointSlice: some of a service's endpoints, with their ports.

use crate::check::{self, Errors, PROTOCOLS, messages};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::tree::{default, each, entries, get, list, number, set, text, texts};
use crate::{name, table, warnings};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;
use std::collections::HashSet;

const TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_HINTS: usize = 8;
const MAX_TOPOLOGY: usize = 16;
const MAX_SHOWN: usize = 3;

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// What these write was looked at where it came from.
const CONTROLLERS: &[&str] = &["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];

pub(crate) struct EndpointSlice(Descriptor);

pub(crate) fn kind() -> EndpointSlice {
    let descriptor = describe("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
    EndpointSlice(descriptor.defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    each(object, "ports", |port| {
        if get(port, "name").is_none() {
            set(port, "name", "");
        }
        default(port, "protocol", "TCP");
    });
}

impl Kind for EndpointSlice {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check_slice(object, &mut errors);
        endpoints(object, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check_slice(new, &mut errors);
        // What was taken once may have been taken under laxer rules.
        if new["endpoints"] != old["endpoints"] {
            endpoints(new, &mut errors);
        }
        check::immutable(new, old, "addressType", &Path::root(), &mut errors);
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut found = Vec::new();
        if text(new, "addressType") == "FQDN" {
            found.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        } else if !CONTROLLERS.contains(&text(&new["metadata"]["labels"], MANAGED_BY)) {
            bad_addresses(new, &mut found);
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
        vec![
            table::name(),
            table::string("AddressType", "The sort of its addresses."),
            table::string("Ports", "The ports of each endpoint."),
            table::string("Endpoints", "The addresses of its endpoints."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let port = |port: &Value| match (number(port, "port"), text(port, "name")) {
            (Some(number), _) => number.to_string(),
            (None, "") => "*".to_owned(),
            (None, name) => name.to_owned(),
        };
        let ports = list(object, "ports").iter().map(port).collect();
        let addresses = list(object, "endpoints").iter().flat_map(|endpoint| texts(endpoint, "addresses"));
        vec![
            table::name_cell(object),
            text(object, "addressType").into(),
            shown(ports).into(),
            shown(addresses.map(str::to_owned).collect()).into(),
            table::age_cell(object, now_s),
        ]
    }
}

fn shown(mut items: Vec<String>) -> String {
    let more = items.len().saturating_sub(MAX_SHOWN);
    items.truncate(MAX_SHOWN);
    let first = items.join(",");
    match (first.is_empty(), more) {
        (true, _) => "<unset>".to_owned(),
        (false, 0) => first,
        (false, more) => format!("{first} + {more} more..."),
    }
}

fn check_slice(object: &Value, errors: &mut Errors) {
    check::one_of(object, "addressType", TYPES, &Path::root(), errors);
    ports(object, errors);
}

fn endpoints(object: &Value, errors: &mut Errors) {
    let path = Path::new("endpoints");
    let endpoints = list(object, "endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(&path, endpoints.len(), MAX_ENDPOINTS));
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(index);
        addresses(endpoint, text(object, "addressType"), &path, errors);
        check::name_if_present(endpoint, "nodeName", names::dns1123_subdomain, &path, errors);
        topology(endpoint, &path, errors);
        check::name_if_present(endpoint, "hostname", names::dns1123_label, &path, errors);
        let path = path.child("hints");
        hints(endpoint, "forZones", names::label_value, &path, errors);
        hints(endpoint, "forNodes", names::dns1123_subdomain, &path, errors);
    }
}

fn addresses(endpoint: &Value, type_: &str, path: &Path, errors: &mut Errors) {
    let addresses = check::each_text(endpoint, "addresses", path);
    let path = path.child("addresses");
    if addresses.is_empty() {
        errors.push(FieldError::required(&path, "must contain at least 1 address"));
    } else if addresses.len() > MAX_ADDRESSES {
        errors.push(FieldError::too_many(&path, addresses.len(), MAX_ADDRESSES));
    }
    for (path, address) in addresses {
        let family = names::parse_ip(address).map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" });
        match type_ {
            "FQDN" => errors.extend(names::fully_qualified_domain_name(&path, address)),
            "IPv4" | "IPv6" => {
                if family != Some(type_) {
                    errors.push(FieldError::invalid(
                        &path,
                        address,
                        format!("must be a valid {type_} address"),
                    ));
                }
                check::non_special_ip(address, &path, errors);
            }
            _ => {}
        }
    }
}

fn topology(endpoint: &Value, path: &Path, errors: &mut Errors) {
    const KEY: &str = "deprecatedTopology";
    let labels = entries(endpoint, KEY).count();
    if labels > MAX_TOPOLOGY {
        errors.push(FieldError::too_many(&path.child(KEY), labels, MAX_TOPOLOGY));
    }
    check::labels(endpoint, KEY, path, errors);
}

/// Zones or nodes that an endpoint is for.
fn hints(endpoint: &Value, key: &str, rule: fn(&str) -> Vec<String>, path: &Path, errors: &mut Errors) {
    let hints = list(&endpoint["hints"], key);
    let path = path.child(key);
    if hints.len() > MAX_HINTS {
        errors.push(FieldError::too_many(&path, hints.len(), MAX_HINTS));
        return;
    }
    let mut seen = HashSet::new();
    for (index, hint) in hints.iter().enumerate() {
        let (name, path) = (text(hint, "name"), path.index(index).child("name"));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        messages(rule(name), name, &path, errors);
    }
}

fn ports(object: &Value, errors: &mut Errors) {
    let path = Path::new("ports");
    let ports = list(object, "ports");
    if ports.len() > MAX_PORTS {
        errors.push(FieldError::too_many(&path, ports.len(), MAX_PORTS));
        return;
    }
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        check::name_if_set(port, "name", names::dns1123_label, &path, errors);
        if !seen.insert(text(port, "name")) {
            errors.push(FieldError::duplicate(&path.child("name"), text(port, "name")));
        }
        check::one_of(port, "protocol", PROTOCOLS, &path, errors);
        check::name_if_present(port, "appProtocol", names::qualified_name, &path, errors);
    }
}

/// Warns of addresses in odd forms.
fn bad_addresses(object: &Value, found: &mut Vec<String>) {
    for (index, endpoint) in list(object, "endpoints").iter().enumerate() {
        let path = Path::new("endpoints").index(index);
        for (path, address) in check::each_text(endpoint, "addresses", &path) {
            warnings::ip(address, &path, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};
    use serde_json::json;

    #[test]
    fn ports_are_filled_and_addresses_checked() {
        let good = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
        assert_eq!(
            created(&kind(), good.clone())["ports"],
            json!([{"name": "", "port": 80, "protocol": "TCP"}])
        );
        creation(&kind(), good.clone(), &[]);
        creation(
            &kind(),
            json!({"addressType": "IPv4", "endpoints": [{}, {"addresses": ["::2"]}]}),
            &[
                "endpoints[0].addresses: Required value: must contain at least 1 address",
                "endpoints[1].addresses[0]: Invalid value: \"::2\": must be a valid IPv4 address",
            ],
        );
        creation(
            &kind(),
            json!({"addressType": "IPX"}),
            &["addressType: Unsupported value: \"IPX\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""],
        );
        updated(
            &kind(),
            &good,
            json!({"addressType": "IPv6"}),
            &["addressType: Invalid value: \"IPv6\": field is immutable"],
        );
    }

    #[test]
    fn the_row_shows_three() {
        let addresses: Vec<_> = (1..6).map(|i| format!("10.0.0.{i}")).collect();
        let object = json!({"addressType": "IPv4", "endpoints": [{"addresses": addresses}], "ports": [{"port": 80}, {}]});
        row(&kind(), object, json!(["x", "IPv4", "80,*", "10.0.0.1,10.0.0.2,10.0.0.3 + 2 more...", "75s"]));
        row(&kind(), json!({}), json!(["x", "", "<unset>", "<unset>", "75s"]));
    }
}
