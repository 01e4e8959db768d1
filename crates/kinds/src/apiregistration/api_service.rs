//! APIService: who serves a version of a group. Without a service it is this server itself.

use super::GROUP;
use crate::check::{Errors, messages, port_number};
use crate::describe::describe;
use crate::kind::{Column, Context, Descriptor, Kind, tracked_without_metadata};
use crate::table::{self, string};
use crate::tree::{count, default_nonzero, flag, get, list, number, set, text, with};
use crate::{duration, name};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path, quote};
use nauplius_meta::names;
use serde_json::{Value, json};

const DEFAULT_PORT: i64 = 443;
const MAX_GROUP_PRIORITY: i64 = 20_000;
const MAX_VERSION_PRIORITY: i64 = 1_000;

pub(crate) struct APIService(Descriptor);

pub(crate) fn kind() -> APIService {
    let descriptor = describe(GROUP, "v1", "APIService", "apiservices").cluster_scoped();
    APIService(descriptor.categories(&["api-extensions"]).defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    with(object, "spec", |spec| {
        with(spec, "service", |service| default_nonzero(service, "port", DEFAULT_PORT));
    });
}

/// Whether this server itself serves it.
pub(super) fn is_local(object: &Value) -> bool {
    get(&object["spec"], "service").is_none()
}

impl Kind for APIService {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, context: &Context<'_>, object: &mut Value) {
        let mut status = json!({});
        if is_local(object) {
            status = json!({"conditions": [{
                "type": "Available",
                "status": "True",
                "lastTransitionTime": duration::moment(context.now_s),
                "reason": "Local",
                "message": "Local APIServices are always available",
            }]});
        }
        set(object, "status", status);
    }

    fn tracked(&self, subresource: &str) -> Filter {
        tracked_without_metadata(subresource)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        own_name(object, &mut errors);
        let (group, version) = (text(spec, "group"), text(spec, "version"));
        if group.is_empty() && version != "v1" {
            let detail = "only v1 may have an empty group and it better be legacy kube";
            errors.push(FieldError::required(&path.child("group"), detail));
        }
        if !group.is_empty() {
            messages(names::dns1123_subdomain(group), group, &path.child("group"), &mut errors);
        }
        messages(names::dns1035_label(version), version, &path.child("version"), &mut errors);
        priority(spec, "groupPriorityMinimum", MAX_GROUP_PRIORITY, &path, &mut errors);
        priority(spec, "versionPriority", MAX_VERSION_PRIORITY, &path, &mut errors);
        match get(spec, "service") {
            None => only_local(spec, &path, &mut errors),
            Some(service) => check_service(service, &path.child("service"), &mut errors),
        }
        if flag(spec, "insecureSkipTLSVerify") && !text(spec, "caBundle").is_empty() {
            let path = path.child("insecureSkipTLSVerify");
            errors.push(FieldError::invalid(&path, true, "may not be true if caBundle is present"));
        }
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::path_segment(name, prefix)
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Service", "The service that serves it."),
            string("Available", "Whether it is served."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let service = get(&object["spec"], "service").map_or_else(
            || "Local".to_owned(),
            |service| format!("{}/{}", text(service, "namespace"), text(service, "name")),
        );
        vec![
            table::name_cell(object),
            service.into(),
            available(object).into(),
            table::age_cell(object, now_s),
        ]
    }
}

/// The name says which version of which group it is.
fn own_name(object: &Value, errors: &mut Errors) {
    let (name, spec) = (text(&object["metadata"], "name"), &object["spec"]);
    let required = format!("{}.{}", text(spec, "version"), text(spec, "group"));
    if name != required && names::path_segment(name).is_empty() {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {}", quote(&required));
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
    }
}

fn priority(spec: &Value, key: &str, max: i64, path: &Path, errors: &mut Errors) {
    let own = count(spec, key);
    if !(1..=max).contains(&own) {
        let detail = format!("must be positive and less than {max}");
        errors.push(FieldError::invalid(&path.child(key), own, detail));
    }
}

fn only_local(spec: &Value, path: &Path, errors: &mut Errors) {
    let bundle = text(spec, "caBundle");
    if !bundle.is_empty() {
        let path = path.child("caBundle");
        let value = format!("{} bytes", decoded_bytes(bundle));
        errors.push(FieldError::invalid(&path, value, "local APIServices may not have a caBundle"));
    }
    if flag(spec, "insecureSkipTLSVerify") {
        let path = path.child("insecureSkipTLSVerify");
        let detail = "local APIServices may not have insecureSkipTLSVerify";
        errors.push(FieldError::invalid(&path, true, detail));
    }
}

/// How many bytes base64 text stands for.
fn decoded_bytes(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

fn check_service(service: &Value, path: &Path, errors: &mut Errors) {
    for key in ["namespace", "name"] {
        if text(service, key).is_empty() {
            errors.push(FieldError::required(&path.child(key), ""));
        }
    }
    let Some(port) = number(service, "port") else { return };
    let mut problems = Errors::new();
    port_number(port, &path.child("port"), &mut problems);
    errors.extend(problems.into_iter().map(|problem| {
        FieldError::invalid(&path.child("port"), port, format!("port is not valid: {}", problem.detail))
    }));
}

fn available(object: &Value) -> String {
    let mut conditions = list(&object["status"], "conditions").iter();
    let Some(condition) = conditions.find(|own| text(own, "type") == "Available") else {
        return "Unknown".to_owned();
    };
    match (text(condition, "status"), text(condition, "reason")) {
        ("True", _) => "True".to_owned(),
        (status, "") => status.to_owned(),
        (status, reason) => format!("{status} ({reason})"),
    }
}
