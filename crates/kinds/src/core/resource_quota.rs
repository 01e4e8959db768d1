//! ResourceQuota: how much a namespace may have in all.

use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::resource::{canonicalize, check_amount, check_quota_name, quantity};
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
    scopes.iter().filter(|scope| !SCOPES.contains(scope)).for_each(|_| invalid("unsupported scope"));
    if CONFLICTS.iter().any(|pair| pair.iter().all(|scope| scopes.contains(scope))) {
        invalid("conflicting scopes");
    }
}

fn scope_selector(spec: &Value, path: &Path, errors: &mut Errors) {
    for expression in list(&spec["scopeSelector"], "matchExpressions") {
        let (scope, operator) = (text(expression, "scopeName"), text(expression, "operator"));
        let values = list(expression, "values");
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail =
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(&path.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail =
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(&path.child("values"), values.to_vec(), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(FieldError::invalid(
                    &path.child("operator"),
                    other,
                    "not a valid selector operator",
                ));
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
