//! Ingress: which requests from outside go to which services.

use super::ingress_class::check_reference;
use crate::check::{Errors, messages, port_number};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::table::{self, NONE, string};
use crate::tree::{count, get, list, text, texts};
use crate::{check, name};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names::{self, parse_ip};
use serde_json::{Value, json};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const NO_IP: &str = "must be a DNS name, not an IP address";
const INVALID_PARTS: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const INVALID_ENDS: &[&str] = &["/..", "/."];

pub(crate) struct Ingress(Descriptor);

pub(crate) fn kind() -> Ingress {
    let descriptor = describe("networking.k8s.io", "v1", "Ingress", "ingresses").short(&["ing"]);
    Ingress(descriptor.status().done())
}

impl Kind for Ingress {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn initial_status(&self, _object: &Value) -> Value {
        json!({"loadBalancer": {}})
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = validate_spec(&object["spec"]);
        let annotation = get(&object["metadata"]["annotations"], CLASS_ANNOTATION).and_then(Value::as_str);
        let class = get(&object["spec"], "ingressClassName").and_then(Value::as_str);
        if let (Some(annotation), Some(class)) = (annotation, class)
            && annotation != class
        {
            let path = Path::new("annotations").child(CLASS_ANNOTATION);
            let detail = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(&path, annotation, detail));
        }
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validate_spec(&new["spec"])
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("status").children(&["loadBalancer", "ingress"]);
        let known = list(&old["status"]["loadBalancer"], "ingress").iter().map(|point| text(point, "ip"));
        let known: Vec<_> = known.collect();
        for (index, point) in list(&new["status"]["loadBalancer"], "ingress").iter().enumerate() {
            let path = path.index(index);
            let (address, host) = (text(point, "ip"), text(point, "hostname"));
            if !address.is_empty() {
                check::ip_or_known(address, &known, &path.child("ip"), &mut errors);
            }
            if !host.is_empty() {
                let path = path.child("hostname");
                messages(names::dns1123_subdomain(host), host, &path, &mut errors);
                if parse_ip(host).is_some() {
                    errors.push(FieldError::invalid(&path, host, NO_IP));
                }
            }
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let has = |object: &Value| get(&object["metadata"]["annotations"], CLASS_ANNOTATION).is_some();
        let words = || {
            format!(
                "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
            )
        };
        (old.is_none() && has(new)).then(words).into_iter().collect()
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Class", "Who serves it."),
            string("Hosts", "The hosts that its rules are for."),
            string("Address", "Where it is reached."),
            string("Ports", "The ports that it is reached at."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        let class = get(spec, "ingressClassName").and_then(Value::as_str).unwrap_or(NONE);
        let ports = if list(spec, "tls").is_empty() { "80" } else { "80, 443" };
        vec![
            table::name_cell(object),
            class.into(),
            hosts(list(spec, "rules")).into(),
            addresses(&object["status"]).into(),
            ports.into(),
            table::age_cell(object, now_s),
        ]
    }
}

fn hosts(rules: &[Value]) -> String {
    const MAX: usize = 3;
    let hosts: Vec<_> = rules.iter().map(|rule| text(rule, "host")).filter(|host| !host.is_empty()).collect();
    let shown = hosts[..hosts.len().min(MAX)].join(",");
    match hosts.len() {
        0 => "*".to_owned(),
        count if count > MAX => format!("{shown} + {} more...", count - MAX),
        _ => shown,
    }
}

/// Where it is reached, cut to a width that fits.
fn addresses(status: &Value) -> String {
    let points = list(&status["loadBalancer"], "ingress").iter().map(|point| {
        let address = text(point, "ip");
        if address.is_empty() { text(point, "hostname") } else { address }
    });
    points.filter(|point| !point.is_empty()).collect::<Vec<_>>().join(",")
}

fn validate_spec(spec: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let (rules, backend) = (list(spec, "rules"), get(spec, "defaultBackend"));
    if rules.is_empty() && backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(match get(spec, "rules") {
            Some(none) => FieldError::invalid(&path, none.clone(), detail),
            // Upstream shows what is not there without quotes.
            None => check::wrong(&path, &format!("null: {detail}")),
        });
    }
    if let Some(backend) = backend {
        check_backend(backend, &path.child("defaultBackend"), &mut errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        check_rule(rule, &path.child("rules").index(index), &mut errors);
    }
    for (index, tls) in list(spec, "tls").iter().enumerate() {
        let path = path.child("tls").index(index);
        for (index, host) in texts(tls, "hosts").into_iter().enumerate() {
            check_host(host, &path.child("hosts").index(index), &mut errors);
        }
        check::name_if_set(tls, "secretName", names::dns1123_subdomain, &path, &mut errors);
    }
    if get(spec, "ingressClassName").is_some() {
        let class = text(spec, "ingressClassName");
        messages(names::dns1123_subdomain(class), class, &path.child("ingressClassName"), &mut errors);
    }
    errors
}

fn check_host(host: &str, path: &Path, errors: &mut Errors) {
    let rule = if host.contains('*') { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
    messages(rule(host), host, path, errors);
}

fn check_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let host = text(rule, "host");
    if !host.is_empty() {
        if parse_ip(host).is_some() {
            errors.push(FieldError::invalid(&path.child("host"), host, NO_IP));
        }
        check_host(host, &path.child("host"), errors);
    }
    let Some(http) = get(rule, "http") else { return };
    let path = path.child("http").child("paths");
    let paths = list(http, "paths");
    if paths.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    for (index, part) in paths.iter().enumerate() {
        check_path(part, &path.index(index), errors);
    }
}

fn check_path(part: &Value, path: &Path, errors: &mut Errors) {
    let types = ["Exact", "ImplementationSpecific", "Prefix"];
    let Some(type_) = get(part, "pathType").and_then(Value::as_str) else {
        errors.push(FieldError::required(&path.child("pathType"), "pathType must be specified"));
        return;
    };
    let value = text(part, "path");
    let field = path.child("path");
    let is_strict = ["Exact", "Prefix"].contains(&type_);
    if !types.contains(&type_) {
        errors.push(FieldError::not_supported(&path.child("pathType"), type_, &types));
    } else if !value.starts_with('/') && (is_strict || !value.is_empty()) {
        errors.push(FieldError::invalid(&field, value, "must be an absolute path"));
    }
    if is_strict {
        for bad in INVALID_PARTS.iter().filter(|bad| value.contains(**bad)) {
            errors.push(FieldError::invalid(&field, value, format!("must not contain '{bad}'")));
        }
        for bad in INVALID_ENDS.iter().filter(|bad| value.ends_with(**bad)) {
            errors.push(FieldError::invalid(&field, value, format!("cannot end with '{bad}'")));
        }
    }
    check_backend(&part["backend"], &path.child("backend"), errors);
}

fn check_backend(backend: &Value, path: &Path, errors: &mut Errors) {
    match (get(backend, "resource"), get(backend, "service")) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, "", "cannot set both resource and service backends"));
        }
        (Some(resource), None) => check_reference(resource, &path.child("resource"), errors),
        (None, Some(service)) => check_service(service, path, errors),
        (None, None) => {
            errors.push(FieldError::invalid(path, "", "resource or service backend is required"));
        }
    }
}

fn check_service(service: &Value, path: &Path, errors: &mut Errors) {
    let inner = path.child("service");
    if check::required_text(service, "name", &inner, errors) {
        check::name_if_set(service, "name", names::dns1123_label, &inner, errors);
    }
    let port = &service["port"];
    let (port_name, number) = (text(port, "name"), count(port, "number"));
    let port_path = inner.child("port");
    match (port_name.is_empty(), number == 0) {
        (false, false) => {
            errors.push(FieldError::invalid(path, "", "cannot set both port name & port number"));
        }
        (false, true) => messages(names::port_name(port_name), port_name, &port_path.child("name"), errors),
        (true, false) => port_number(number, &port_path.child("number"), errors),
        (true, true) => errors.push(FieldError::required(path, "port name or number is required")),
    }
}
