//! Service: a name and addresses for pods. It says which addresses and ports are wanted; the API server's allocators give
//! them, between [`Kind::prepare_create`] or [`Kind::prepare_update`] and the checks.

use super::{service_cells, service_rules, service_update, service_warnings};
use crate::describe::{CONNECT, describe};
use crate::kind::{Column, Context, Descriptor, Kind, carry};
use crate::tree::{child, count, default, each, get, is_unset, list, remove, set, text, texts};
use crate::{check, name};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

pub(crate) struct Service(Descriptor);

pub(crate) fn kind() -> Service {
    let descriptor = describe("", "v1", "Service", "services").short(&["svc"]).in_all();
    let descriptor = descriptor.subresource("proxy", Some(("", "v1", "ServiceProxyOptions")), CONNECT);
    Service(descriptor.defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    let spec = child(object, "spec");
    default(spec, "sessionAffinity", "None");
    default(spec, "type", "ClusterIP");
    match text(spec, "sessionAffinity") {
        "None" => drop(remove(spec, "sessionAffinityConfig")),
        "ClientIP"
            if crate::tree::at(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).is_null() =>
        {
            set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
        }
        _ => {}
    }
    each(spec, "ports", |port| {
        default(port, "protocol", "TCP");
        if get(port, "targetPort").is_none_or(|target| *target == json!(0) || *target == json!("")) {
            let number = count(port, "port");
            set(port, "targetPort", number);
        }
    });
    if is_externally_accessible(spec) {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if text(spec, "type") != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if text(spec, "type") == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(status) = object.get_mut("status").and_then(|status| status.get_mut("loadBalancer")) {
            each(status, "ingress", |ingress| {
                if !text(ingress, "ip").is_empty() {
                    default(ingress, "ipMode", "VIP");
                }
            });
        }
    }
}

/// Whether something outside of the cluster can reach it.
pub(super) fn is_externally_accessible(spec: &Value) -> bool {
    match text(spec, "type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !is_unset(spec, "externalIPs"),
        _ => false,
    }
}

/// Whether it has no address of its own.
pub(super) fn is_headless(spec: &Value) -> bool {
    texts(spec, "clusterIPs") == ["None"]
}

/// Whether the API server gives it addresses.
pub(super) fn needs_cluster_ip(spec: &Value) -> bool {
    ["ClusterIP", "NodePort", "LoadBalancer"].contains(&text(spec, "type"))
}

/// Whether the API server gives it ports of the nodes.
pub(super) fn needs_node_port(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => get(spec, "allocateLoadBalancerNodePorts") != Some(&json!(false)),
        _ => false,
    }
}

