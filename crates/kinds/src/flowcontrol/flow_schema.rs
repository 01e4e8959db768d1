//! FlowSchema: which requests belong to which priority level, and which of them are told apart.

use super::{GROUP, check_fixed, conditions, fixed};
use crate::check::{self, Errors, messages};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind, tracked_without_metadata};
use crate::name;
use crate::table::{self, NONE, string};
use crate::tree::{child, count, default_nonzero, flag, get, list, text, texts};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

const MAX_PRECEDENCE: i64 = 10_000;
const DEFAULT_PRECEDENCE: i64 = 1_000;
const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
/// The kinds of subjects, each with the field that says more of it.
const SUBJECTS: &[(&str, &str)] =
    &[("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];

pub(crate) struct FlowSchema(Descriptor);

pub(crate) fn kind() -> FlowSchema {
    let descriptor = describe(GROUP, "v1", "FlowSchema", "flowschemas").cluster_scoped();
    FlowSchema(descriptor.defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    default_nonzero(child(object, "spec"), "matchingPrecedence", DEFAULT_PRECEDENCE);
}

impl Kind for FlowSchema {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn tracked(&self, subresource: &str) -> Filter {
        tracked_without_metadata(subresource)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let name = text(&object["metadata"], "name");
        precedence(spec, name, &path.child("matchingPrecedence"), &mut errors);
        if let Some(method) = get(spec, "distinguisherMethod") {
            let methods = ["ByNamespace", "ByUser"];
            if !methods.contains(&text(method, "type")) {
                let path = path.child("distinguisherMethod").child("type");
                errors.push(FieldError::not_supported(&path, method.clone(), &methods));
            }
        }
        let level = text(&spec["priorityLevelConfiguration"], "name");
        let level_path = path.child("priorityLevelConfiguration").child("name");
        if level.is_empty() {
            errors.push(FieldError::required(&level_path, "must reference a priority level"));
        } else {
            messages(names::dns1123_subdomain(level), level, &level_path, &mut errors);
        }
        for (index, rule) in list(spec, "rules").iter().enumerate() {
            check_rule(rule, &path.child("rules").index(index), &mut errors);
        }
        check_fixed(spec, fixed::mandatory_schema(name), name, None, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        conditions(&new["status"], &mut errors);
        errors
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
            string("PriorityLevel", "The level that its requests have."),
            string("MatchingPrecedence", "Which of several schemas is asked first."),
            string("DistinguisherMethod", "What tells its requests apart."),
            table::age(),
            string("MissingPL", "Whether its level is not there."),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        let method = get(&spec["distinguisherMethod"], "type").and_then(Value::as_str).unwrap_or(NONE);
        let dangling =
            list(&object["status"], "conditions").iter().find(|own| text(own, "type") == "Dangling");
        vec![
            table::name_cell(object),
            text(&spec["priorityLevelConfiguration"], "name").into(),
            count(spec, "matchingPrecedence").into(),
            method.into(),
            table::age_cell(object, now_s),
            dangling.map_or("?", |condition| text(condition, "status")).into(),
        ]
    }
}

fn precedence(spec: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let precedence = count(spec, "matchingPrecedence");
    let mut invalid = |detail: String| errors.push(FieldError::invalid(path, precedence, detail));
    if precedence <= 0 {
        invalid("must be a positive value".to_owned());
    }
    if precedence > MAX_PRECEDENCE {
        invalid(format!("must not be greater than {MAX_PRECEDENCE}"));
    }
    if precedence == 1 && name != "exempt" {
        invalid("only the schema named 'exempt' may have matchingPrecedence 1".to_owned());
    }
}

fn check_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let subjects = list(rule, "subjects");
    if subjects.is_empty() {
        let detail = "subjects must contain at least one value";
        errors.push(FieldError::required(&path.child("subjects"), detail));
    }
    for (index, subject) in subjects.iter().enumerate() {
        check_subject(subject, &path.child("subjects").index(index), errors);
    }
    let (resources, others) = (list(rule, "resourceRules"), list(rule, "nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, detail));
    }
    for (index, rule) in resources.iter().enumerate() {
        resource_rule(rule, &path.child("resourceRules").index(index), errors);
    }
    for (index, rule) in others.iter().enumerate() {
        other_rule(rule, &path.child("nonResourceRules").index(index), errors);
    }
}

fn check_subject(subject: &Value, path: &Path, errors: &mut Errors) {
    let kind = text(subject, "kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(other, _)| *other == kind) else {
        let kinds: Vec<_> = SUBJECTS.iter().map(|(kind, _)| *kind).collect();
        errors.push(FieldError::not_supported(&path.child("kind"), kind, &kinds));
        return;
    };
    match get(subject, own) {
        None => {
            let detail = format!("{own} is required when subject kind is '{kind}'");
            errors.push(FieldError::required(&path.child(own), detail));
        }
        Some(named) => {
            check::required_text(named, "name", &path.child(own), errors);
            if kind == "ServiceAccount" {
                account(named, &path.child(own), errors);
            }
        }
    }
    for (other_kind, other) in SUBJECTS.iter().filter(|(_, other)| other != own) {
        if get(subject, other).is_some() {
            let detail = format!("{other} is forbidden when subject kind is not '{other_kind}'");
            errors.push(FieldError::forbidden(&path.child(other), detail));
        }
    }
}

fn account(account: &Value, path: &Path, errors: &mut Errors) {
    if text(account, "name") != "*" {
        check::name_if_set(account, "name", names::dns1123_subdomain, path, errors);
    }
    if text(account, "namespace").is_empty() {
        let detail = "must specify namespace for service account";
        errors.push(FieldError::required(&path.child("namespace"), detail));
    }
    check::name_if_set(account, "namespace", names::dns1123_label, path, errors);
}

/// A list that is not empty, and where a star stands alone.
fn alone(rule: &Value, key: &str, missing: &str, what: &str, path: &Path, errors: &mut Errors) {
    let values = texts(rule, key);
    let path = path.child(key);
    if values.is_empty() {
        errors.push(FieldError::required(&path, missing));
    } else if values.len() > 1 && values.contains(&"*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(&path, json!(values), detail));
    }
}

fn check_verbs(rule: &Value, path: &Path, errors: &mut Errors) {
    alone(rule, "verbs", "verbs must contain at least one value", "verbs", path, errors);
    let verbs = texts(rule, "verbs");
    if !verbs.contains(&"*") && !verbs.iter().all(|verb| VERBS.contains(verb)) {
        errors.push(FieldError::not_supported(&path.child("verbs"), json!(verbs), VERBS));
    }
}

fn resource_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    check_verbs(rule, path, errors);
    let missing = "resource rules must supply at least one api group";
    alone(rule, "apiGroups", missing, "api groups", path, errors);
    let missing = "resource rules must supply at least one resource";
    alone(rule, "resources", missing, "resources", path, errors);
    let namespaces = texts(rule, "namespaces");
    if !namespaces.is_empty() || !flag(rule, "clusterScope") {
        let missing = "resource rules that are not cluster scoped must supply at least one namespace";
        alone(rule, "namespaces", missing, "namespaces", path, errors);
    }
    if namespaces.contains(&"*") {
        return;
    }
    for (index, namespace) in namespaces.into_iter().enumerate() {
        let path = path.child("namespaces").index(index);
        for problem in names::dns1123_label(namespace) {
            let detail = format!("each member of this list must be '*' or a DNS-1123 label; {problem}");
            errors.push(FieldError::invalid(&path, namespace, detail));
        }
    }
}

fn other_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    check_verbs(rule, path, errors);
    let missing = "nonResourceURLs must contain at least one value";
    alone(rule, "nonResourceURLs", missing, "non-resource URLs", path, errors);
    let urls = texts(rule, "nonResourceURLs");
    if urls.contains(&"*") {
        return;
    }
    for (index, url) in urls.into_iter().enumerate() {
        if let Some(problem) = url_problem(url) {
            errors.push(FieldError::invalid(&path.child("nonResourceURLs").index(index), url, problem));
        }
    }
}

fn url_problem(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !url.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_cluster_has_is_sound() {
        for mut schema in fixed::flow_schemas() {
            let before = schema.clone();
            set_defaults(&mut schema);
            assert_eq!((&schema, kind().validate(&schema)), (&before, Vec::new()));
        }
    }
}
