//! ResourceQuota: how much a namespace may have in all.

use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::resource::{canonicalize, check_amount, check_quota_name, is_standard_quota, quantity};
use crate::table::{self, string};
use crate::tree::{entries, get, list, text, texts, with};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
/// What pods use, as quotas name it.
const OF_PODS: &[&str] = &["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const UNSCOPED: &str = "unsupported scope applied to resource";
const CONFLICTS: &[[&str; 2]] = &[["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

pub(crate) struct ResourceQuota(Descriptor);

pub(crate) fn kind() -> ResourceQuota {
    let descriptor = describe("", "v1", "ResourceQuota", "resourcequotas").short(&["quota"]);
    ResourceQuota(descriptor.defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    with(object, "spec", |spec| canonicalize(spec, "hard"));
    with(object, "status", |status| ["hard", "used"].iter().for_each(|field| canonicalize(status, field)));
}

impl Kind for ResourceQuota {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        amounts(spec, "hard", &path, &mut errors);
        scopes(spec, &path.child("scopes"), &mut errors);
        scope_selector(spec, &path.child("scopeSelector").child("matchExpressions"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let sorted = |object: &Value| {
            let mut scopes: Vec<_> =
                texts(&object["spec"], "scopes").into_iter().map(str::to_owned).collect();
            scopes.sort();
            scopes
        };
        if sorted(new) != sorted(old) {
            let path = Path::new("spec").child("scopes");
            errors.push(FieldError::invalid(&path, new["spec"]["scopes"].clone(), crate::check::IMMUTABLE));
        }
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for field in ["hard", "used"] {
            amounts(&new["status"], field, &Path::new("status"), &mut errors);
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Request", "What is used and what may be, of requests and counts."),
            string("Limit", "What is used and what may be, of limits."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let status = &object["status"];
        let shown = |wants_limits: bool| {
            let of_column =
                entries(status, "hard").filter(|(name, _)| name.starts_with("limits.") == wants_limits);
            let texts = of_column.map(|(name, hard)| {
                let used = get(&status["used"], name).unwrap_or(&Value::Null);
                format!("{name}: {}/{}", quantity(used).canonical(), quantity(hard).canonical())
            });
            Value::from(texts.collect::<Vec<_>>().join(", "))
        };
        vec![table::name_cell(object), shown(false), shown(true), table::age_cell(object, now_s)]
    }
}

fn amounts(object: &Value, field: &str, path: &Path, errors: &mut Errors) {
    for (name, amount) in entries(object, field) {
        let path = path.child(field).key(name);
        check_quota_name(name, &path, errors);
        check_amount(name, amount, &path, errors);
    }
}

fn scopes(spec: &Value, path: &Path, errors: &mut Errors) {
    let scopes = texts(spec, "scopes");
    let mut invalid = |detail: &str| errors.push(FieldError::invalid(path, spec["scopes"].clone(), detail));
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            invalid("unsupported scope");
        }
        for _ in unscoped(spec, scope) {
            invalid(UNSCOPED);
        }
    }
    for _ in CONFLICTS.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))) {
        invalid("conflicting scopes");
    }
}

/// The resources of a quota that have nothing to do with a scope.
fn unscoped<'a>(spec: &'a Value, scope: &'a str) -> impl Iterator<Item = &'a str> {
    let fits = move |name: &str| match scope {
        "BestEffort" => name == "pods",
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => name == "pods" || OF_PODS.contains(&name),
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&name),
        _ => true,
    };
    entries(spec, "hard").map(|(name, _)| name).filter(move |name| is_standard_quota(name) && !fits(name))
}

fn scope_selector(spec: &Value, path: &Path, errors: &mut Errors) {
    let expressions = list(&spec["scopeSelector"], "matchExpressions");
    for expression in expressions {
        let scope = text(expression, "scopeName");
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in unscoped(spec, scope) {
            errors.push(FieldError::invalid(path, spec["scopeSelector"].clone(), UNSCOPED));
        }
        if !["PriorityClass", "VolumeAttributesClass"].contains(&scope) && SCOPES.contains(&scope) {
            exists(text(expression, "operator"), &path.child("operator"), errors);
        }
        scope_values(expression, path, errors);
    }
    let chosen: Vec<_> = expressions.iter().map(|expression| text(expression, "scopeName")).collect();
    for _ in CONFLICTS.iter().filter(|pair| pair.iter().all(|scope| chosen.contains(scope))) {
        let scopes = spec.get("scopes").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(path, scopes, "conflicting scopes"));
    }
}

/// A scope that pods are in or not has no values.
fn exists(operator: &str, path: &Path, errors: &mut Errors) {
    if operator != "Exists" {
        let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                      ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                      ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(FieldError::invalid(path, operator, detail));
    }
}

fn scope_values(expression: &Value, path: &Path, errors: &mut Errors) {
    let values = list(expression, "values");
    match text(expression, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.push(FieldError::required(&path.child("values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(FieldError::invalid(&path.child("values"), values.to_vec(), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};
    use serde_json::json;

    #[test]
    fn names_and_scopes_are_checked() {
        assert_eq!(created(&kind(), json!({"spec": {"hard": {"cpu": "1000m"}}}))["spec"]["hard"]["cpu"], "1");
        creation(
            &kind(),
            json!({"spec": {"hard": {"pods": "1.5"}, "scopes": ["BestEffort", "NotBestEffort"]}}),
            &[
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ],
        );
        creation(
            &kind(),
            json!({"spec": {"hard": {"secrets": "1", "example.com/x": "1"}, "scopes": ["Terminating"]}}),
            &["spec.scopes: Invalid value: [\"Terminating\"]: unsupported scope applied to resource"],
        );
        let selector =
            json!({"matchExpressions": [{"scopeName": "BestEffort", "operator": "In", "values": ["a"]}]});
        creation(
            &kind(),
            json!({"spec": {"hard": {"pods": "1"}, "scopeSelector": selector}}),
            &[
                "spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exists' when scope is any of \
               ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
               ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            ],
        );
        updated(
            &kind(),
            &json!({"spec": {}}),
            json!({"spec": {"scopes": ["BestEffort"]}}),
            &["spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"],
        );
    }

    #[test]
    fn the_row_shows_what_is_used() {
        let status = json!({"hard": {"pods": "4", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "1", "limits.cpu": "500m"}});
        row(
            &kind(),
            json!({"status": status}),
            json!(["x", "cpu: 0/1, pods: 1/4", "limits.cpu: 500m/2", "75s"]),
        );
    }
}
