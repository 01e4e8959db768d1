//! One device of a slice: its attributes, what it has of everything, and which nodes reach it.

use super::allocation::binding_conditions;
use super::{bounded, qualified_name, taint, unique};
use crate::check::{Errors, messages};
use crate::pod_template::node_selector;
use crate::resource::quantity;
use crate::tree::{entries, equal, flag, get, list, size, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

const MAX_PROPERTIES: usize = 32;
const MAX_VALUES: usize = 48;
const MAX_VALUE_BYTES: usize = 64;
const MAX_TAINTS: usize = 16;
const MAX_CONSUMPTIONS: usize = 2;
pub(super) const MAX_COUNTERS: usize = 32;
const MAX_OPTIONS: usize = 10;
/// Lists of values, each kind under its name.
const LISTS: &[&str] = &["bools", "ints", "strings", "versions"];
const ONE_OF_NODES: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

static SEMVER: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"(0|[1-9]\d*)";
    let before = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)";
    let build = "[0-9a-zA-Z-]+";
    let pattern = format!(r"^{number}\.{number}\.{number}(-{before}(\.{before})*)?(\+{build}(\.{build})*)?$");
    Regex::new(&pattern).expect("the pattern is a constant")
});

/// Checks a device beside the form that it had before.
pub(super) fn validate(
    device: &Value,
    old: Option<&Value>,
    per_device: bool,
    path: &Path,
    errors: &mut Errors,
) {
    let name = text(device, "name");
    messages(names::dns1123_label(name), name, &path.child("name"), errors);
    properties(device, path, errors);
    if old.is_none_or(|old| !equal(&old["taints"], &device["taints"])) {
        bounded(list(device, "taints"), MAX_TAINTS, &path.child("taints"), errors, |own, path, errors| {
            taint::validate(own, None, path, errors);
        });
    }
    let set = |own: &Value| text(own, "counterSet").to_owned();
    let consumed = path.child("consumesCounters");
    unique(
        list(device, "consumesCounters"),
        MAX_CONSUMPTIONS,
        &consumed,
        errors,
        set,
        |own, path, errors| {
            counters(own, "counterSet", path, errors);
        },
    );
    nodes(device, per_device, path, errors);
    binding_conditions(device, path, errors);
}

/// A named set of counters.
pub(super) fn counters(set: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let given = text(set, name);
    if given.is_empty() {
        errors.push(FieldError::required(&path.child(name), ""));
    } else {
        messages(names::dns1123_label(given), given, &path.child(name), errors);
    }
    let path = path.child("counters");
    match size(set, "counters") {
        0 => errors.push(FieldError::required(&path, "")),
        count if count > MAX_COUNTERS => errors.push(FieldError::too_many(&path, count, MAX_COUNTERS)),
        _ => {
            for (key, _) in entries(set, "counters") {
                messages(names::dns1123_label(key), key, &path, errors);
            }
        }
    }
}

fn properties(device: &Value, path: &Path, errors: &mut Errors) {
    let count = size(device, "attributes") + size(device, "capacity");
    if count > MAX_PROPERTIES {
        let detail =
            format!("the total number of attributes and capacities must not exceed {MAX_PROPERTIES}");
        errors.push(FieldError::invalid(path, count, detail));
    }
    let in_lists = |own: &Value| LISTS.iter().map(|key| list(own, key).len()).sum::<usize>();
    let values: usize = entries(device, "attributes").map(|(_, own)| in_lists(own).max(1)).sum();
    if values > MAX_VALUES {
        let detail = format!("the total number of attribute values must not exceed {MAX_VALUES}");
        errors.push(FieldError::invalid(path, values, detail));
    }
    for (key, own) in entries(device, "attributes") {
        qualified_name(key, &path.child("attributes"), errors);
        attribute(own, &path.child("attributes").key(key), errors);
    }
    let is_shared = flag(device, "allowMultipleAllocations");
    for (key, own) in entries(device, "capacity") {
        qualified_name(key, &path.child("capacity"), errors);
        let path = path.child("capacity").key(key).child("requestPolicy");
        match get(own, "requestPolicy") {
            Some(policy) if is_shared => request_policy(&own["value"], policy, &path, errors),
            Some(_) => errors.push(FieldError::forbidden(&path, "allowMultipleAllocations must be true")),
            None => {}
        }
    }
}

fn attribute(attribute: &Value, path: &Path, errors: &mut Errors) {
    let given = ["bool", "int", "string", "version", "bools", "ints", "strings", "versions"];
    let given: Vec<&str> = given.into_iter().filter(|key| get(attribute, key).is_some()).collect();
    for key in &given {
        let path = path.child(key);
        match (*key, &attribute[*key]) {
            ("string" | "version", Value::String(value)) => {
                text_value(value, *key == "version", &path, errors)
            }
            (_, Value::Array(values)) if values.is_empty() => {
                errors.push(FieldError::invalid(
                    &path,
                    Vec::<Value>::new(),
                    "must not be empty if specified",
                ));
            }
            ("strings" | "versions", Value::Array(values)) => {
                for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
                    text_value(value, *key == "versions", &path.index(index), errors);
                }
            }
            _ => {}
        }
    }
    match given.len() {
        0 => errors.push(FieldError::invalid(path, "", "exactly one value must be specified")),
        1 => {}
        _ => errors.push(FieldError::invalid(path, attribute.clone(), "exactly one value must be specified")),
    }
}

