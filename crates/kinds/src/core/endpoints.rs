//! Endpoints: the deprecated list of a service's addresses.

use crate::check::{self, Errors, PROTOCOLS};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::tree::{count, default, each, equal, list, text};
use crate::{name, table, warnings};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const MAX_SHOWN: usize = 3;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";

pub(crate) struct Endpoints(Descriptor);

pub(crate) fn kind() -> Endpoints {
    let mut descriptor = describe("", "v1", "Endpoints", "endpoints").short(&["ep"]).defaults(set_defaults);
    descriptor =
        descriptor.deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
    Endpoints(descriptor.done())
}

fn set_defaults(object: &mut Value) {
    each(object, "subsets", |subset| each(subset, "ports", |port| default(port, "protocol", "TCP")));
}

impl Kind for Endpoints {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for (index, subset) in list(object, "subsets").iter().enumerate() {
            check_subset(subset, &Path::new("subsets").index(index), &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        // What an earlier release let pass stays.
        if equal(&new["subsets"], &old["subsets"]) { Vec::new() } else { self.validate(new) }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut found = Vec::new();
        // What the controller writes was looked at where it came from.
        if text(&new["metadata"]["labels"], MANAGED_BY) != CONTROLLER {
            bad_addresses(new, &mut found);
        }
        found
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::string("Endpoints", "The addresses with their ports."), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        vec![table::name_cell(object), shown(object).into(), table::age_cell(object, now_s)]
    }
}

fn check_subset(subset: &Value, path: &Path, errors: &mut Errors) {
    let lists = ["addresses", "notReadyAddresses"];
    if lists.iter().all(|key| list(subset, key).is_empty()) {
        errors.push(FieldError::required(path, "must specify `addresses` or `notReadyAddresses`"));
    }
    for key in lists {
        for (index, address) in list(subset, key).iter().enumerate() {
            let path = path.child(key).index(index);
            check::ip(text(address, "ip"), &path.child("ip"), errors);
            check::name_if_set(address, "hostname", names::dns1123_label, &path, errors);
            check::name_if_present(address, "nodeName", names::dns1123_subdomain, &path, errors);
            check::non_special_ip(text(address, "ip"), &path.child("ip"), errors);
        }
    }
    let ports = list(subset, "ports");
    for (index, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(index);
        if ports.len() > 1 {
            check::required_text(port, "name", &path, errors);
        }
        check::name_if_set(port, "name", names::dns1123_label, &path, errors);
        check::port_number(count(port, "port"), &path.child("port"), errors);
        check::one_of(port, "protocol", PROTOCOLS, &path, errors);
        check::name_if_present(port, "appProtocol", names::qualified_name, &path, errors);
    }
}

fn shown(object: &Value) -> String {
    let subsets = list(object, "subsets");
    if subsets.is_empty() {
        return table::NONE.to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = || list(subset, "addresses").iter().map(|address| text(address, "ip"));
        for port in list(subset, "ports") {
            all.extend(addresses().map(|ip| join(ip, count(port, "port"))));
        }
        if list(subset, "ports").is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
    }
    let more = all.len().saturating_sub(MAX_SHOWN);
    all.truncate(MAX_SHOWN);
    let first = all.join(",");
    if more > 0 { format!("{first} + {more} more...") } else { first }
}

fn join(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// Warns of addresses in odd forms.
fn bad_addresses(object: &Value, found: &mut Vec<String>) {
    for (index, subset) in list(object, "subsets").iter().enumerate() {
        let path = Path::new("subsets").index(index);
        for key in ["addresses", "notReadyAddresses"] {
            for (index, address) in list(subset, key).iter().enumerate() {
                warnings::ip(text(address, "ip"), &path.child(key).index(index).child("ip"), found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};
    use serde_json::json;

    #[test]
    fn protocols_are_filled_and_subsets_checked() {
        let good = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]});
        assert_eq!(created(&kind(), good.clone())["subsets"][0]["ports"][0]["protocol"], "TCP");
        creation(&kind(), good.clone(), &[]);
        let bad = json!({"subsets": [{"ports": [{"port": 80}]}, {"addresses": [{"ip": "127.0.0.1"}]}]});
        let expected = [
            "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
            "subsets[1].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ];
        creation(&kind(), bad.clone(), &expected);
        updated(&kind(), &good, bad, &expected);
    }

    #[test]
    fn the_row_shows_three() {
        let addresses = |n: usize| (0..n).map(|i| json!({"ip": format!("10.0.0.{i}")})).collect::<Vec<_>>();
        let object = |n| json!({"subsets": [{"addresses": addresses(n), "ports": [{"port": 80}]}]});
        row(&kind(), object(2), json!(["x", "10.0.0.0:80,10.0.0.1:80", "75s"]));
        row(&kind(), object(5), json!(["x", "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more...", "75s"]));
        row(&kind(), json!({}), json!(["x", "<none>", "75s"]));
    }
}
