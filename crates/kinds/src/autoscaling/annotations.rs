//! What autoscaling/v1 has no fields for it keeps in annotations, as JSON with the names and shapes that the version before v2
//! had. It turns one form into the other, and checks nothing.

use crate::tree::{child, each, get, list, number, remove, set, text};
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ALL: [&str; 4] = [METRICS, CURRENT, CONDITIONS, BEHAVIOR];

/// Moves a field to another name.
fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(value) = remove(object, from).filter(|value| !value.is_null()) {
        set(object, to, value);
    }
}

/// The utilization of cpu, which v1 has a field for.
fn is_cpu_utilization(metric: &Value, target: &str) -> bool {
    text(metric, "type") == "Resource"
        && text(&metric["resource"], "name") == "cpu"
        && get(&metric["resource"][target], "averageUtilization").is_some()
}

/// From v2 to v1.
pub(super) fn to_older(object: &mut Value) {
    let mut kept = Map::new();
    let spec = child(object, "spec");
    let metrics = remove(spec, "metrics").unwrap_or_default();
    let mut others = Vec::new();
    for metric in metrics.as_array().into_iter().flatten() {
        if is_cpu_utilization(metric, "target") && get(spec, "targetCPUUtilizationPercentage").is_none() {
            let part = metric["resource"]["target"]["averageUtilization"].clone();
            set(spec, "targetCPUUtilizationPercentage", part);
        } else {
            others.push(older_metric(metric));
        }
    }
    keep(&mut kept, METRICS, Value::from(others));
    keep(&mut kept, BEHAVIOR, older_behavior(remove(spec, "behavior").unwrap_or_default()));
    let mut others = Vec::new();
    let mut none = Value::Null;
    let status = object.get_mut("status").unwrap_or(&mut none);
    let current = remove(status, "currentMetrics").unwrap_or_default();
    for metric in current.as_array().into_iter().flatten() {
        if is_cpu_utilization(metric, "current") && get(status, "currentCPUUtilizationPercentage").is_none() {
            let part = metric["resource"]["current"]["averageUtilization"].clone();
            set(status, "currentCPUUtilizationPercentage", part);
        }
        others.push(older_current(metric));
    }
    keep(&mut kept, CURRENT, Value::from(others));
    keep(&mut kept, CONDITIONS, remove(status, "conditions").unwrap_or_default());
    if !kept.is_empty() {
        let annotations = child(child(object, "metadata"), "annotations");
        kept.into_iter().for_each(|(key, value)| set(annotations, &key, value));
    }
}

/// Keeps what is not empty as text.
fn keep(kept: &mut Map<String, Value>, key: &str, value: Value) {
    let is_empty = match &value {
        Value::Array(items) => items.is_empty(),
        other => other.is_null(),
    };
    if !is_empty {
        kept.insert(key.to_owned(), value.to_string().into());
    }
}

