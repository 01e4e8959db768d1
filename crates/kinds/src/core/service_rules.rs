//! What makes a service sound, whether it is new or changed.

use super::service::{is_externally_accessible, is_headless, needs_health_check};
use crate::check::{self, Errors, PROTOCOLS, messages};
use crate::tree::{at, count, get, is_unset, list, number, text, texts};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const MAX_AFFINITY_S: i64 = 86_400;
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Errors of a service; addresses that `old` has may have odd forms.
pub(super) fn validate(service: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let (spec, old_spec, path) = (&service["spec"], &old["spec"], Path::new("spec"));
    topology(&service["metadata"]["annotations"], &mut errors);
    let (headless, type_) = (is_headless(spec), text(spec, "type"));
    if list(spec, "ports").is_empty() && !headless && type_ != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    match type_ {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {type_} services");
            errors.push(FieldError::invalid(&path.child("clusterIPs").index(0), "None", detail));
        }
        "ExternalName" => external_name(spec, &path, &mut errors),
        _ => {}
    }
    ports(spec, &path.child("ports"), &mut errors);
    check::labels(spec, "selector", &path, &mut errors);
    affinity(spec, &path, &mut errors);
    if type_ != "ExternalName" {
        addresses(spec, &texts(old_spec, "clusterIPs"), &path, &mut errors);
    }
    let known = texts(old_spec, "externalIPs");
    for (path, ip) in check::each_text(spec, "externalIPs", &path) {
        let before = errors.len();
        check::ip_or_known(ip, &known, &path, &mut errors);
        if errors.len() == before {
            check::non_special_ip(ip, &path, &mut errors);
        }
    }
    check::one_of(spec, "type", TYPES, &path, &mut errors);
    if type_ == "ClusterIP" {
        no_node_ports(spec, &path.child("ports"), &mut errors);
    }
    repeated(list(spec, "ports"), &path.child("ports"), &mut errors);
    balancing(service, old, &path, &mut errors);
    traffic(spec, &path, &mut errors);
    errors
}

/// The old and the new annotation for one thing say the same.
fn topology(annotations: &Value, errors: &mut Errors) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    const MODE: &str = "service.kubernetes.io/topology-mode";
    if let (Some(hints), Some(mode)) = (get(annotations, HINTS), get(annotations, MODE))
        && hints != mode
    {
        let path = Path::new("metadata").child("annotations").key(MODE);
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(FieldError::invalid(&path, mode.clone(), detail));
    }
}

fn external_name(spec: &Value, path: &Path, errors: &mut Errors) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"].into_iter().filter(|key| !is_unset(spec, key)) {
        errors.push(FieldError::forbidden(&path.child(key), "may not be set for ExternalName services"));
    }
    let target = text(spec, "externalName");
    let target = target.strip_suffix('.').unwrap_or(target);
    let path = path.child("externalName");
    if target.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else {
        messages(names::dns1123_subdomain(target), target, &path, errors);
    }
}

fn ports(spec: &Value, path: &Path, errors: &mut Errors) {
    let ports = list(spec, "ports");
    let mut port_names = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if !name.is_empty() {
            messages(names::dns1123_label(name), name, &path.child("name"), errors);
            if port_names.contains(&name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            port_names.push(name);
        }
        check::port_number(count(port, "port"), &path.child("port"), errors);
        check::one_of(port, "protocol", PROTOCOLS, &path, errors);
        check::port(get(port, "targetPort"), &path.child("targetPort"), errors);
        check::name_if_present(port, "appProtocol", names::qualified_name, &path, errors);
    }
}

fn no_node_ports(spec: &Value, path: &Path, errors: &mut Errors) {
    for (index, port) in list(spec, "ports").iter().enumerate() {
        if count(port, "nodePort") != 0 {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(&path.index(index).child("nodePort"), detail));
        }
    }
}