fn text_value(value: &str, is_version: bool, path: &Path, errors: &mut Errors) {
    if is_version && !SEMVER.is_match(value) {
        let detail = "must be a string compatible with semver.org spec 2.0.0";
        errors.push(FieldError::invalid(path, value, detail));
    }
    if value.len() > MAX_VALUE_BYTES {
        errors.push(FieldError::too_long(path, MAX_VALUE_BYTES));
    }
}

fn request_policy(capacity: &Value, policy: &Value, path: &Path, errors: &mut Errors) {
    let (values, range) = (list(policy, "validValues"), get(policy, "validRange"));
    let default = get(policy, "default");
    match (values.is_empty(), range) {
        (false, Some(_)) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.push(FieldError::forbidden(path, detail));
        }
        (true, None) => {}
        (_, range) => {
            let Some(default) = default else {
                let key = if range.is_some() { "validRange" } else { "validValues" };
                let detail = format!("required when {key} is defined");
                errors.push(FieldError::required(&path.child("default"), detail));
                return;
            };
            match range {
                Some(range) => valid_range(capacity, default, range, &path.child("validRange"), errors),
                None => valid_values(capacity, default, values, &path.child("validValues"), errors),
            }
        }
    }
}

fn valid_values(capacity: &Value, default: &Value, values: &[Value], path: &Path, errors: &mut Errors) {
    for (index, pair) in values.windows(2).enumerate() {
        if quantity(&pair[0]) > quantity(&pair[1]) {
            let shown = quantity(&pair[1]).canonical();
            let detail = "values must be sorted in ascending order";
            errors.push(FieldError::invalid(&path.index(index + 1), shown, detail));
        }
    }
    let key = |own: &Value| quantity(own).value().to_string();
    unique(values, MAX_OPTIONS, path, errors, key, |own, path, errors| {
        if quantity(own) > quantity(capacity) {
            let detail = format!("option is larger than capacity value: {}", quantity(capacity).canonical());
            errors.push(FieldError::invalid(path, quantity(own).canonical(), detail));
        }
    });
    if !values.iter().any(|own| quantity(own) == quantity(default)) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(FieldError::invalid(path, quantity(default).canonical(), detail));
    }
}

fn valid_range(capacity: &Value, default: &Value, range: &Value, path: &Path, errors: &mut Errors) {
    let Some(min) = get(range, "min").map(quantity) else {
        errors.push(FieldError::required(&path.child("min"), "required when validRange is defined"));
        return;
    };
    let (capacity, default) = (quantity(capacity), quantity(default));
    let mut invalid = |key: &str, value: &nauplius_meta::quantity::Quantity, detail: String| {
        errors.push(FieldError::invalid(&path.child(key), value.canonical(), detail));
    };
    if min > capacity {
        invalid("min", &min, format!("min is larger than capacity value: {}", capacity.canonical()));
    }
    if default < min {
        invalid("min", &default, format!("default is less than min: {}", min.canonical()));
    }
    let max = get(range, "max").map(quantity);
    if let Some(max) = &max {
        if min > *max {
            invalid("max", &min, format!("min is larger than max: {}", max.canonical()));
        }
        if *max > capacity {
            invalid("max", max, format!("max is larger than capacity value: {}", capacity.canonical()));
        }
        if default > *max {
            invalid("max", &default, format!("default is more than max: {}", max.canonical()));
        }
    }
    let Some(step) = get(range, "step").map(quantity) else { return };
    if step.sign() <= 0 {
        invalid("step", &step, "must be greater than zero".to_owned());
        return;
    }
    let mut first = min.clone();
    first.add(&step);
    if first > capacity {
        let (first, capacity) = (first.canonical(), capacity.canonical());
        invalid("step", &step, format!("one step {first} is larger than capacity value: {capacity}"));
    }
    for value in [Some(default), max].into_iter().flatten() {
        if step.value() != 0 && (value.value() - min.value()) % step.value() != 0 {
            let (step, min) = (step.canonical(), min.canonical());
            invalid("step", &value, format!("value is not a multiple of a given step ({step}) from ({min})"));
        }
    }
}

fn nodes(device: &Value, per_device: bool, path: &Path, errors: &mut Errors) {
    let keys = ["nodeName", "nodeSelector", "allNodes"];
    if !per_device {
        if keys.iter().any(|key| get(device, key).is_some()) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.push(FieldError::invalid(path, Value::Null, detail));
        }
        return;
    }
    let mut set = Vec::new();
    match get(device, "nodeName").and_then(Value::as_str) {
        Some("") => errors.push(FieldError::invalid(&path.child("nodeName"), "", "must not be empty")),
        Some(name) => {
            set.push("`nodeName`");
            messages(names::dns1123_subdomain(name), name, &path.child("nodeName"), errors);
        }
        None => {}
    }
    if let Some(selector) = get(device, "nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(selector, &path.child("nodeSelector"), errors);
    }
    match get(device, "allNodes").and_then(Value::as_bool) {
        Some(true) => set.push("`allNodes`"),
        Some(false) => {
            let detail = "must be either unset or set to true";
            errors.push(FieldError::invalid(&path.child("allNodes"), false, detail));
        }
        None => {}
    }
    match set.len() {
        0 => errors.push(FieldError::required(path, ONE_OF_NODES)),
        1 => {}
        _ => errors.push(FieldError::invalid(path, format!("{{{}}}", set.join(", ")), ONE_OF_NODES)),
    }
}