/// From v1 to v2.
pub(super) fn to_newer(object: &mut Value) {
    let [metrics, current, conditions, behavior] = ALL.map(|key| take(object, key));
    let spec = child(object, "spec");
    let mut all: Vec<Value> = metrics.as_array().into_iter().flatten().map(newer_metric).collect();
    if let Some(part) = remove(spec, "targetCPUUtilizationPercentage").filter(|part| !part.is_null()) {
        let target = json!({"type": "Utilization", "averageUtilization": part});
        all.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if !all.is_empty() {
        set(spec, "metrics", all);
    }
    if behavior.is_object() {
        set(spec, "behavior", newer_behavior(behavior));
    }
    if get(object, "status").is_none() && current.is_null() && conditions.is_null() {
        return;
    }
    let status = child(object, "status");
    let part = remove(status, "currentCPUUtilizationPercentage").filter(|part| !part.is_null());
    let mut all: Vec<Value> = current.as_array().into_iter().flatten().map(newer_current).collect();
    let has_cpu = all.iter().any(|metric| is_cpu_utilization(metric, "current"));
    if let Some(part) = part.filter(|_| !has_cpu) {
        let current = json!({"averageUtilization": part});
        all.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": current}}));
    }
    if !all.is_empty() {
        set(status, "currentMetrics", all);
    }
    if conditions.as_array().is_some_and(|conditions| !conditions.is_empty()) {
        set(status, "conditions", conditions);
    }
}

/// Takes an annotation away. One that is no JSON of that shape is dropped, as upstream does.
fn take(object: &mut Value, key: &str) -> Value {
    let Some(annotations) = object.pointer_mut("/metadata/annotations") else { return Value::Null };
    let text = remove(annotations, key).unwrap_or_default();
    if annotations.as_object().is_some_and(Map::is_empty) {
        remove(&mut object["metadata"], "annotations");
    }
    text.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn older_behavior(behavior: Value) -> Value {
    let mut older = behavior;
    for (from, to) in [("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown")] {
        if let Some(rules) = older.get_mut(from) {
            rename(rules, "stabilizationWindowSeconds", "StabilizationWindowSeconds");
            rename(rules, "selectPolicy", "SelectPolicy");
            each(rules, "policies", |policy| {
                [("type", "Type"), ("value", "Value"), ("periodSeconds", "PeriodSeconds")]
                    .iter()
                    .for_each(|(from, to)| rename(policy, from, to));
            });
            rename(rules, "policies", "Policies");
            rename(rules, "tolerance", "Tolerance");
        }
        rename(&mut older, from, to);
    }
    older
}

fn newer_behavior(behavior: Value) -> Value {
    lower_first(behavior)
}

/// The same with every field beginning in lower case.
fn lower_first(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let lower = |key: String| {
                let mut characters = key.chars();
                let first =
                    characters.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
                first + characters.as_str()
            };
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (lower(key), lower_first(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(items) => items.into_iter().map(lower_first).collect(),
        other => other,
    }
}

fn put(object: &mut Value, key: &str, value: &Value) {
    if !value.is_null() {
        set(object, key, value.clone());
    }
}

/// A metric in the form that the annotation has.
fn older_metric(metric: &Value) -> Value {
    let mut older = json!({"type": metric["type"]});
    for key in ["object", "pods", "resource", "containerResource", "external"] {
        let Some(source) = get(metric, key) else { continue };
        let (own, target) = (&source["metric"], &source["target"]);
        let mut flat = json!({});
        match key {
            "object" => {
                put(&mut flat, "target", &source["describedObject"]);
                put(&mut flat, "metricName", &own["name"]);
                put(&mut flat, "targetValue", get(target, "value").unwrap_or(&json!("0")));
                put(&mut flat, "averageValue", &target["averageValue"]);
                put(&mut flat, "selector", &own["selector"]);
            }
            "pods" => {
                put(&mut flat, "metricName", &own["name"]);
                put(&mut flat, "targetAverageValue", get(target, "averageValue").unwrap_or(&json!("0")));
                put(&mut flat, "selector", &own["selector"]);
            }
            "external" => {
                put(&mut flat, "metricName", &own["name"]);
                put(&mut flat, "metricSelector", &own["selector"]);
                put(&mut flat, "targetValue", &target["value"]);
                put(&mut flat, "targetAverageValue", &target["averageValue"]);
            }
            _ => {
                put(&mut flat, "name", &source["name"]);
                put(&mut flat, "container", &source["container"]);
                put(&mut flat, "targetAverageUtilization", &target["averageUtilization"]);
                put(&mut flat, "targetAverageValue", &target["averageValue"]);
            }
        }
        set(&mut older, key, flat);
    }
    older
}

/// The way back. An object's value of zero was none.
fn newer_metric(metric: &Value) -> Value {
    let mut newer = json!({"type": metric["type"]});
    for key in ["object", "pods", "resource", "containerResource", "external"] {
        let Some(flat) = get(metric, key) else { continue };
        let (mut source, mut own, mut target) = (json!({}), json!({}), json!({}));
        put(&mut own, "name", &flat["metricName"]);
        put(&mut own, "selector", get(flat, "metricSelector").unwrap_or(&flat["selector"]));
        let average = get(flat, "targetAverageValue").unwrap_or(&flat["averageValue"]);
        put(&mut target, "averageValue", average);
        put(&mut target, "averageUtilization", &flat["targetAverageUtilization"]);
        let value = get(flat, "targetValue").filter(|value| !(key == "object" && **value == "0"));
        put(&mut target, "value", value.unwrap_or(&Value::Null));
        let type_ = match (value.is_some(), get(flat, "targetAverageUtilization").is_some()) {
            (true, _) if average.is_null() => "Value",
            (_, true) => "Utilization",
            _ => "AverageValue",
        };
        set(&mut target, "type", type_);
        if key == "object" {
            put(&mut source, "describedObject", &flat["target"]);
        }
        if ["resource", "containerResource"].contains(&key) {
            put(&mut source, "name", &flat["name"]);
            put(&mut source, "container", &flat["container"]);
        } else {
            set(&mut source, "metric", own);
        }
        set(&mut source, "target", target);
        set(&mut newer, key, source);
    }
    newer
}

fn older_current(metric: &Value) -> Value {
    let mut older = json!({"type": metric["type"]});
    for key in ["object", "pods", "resource", "containerResource", "external"] {
        let Some(source) = get(metric, key) else { continue };
        let (own, current) = (&source["metric"], &source["current"]);
        let mut flat = json!({});
        match key {
            "object" => {
                put(&mut flat, "target", &source["describedObject"]);
                put(&mut flat, "metricName", &own["name"]);
                put(&mut flat, "currentValue", get(current, "value").unwrap_or(&json!("0")));
                put(&mut flat, "averageValue", &current["averageValue"]);
                put(&mut flat, "selector", &own["selector"]);
            }
            "pods" => {
                put(&mut flat, "metricName", &own["name"]);
                put(&mut flat, "currentAverageValue", get(current, "averageValue").unwrap_or(&json!("0")));
                put(&mut flat, "selector", &own["selector"]);
            }
            "external" => {
                put(&mut flat, "metricName", &own["name"]);
                put(&mut flat, "metricSelector", &own["selector"]);
                put(&mut flat, "currentValue", get(current, "value").unwrap_or(&json!("0")));
                put(&mut flat, "currentAverageValue", &current["averageValue"]);
            }
            _ => {
                put(&mut flat, "name", &source["name"]);
                put(&mut flat, "container", &source["container"]);
                put(&mut flat, "currentAverageUtilization", &current["averageUtilization"]);
                put(&mut flat, "currentAverageValue", get(current, "averageValue").unwrap_or(&json!("0")));
            }
        }
        set(&mut older, key, flat);
    }
    older
}

fn newer_current(metric: &Value) -> Value {
    let mut newer = json!({"type": metric["type"]});
    for key in ["object", "pods", "resource", "containerResource", "external"] {
        let Some(flat) = get(metric, key) else { continue };
        let (mut source, mut own, mut current) = (json!({}), json!({}), json!({}));
        put(&mut own, "name", &flat["metricName"]);
        put(&mut own, "selector", get(flat, "metricSelector").unwrap_or(&flat["selector"]));
        put(&mut current, "value", &flat["currentValue"]);
        put(&mut current, "averageValue", get(flat, "currentAverageValue").unwrap_or(&flat["averageValue"]));
        put(&mut current, "averageUtilization", &flat["currentAverageUtilization"]);
        if key == "object" {
            put(&mut source, "describedObject", &flat["target"]);
        }
        if ["resource", "containerResource"].contains(&key) {
            put(&mut source, "name", &flat["name"]);
            put(&mut source, "container", &flat["container"]);
        } else {
            set(&mut source, "metric", own);
        }
        set(&mut source, "current", current);
        set(&mut newer, key, source);
    }
    newer
}

/// Whether v1's own defaults are to be added: nobody said what to scale by.
pub(super) fn has_metrics(object: &Value) -> bool {
    let annotation = text(&object["metadata"]["annotations"], METRICS);
    number(&object["spec"], "targetCPUUtilizationPercentage").is_some()
        || (!annotation.is_empty() && annotation != "[]")
        || !list(&object["spec"], "metrics").is_empty()
}