/// A port of a node, and a port of the service, is taken once for each protocol.
fn repeated(ports: &[Value], path: &Path, errors: &mut Errors) {
    let same = |left: &Value, right: &Value, key: &str| {
        count(left, key) == count(right, key) && text(left, "protocol") == text(right, "protocol")
    };
    for (index, port) in ports.iter().enumerate() {
        let node_port = count(port, "nodePort");
        if node_port != 0 && ports[..index].iter().any(|other| same(other, port, "nodePort")) {
            errors.push(FieldError::duplicate(&path.index(index).child("nodePort"), node_port));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        if ports[..index].iter().any(|other| same(other, port, "port")) {
            let key = json!({"port": count(port, "port"), "protocol": text(port, "protocol")});
            errors.push(FieldError::duplicate(&path.index(index), key));
        }
    }
}

fn affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    check::one_of(spec, "sessionAffinity", &["ClientIP", "None"], path, errors);
    let config = path.child("sessionAffinityConfig");
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let path = config.child("clientIP").child("timeoutSeconds");
            match number(at(spec, &["sessionAffinityConfig", "clientIP"]), "timeoutSeconds") {
                None => errors.push(FieldError::required(&path, "when session affinity type is ClientIP")),
                Some(timeout_s) if timeout_s <= 0 || timeout_s > MAX_AFFINITY_S => {
                    let detail = format!("must be greater than 0 and less than {MAX_AFFINITY_S}");
                    errors.push(FieldError::invalid(&path, timeout_s, detail));
                }
                Some(_) => {}
            }
        }
        "None" if get(spec, "sessionAffinityConfig").is_some() => {
            errors.push(FieldError::forbidden(&config, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn addresses(spec: &Value, known: &[&str], path: &Path, errors: &mut Errors) {
    let (ip, ips) = (text(spec, "clusterIP"), texts(spec, "clusterIPs"));
    let field = path.child("clusterIPs");
    let invalid = |detail: &str| FieldError::invalid(&field, spec["clusterIPs"].clone(), detail);
    match ips.first() {
        None if !ip.is_empty() => errors.push(FieldError::required(&field, "")),
        Some(first) if !ip.is_empty() && *first != ip => {
            errors.push(invalid("first value must match `clusterIP`"))
        }
        Some(_) if ip.is_empty() => errors.push(invalid("must be empty when `clusterIP` is not specified")),
        _ => {}
    }
    families(spec, path, errors);
    let before = errors.len();
    if ips.first() == Some(&"None") && ips.len() > 1 {
        errors.push(invalid("'None' must be the first and only value"));
    }
    for (index, ip) in ips.iter().enumerate().filter(|(index, ip)| *index > 0 || **ip != "None") {
        check::ip_or_known(ip, known, &field.index(index), errors);
    }
    let found_invalid = errors.len() > before;
    if ips.len() > 2 {
        errors.push(invalid("may only hold up to 2 values"));
    }
    if found_invalid {
        return;
    }
    if ips.len() > 1 && !check::is_dual_stack(&ips) {
        errors.push(invalid("may specify no more than one IP for each IP family"));
    }
    if is_headless(spec) {
        return;
    }
    for (index, (ip, family)) in ips.iter().zip(texts(spec, "ipFamilies")).enumerate() {
        let actual = if ip.contains(':') { "IPv6" } else { "IPv4" };
        if family != actual && ["IPv4", "IPv6"].contains(&family) {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(&field.index(index), *ip, detail));
        }
    }
}

fn families(spec: &Value, path: &Path, errors: &mut Errors) {
    let items = check::each_text(spec, "ipFamilies", path);
    for (path, family) in items.iter().filter(|(_, family)| !["IPv4", "IPv6"].contains(family)) {
        errors.push(FieldError::not_supported(path, *family, &["IPv4", "IPv6"]));
    }
    check::duplicates(items, errors);
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    check::one_of_if_set(spec, "ipFamilyPolicy", &policies, path, errors);
}

fn balancing(service: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let spec = &service["spec"];
    let balanced = text(spec, "type") == "LoadBalancer";
    let ranges = check::each_text(spec, "loadBalancerSourceRanges", path);
    let annotation = get(&service["metadata"]["annotations"], SOURCE_RANGES).and_then(Value::as_str);
    if !ranges.is_empty() {
        let field = path.child("LoadBalancerSourceRanges");
        if !balanced {
            errors.push(FieldError::forbidden(&field, ONLY_BALANCED));
        }
        let known = texts(&old["spec"], "loadBalancerSourceRanges").into_iter().map(str::trim);
        let known: Vec<_> = known.collect();
        for (index, (_, range)) in ranges.iter().enumerate() {
            check::cidr_or_known(range.trim(), &known, &field.index(index), errors);
        }
    } else if let Some(ranges) = annotation {
        let field = Path::new("metadata").child("annotations").key(SOURCE_RANGES);
        if !balanced {
            errors.push(FieldError::forbidden(&field, ONLY_BALANCED));
        }
        let is_new = text(&old["metadata"]["annotations"], SOURCE_RANGES) != ranges;
        for range in ranges.split(',').map(str::trim).filter(|_| is_new && !ranges.trim().is_empty()) {
            check::cidr(range, &field, errors);
        }
    }
    let ports = "allocateLoadBalancerNodePorts";
    if get(spec, ports).is_some() && !balanced {
        errors.push(FieldError::forbidden(&path.child(ports), ONLY_BALANCED));
    } else if get(spec, ports).is_none() && balanced {
        errors.push(FieldError::required(&Path::new(ports), ""));
    }
    if let Some(class) = get(spec, "loadBalancerClass").and_then(Value::as_str) {
        let path = path.child("loadBalancerClass");
        if balanced {
            messages(names::qualified_name(class), class, &path, errors);
        } else {
            errors.push(FieldError::forbidden(&path, ONLY_BALANCED));
        }
    }
}

fn traffic(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = text(spec, "externalTrafficPolicy");
    if is_externally_accessible(spec) {
        check::one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], path, errors);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&path.child("externalTrafficPolicy"), policy, detail));
    }
    let (port, field) = (count(spec, "healthCheckNodePort"), path.child("healthCheckNodePort"));
    if !needs_health_check(spec) {
        if port != 0 {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(&field, port, detail));
        }
    } else if port == 0 {
        errors.push(FieldError::required(&field, ""));
    } else {
        check::port_number(port, &field, errors);
    }
    let internal = "internalTrafficPolicy";
    if get(spec, internal).is_none()
        && ["ClusterIP", "NodePort", "LoadBalancer"].contains(&text(spec, "type"))
    {
        errors.push(FieldError::required(&path.child(internal), ""));
    }
    check::one_of_if_set(spec, internal, &["Cluster", "Local"], path, errors);
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    check::one_of_if_set(spec, "trafficDistribution", &distributions, path, errors);
}

/// One way in through a load balancer.
pub(super) fn ingress_point(point: &Value, known: &[&str], path: &Path, errors: &mut Errors) {
    let (ip, mode) = (text(point, "ip"), get(point, "ipMode"));
    if !ip.is_empty() {
        check::ip_or_known(ip, known, &path.child("ip"), errors);
    }
    match mode {
        None if !ip.is_empty() => {
            errors.push(FieldError::required(&path.child("ipMode"), "must be specified when `ip` is set"));
        }
        Some(_) if ip.is_empty() => {
            errors.push(FieldError::forbidden(
                &path.child("ipMode"),
                "may not be specified when `ip` is not set",
            ));
        }
        _ => check::one_of_if_set(point, "ipMode", &["Proxy", "VIP"], path, errors),
    }
    let hostname = text(point, "hostname");
    if !hostname.is_empty() {
        messages(names::dns1123_subdomain(hostname), hostname, &path.child("hostname"), errors);
        if names::parse_ip(hostname).is_some() {
            let detail = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(&path.child("hostname"), hostname, detail));
        }
    }
}