/// Whether nodes tell load balancers whether they have endpoints.
pub(super) fn needs_health_check(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

/// Families and policy, where the user did not choose. A selectorless headless service may point anywhere.
fn default_families(spec: &mut Value) {
    if !needs_cluster_ip(spec) {
        return;
    }
    let anywhere = is_headless(spec) && crate::tree::size(spec, "selector") == 0;
    let given = texts(spec, "clusterIPs").into_iter().filter_map(nauplius_meta::names::parse_ip);
    let mut families: Vec<_> = given.map(|ip| if ip.is_ipv6() { "IPv6" } else { "IPv4" }).collect();
    if families.is_empty() {
        families = if anywhere { vec!["IPv4", "IPv6"] } else { vec!["IPv4"] };
    }
    if is_unset(spec, "ipFamilyPolicy") {
        set(spec, "ipFamilyPolicy", if anywhere { "RequireDualStack" } else { "SingleStack" });
    }
    if is_unset(spec, "ipFamilies") {
        set(spec, "ipFamilies", families);
    }
}

impl Kind for Service {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn initial_status(&self, _object: &Value) -> Value {
        json!({"loadBalancer": {}})
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        let spec = child(object, "spec");
        if !is_unset(spec, "clusterIP") && is_unset(spec, "clusterIPs") {
            let addresses = json!([spec["clusterIP"]]);
            set(spec, "clusterIPs", addresses);
        }
        default_families(spec);
        set(object, "status", self.initial_status(&Value::Null));
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "status");
        carry(&mut new["metadata"], &old["metadata"], "generation");
        let spec = child(new, "spec");
        service_update::keep_allocated(spec, &old["spec"]);
        service_update::normalize_addresses(spec, &old["spec"]);
        service_update::drop_type_dependent(spec, &old["spec"]);
        default_families(spec);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        service_rules::validate(object, &Value::Null)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = service_update::validate(&new["spec"], &old["spec"]);
        errors.extend(service_rules::validate(new, old));
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = check::Errors::new();
        let path = Path::new("status").child("loadBalancer").child("ingress");
        let ingress = list(&new["status"]["loadBalancer"], "ingress");
        let known = list(&old["status"]["loadBalancer"], "ingress").iter().map(|point| text(point, "ip"));
        let known: Vec<_> = known.filter(|ip| !ip.is_empty()).collect();
        if text(&new["spec"], "type") != "LoadBalancer" && !ingress.is_empty() {
            errors.push(FieldError::forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'"));
            return errors;
        }
        for (index, point) in ingress.iter().enumerate() {
            service_rules::ingress_point(point, &known, &path.index(index), &mut errors);
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        // Since v1.37 a name may begin with a digit.
        name::label(name, prefix)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        service_warnings::of_service(new)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn selectable_field(&self, object: &Value, name: &str) -> String {
        text(&object["spec"], name.trim_start_matches("spec.")).to_owned()
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        service_cells::columns()
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        service_cells::cells(object, now_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, created, creation, refused, row, updated};

    fn service(spec: Value) -> Value {
        let mut service = json!({"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            service["spec"][key] = value.clone();
        }
        service
    }

    #[test]
    fn a_small_service_is_filled() {
        let expected = json!({
            "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "type": "ClusterIP",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        });
        let stored = created(&kind(), service(json!({"clusterIP": "10.96.0.9"})));
        assert_eq!(stored["spec"], expected);
        assert_eq!(stored["status"], json!({"loadBalancer": {}}));
        assert_eq!(kind().validate(&stored), []);
    }

    #[test]
    fn a_selectorless_headless_service_points_anywhere() {
        let stored = created(&kind(), service(json!({"clusterIP": "None"})));
        assert_eq!(stored["spec"]["ipFamilyPolicy"], "RequireDualStack");
        let stored = created(&kind(), service(json!({"clusterIP": "None", "selector": {"a": "b"}})));
        assert_eq!(stored["spec"]["ipFamilies"], json!(["IPv4"]));
    }

    #[test]
    fn node_ports_and_affinity_are_filled() {
        let stored = created(&kind(), service(json!({"type": "NodePort", "sessionAffinity": "ClientIP"})));
        assert_eq!(stored["spec"]["externalTrafficPolicy"], "Cluster");
        assert_eq!(stored["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
    }

    #[test]
    fn wrong_services_are_refused() {
        creation(&kind(), json!({"spec": {}}), &["spec.ports: Required value"]);
        creation(
            &kind(),
            service(json!({"type": "Magic"})),
            &[
                "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        );
        creation(
            &kind(),
            service(json!({"ports": [{"port": 80}, {"port": 81}]})),
            &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
        );
        creation(
            &kind(),
            service(json!({"ports": [{"port": 0, "targetPort": 1}]})),
            &["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
        );
        creation(
            &kind(),
            service(json!({"ports": [{"port": 80, "nodePort": 30000}]})),
            &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        );
        creation(
            &kind(),
            service(json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]})),
            &["spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}"],
        );
        creation(&kind(), service(json!({"type": "ExternalName"})), &["spec.externalName: Required value"]);
        creation(
            &kind(),
            service(json!({"type": "NodePort", "clusterIP": "None"})),
            &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        );
        refused(
            &kind(),
            service(json!({"clusterIP": "x"})),
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
        refused(
            &kind(),
            service(json!({"externalIPs": ["127.0.0.1"]})),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
        refused(
            &kind(),
            service(json!({"externalTrafficPolicy": "Local"})),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        );
        assert_eq!(kind().validate_name("1A", false).len(), 1);
        assert_eq!(kind().validate_name("1a", false), Vec::<String>::new());
    }

    #[test]
    fn addresses_stay() {
        let old = service(json!({"clusterIP": "10.96.0.9"}));
        updated(
            &kind(),
            &old,
            service(json!({"clusterIP": "10.96.0.10"})),
            &["spec.clusterIPs[0]: Invalid value: [\"10.96.0.10\"]: may not change once set"],
        );
        updated(&kind(), &old, service(json!({})), &[]);
        let mut new = service(json!({"type": "ClusterIP"}));
        kind().prepare_update(&context(None), &mut new, &created(&kind(), old));
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.0.9"]));
    }

    #[test]
    fn a_change_of_type_drops_what_it_no_longer_needs() {
        let old = service(
            json!({"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]}),
        );
        let old = created(&kind(), old);
        let mut new = old.clone();
        new["spec"]["type"] = "ClusterIP".into();
        kind().prepare_update(&context(None), &mut new, &old);
        assert_eq!(new["spec"]["ports"], json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
        assert!(get(&new["spec"], "externalTrafficPolicy").is_none());
        assert_eq!(kind().validate_update(&new, &old), []);
        let mut same = old.clone();
        remove(&mut same["spec"]["ports"][0], "nodePort");
        kind().prepare_update(&context(None), &mut same, &old);
        assert_eq!(same["spec"]["ports"][0]["nodePort"], 30080);
    }

    #[test]
    fn rows_show_where_it_can_be_reached() {
        let check = |spec: Value, cells: [&str; 4]| {
            let cells = json!(["x", cells[0], cells[1], cells[2], cells[3], "75s", "<none>"]);
            row(&kind(), json!({"spec": spec}), cells);
        };
        let port = json!([{"port": 80, "protocol": "TCP", "nodePort": 30080}]);
        check(
            json!({"type": "ClusterIP", "clusterIPs": ["10.0.0.1"]}),
            ["ClusterIP", "10.0.0.1", "<none>", "<none>"],
        );
        check(
            json!({"type": "NodePort", "clusterIPs": ["10.0.0.1"], "ports": port}),
            ["NodePort", "10.0.0.1", "<none>", "80:30080/TCP"],
        );
        check(
            json!({"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]}),
            ["LoadBalancer", "10.0.0.1", "<pending>", "<none>"],
        );
        check(
            json!({"type": "ExternalName", "externalName": "a.b"}),
            ["ExternalName", "<none>", "a.b", "<none>"],
        );
        check(
            json!({"type": "ClusterIP", "clusterIPs": ["None"], "externalIPs": ["1.1.1.1"]}),
            ["ClusterIP", "None", "1.1.1.1", "<none>"],
        );
    }
}
