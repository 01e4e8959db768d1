//! LimitRange: bounds and defaults for what pods and claims of a namespace ask for.

use crate::check::{Errors, messages};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::resource::{canonicalize, check_container_name, check_name, is_overcommit_allowed, quantity};
use crate::table;
use crate::tree::{child, default, each, entries, get, list, text, with};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use nauplius_meta::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeSet;

const FIELDS: &[&str] = &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
const TYPES: &[&str] = &["Pod", "Container", "PersistentVolumeClaim"];

pub(crate) struct LimitRange(Descriptor);

pub(crate) fn kind() -> LimitRange {
    LimitRange(
        describe("", "v1", "LimitRange", "limitranges").short(&["limits"]).defaults(set_defaults).done(),
    )
}

fn set_defaults(object: &mut Value) {
    with(object, "spec", |spec| each(spec, "limits", default_item));
}

/// Of a container's limits: the default is the maximum, the default request the default or the minimum.
fn default_item(item: &mut Value) {
    FIELDS.iter().for_each(|field| canonicalize(item, field));
    if text(item, "type") != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let amounts: Vec<_> =
            entries(item, from).map(|(name, amount)| (name.to_owned(), amount.clone())).collect();
        for (name, amount) in amounts {
            default(child(item, to), &name, amount);
        }
    }
}

impl Kind for LimitRange {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("spec").child("limits");
        let mut types = Vec::new();
        for (index, item) in list(&object["spec"], "limits").iter().enumerate() {
            let path = path.index(index);
            check_type(text(item, "type"), &mut types, &path.child("type"), &mut errors);
            check_names(item, &path, &mut errors);
            check_amounts(item, &path, &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::created_at()]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        vec![table::name_cell(object), table::created_at_cell(object)]
    }
}

fn check_type<'a>(type_: &'a str, seen: &mut Vec<&'a str>, path: &Path, errors: &mut Errors) {
    let before = errors.len();
    messages(names::qualified_name(type_), type_, path, errors);
    if errors.len() == before && !type_.contains('/') && !TYPES.contains(&type_) {
        errors.push(FieldError::invalid(path, type_, "must be a standard limit type or fully qualified"));
    }
    if seen.contains(&type_) {
        errors.push(FieldError::duplicate(path, type_));
    }
    seen.push(type_);
}

fn check_names(item: &Value, path: &Path, errors: &mut Errors) {
    let type_ = text(item, "type");
    for field in FIELDS {
        if type_ == "Pod" && field.starts_with("default") {
            if crate::tree::size(item, field) > 0 {
                let detail = "may not be specified when `type` is 'Pod'";
                errors.push(FieldError::forbidden(&path.child(field), detail));
            }
            continue;
        }
        for (name, _) in entries(item, field) {
            let path = path.child(field).key(name);
            if ["Pod", "Container"].contains(&type_) {
                check_container_name(name, &path, errors);
            } else {
                check_name(name, &path, errors);
            }
        }
    }
    let bounds = ["min", "max"].iter().any(|field| get(&item[*field], "storage").is_some());
    if type_ == "PersistentVolumeClaim" && !bounds {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(&path.child("limits"), detail));
    }
}

fn check_amounts(item: &Value, path: &Path, errors: &mut Errors) {
    let names: BTreeSet<_> =
        FIELDS.iter().flat_map(|field| entries(item, field)).map(|(name, _)| name).collect();
    for name in names {
        let amount = |field: &str| get(&item[field], name).map(quantity);
        let [max, min, limit, request, ratio] =
            ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"].map(amount);
        let mut ordered = |low: &Option<Quantity>,
                           high: &Option<Quantity>,
                           field: &str,
                           blame: &Option<Quantity>,
                           words: [&str; 2]| {
            let (Some(low), Some(high), Some(blame)) = (low, high, blame) else { return };
            if low > high {
                let detail = format!(
                    "{} {} is greater than {} {}",
                    words[0],
                    low.canonical(),
                    words[1],
                    high.canonical()
                );
                errors.push(FieldError::invalid(&path.child(field).key(name), blame.canonical(), detail));
            }
        };
        ordered(&min, &max, "min", &min, ["min value", "max value"]);
        ordered(&min, &request, "defaultRequest", &request, ["min value", "default request value"]);
        ordered(&request, &max, "defaultRequest", &request, ["default request value", "max value"]);
        ordered(
            &request,
            &limit,
            "defaultRequest",
            &request,
            ["default request value", "default limit value"],
        );
        ordered(&min, &limit, "default", &min, ["min value", "default value"]);
        ordered(&limit, &max, "default", &max, ["default value", "max value"]);
        if let Some(ratio) = ratio.filter(|ratio| ratio.milli_value() < 1000) {
            let detail = format!("ratio {} is less than 1", ratio.canonical());
            errors.push(FieldError::invalid(
                &path.child("maxLimitRequestRatio").key(name),
                ratio.canonical(),
                detail,
            ));
        }
        if let (Some(limit), Some(request)) = (limit, request)
            && limit != request
            && !is_overcommit_allowed(name)
        {
            let (limit, request) = (limit.canonical(), request.canonical());
            let detail =
                format!("default value {limit} must equal to defaultRequest value {request} in {name}");
            errors.push(FieldError::invalid(&path.child("defaultRequest").key(name), request, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};
    use serde_json::json;

    #[test]
    fn containers_get_defaults() {
        let object = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2000m"}, "min": {"memory": "1Mi"}}]}});
        let item = &created(&kind(), object)["spec"]["limits"][0];
        assert_eq!(item["default"], json!({"cpu": "2"}));
        assert_eq!(item["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
    }

    #[test]
    fn bounds_are_in_order() {
        let bad = json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "default": {"cpu": "1"}}]}});
        let expected = [
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1",
        ];
        creation(&kind(), bad.clone(), &expected);
        updated(&kind(), &json!({}), bad, &expected);
        creation(
            &kind(),
            json!({"spec": {"limits": [{"type": "Thing"}]}}),
            &[
                "spec.limits[0].type: Invalid value: \"Thing\": must be a standard limit type or fully qualified",
            ],
        );
        row(&kind(), json!({}), json!(["x", "1970-01-12T13:46:40Z"]));
    }
}
