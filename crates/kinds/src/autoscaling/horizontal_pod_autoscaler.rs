//! HorizontalPodAutoscaler: how many pods a workload has, by what is measured of them. v2 is the hub; v1 shows a part of it and
//! keeps the rest in annotations.

use super::annotations;
use super::metric::{self, ApiVersion};
use crate::check::{self, Errors, NOT_POSITIVE};
use crate::describe::describe;
use crate::kind::{Column, Context, Descriptor, Kind, carry, content_differs};
use crate::name;
use crate::resource::{canonicalize_value, quantity};
use crate::table::{self, string};
use crate::tree::{child, count, default, each, get, is_unset, list, number, set, text, with};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

const GROUP: &str = "autoscaling";
const CPU_PERCENT: i64 = 80;
const MAX_PERIOD_S: i64 = 1800;
const MAX_WINDOW_S: i64 = 3600;

pub(crate) struct HorizontalPodAutoscaler(Descriptor);

pub(crate) fn kind() -> HorizontalPodAutoscaler {
    let descriptor = describe(GROUP, "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers");
    let descriptor = descriptor.short(&["hpa"]).in_all().defaults(set_defaults);
    let descriptor = descriptor.version("v1").defaults(set_older_defaults);
    let descriptor = descriptor.converted(to_hub, annotations::to_older).status();
    HorizontalPodAutoscaler(descriptor.done())
}

fn to_hub(object: &mut Value) {
    annotations::to_newer(object);
    default_behavior(child(object, "spec"));
}

fn set_older_defaults(object: &mut Value) {
    default(child(object, "spec"), "minReplicas", 1);
    if !annotations::has_metrics(object) {
        set(child(object, "spec"), "targetCPUUtilizationPercentage", CPU_PERCENT);
    }
}

fn set_defaults(object: &mut Value) {
    let spec = child(object, "spec");
    default(spec, "minReplicas", 1);
    if list(spec, "metrics").is_empty() {
        let target = json!({"type": "Utilization", "averageUtilization": CPU_PERCENT});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        set(spec, "metrics", vec![metric]);
    }
    each(spec, "metrics", |metric| {
        for key in ["object", "pods", "resource", "containerResource", "external"] {
            with(metric, key, |source| with(source, "target", canonical_target));
        }
    });
    default_behavior(spec);
}

fn canonical_target(target: &mut Value) {
    ["value", "averageValue"].iter().for_each(|key| canonicalize_value(target, key));
}

/// Rules that are written in part are completed.
fn default_behavior(spec: &mut Value) {
    with(spec, "behavior", |behavior| {
        with(behavior, "scaleUp", |rules| {
            default(rules, "stabilizationWindowSeconds", 0);
            let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
            let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
            default_rules(rules, vec![pods, percent]);
        });
        with(behavior, "scaleDown", |rules| {
            default_rules(rules, vec![json!({"type": "Percent", "value": 100, "periodSeconds": 15})]);
        });
    });
}

fn default_rules(rules: &mut Value, policies: Vec<Value>) {
    default(rules, "selectPolicy", "Max");
    if get(rules, "policies").is_none() {
        set(rules, "policies", policies);
    }
}

impl Kind for HorizontalPodAutoscaler {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn initial_status(&self, _object: &Value) -> Value {
        json!({"desiredReplicas": 0, "currentMetrics": null})
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "status");
        // Generations came late to this kind: an object without one starts to count with its first change.
        if content_differs(new, old) {
            let generation = count(&old["metadata"], "generation");
            set(child(new, "metadata"), "generation", generation + 1);
        } else {
            carry(child(new, "metadata"), &old["metadata"], "generation");
        }
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate_spec(&object["spec"], None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate_spec(&new["spec"], Some(&old["spec"]))
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let conditions = Path::new("status").child("conditions");
        for (index, condition) in list(&new["status"], "conditions").iter().enumerate() {
            check::nonnegative(condition, "observedGeneration", &conditions.index(index), &mut errors);
        }
        for key in ["currentReplicas", "desiredReplicas"] {
            check::nonnegative(&new["status"], key, &Path::new("status"), &mut errors);
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Reference", "What it scales."),
            string("Targets", "What is measured, and what is wanted."),
            string("MinPods", "How many pods there are at least."),
            string("MaxPods", "How many pods there are at most."),
            string("Replicas", "How many pods there are."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let target = &spec["scaleTargetRef"];
        let least =
            number(spec, "minReplicas").map_or_else(|| "<unset>".to_owned(), |count| count.to_string());
        vec![
            table::name_cell(object),
            format!("{}/{}", text(target, "kind"), text(target, "name")).into(),
            targets(list(spec, "metrics"), list(status, "currentMetrics")).into(),
            least.into(),
            count(spec, "maxReplicas").into(),
            count(status, "currentReplicas").into(),
            table::age_cell(object, now_s),
        ]
    }
}

/// What the target of a spec may say of its version; one that stays is not looked at again.
fn of_target(spec: &Value, old: Option<&Value>) -> ApiVersion {
    let target = &spec["scaleTargetRef"];
    let stays = |old: &Value| {
        ["apiVersion", "kind"].iter().all(|key| text(&old["scaleTargetRef"], key) == text(target, key))
    };
    match text(target, "kind") {
        _ if old.is_some_and(stays) => ApiVersion::Any,
        "ReplicationController" => ApiVersion::Valid,
        _ => ApiVersion::Grouped,
    }
}

fn validate_spec(spec: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let (min, max) = (number(spec, "minReplicas"), count(spec, "maxReplicas"));
    check::nonnegative(spec, "minReplicas", &path, &mut errors);
    let max_path = path.child("maxReplicas");
    match max {
        0 => errors.push(FieldError::required(&max_path, "must be set and greater than 0")),
        max if max < 0 => {
            errors.push(FieldError::invalid(&max_path, max, "must be greater than or equal to 1"));
        }
        _ => {}
    }
    if min.is_some_and(|min| max < min) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(&max_path, max, detail));
    }
    let target = &spec["scaleTargetRef"];
    metric::reference(target, of_target(spec, old), &path.child("scaleTargetRef"), &mut errors);
    metrics(spec, min, metric::of_objects(old), &path.child("metrics"), &mut errors);
    for key in ["scaleUp", "scaleDown"] {
        if let Some(rules) = get(&spec["behavior"], key) {
            scaling_rules(rules, &path.child("behavior").child(key), &mut errors);
        }
    }
    errors
}

fn metrics(spec: &Value, min: Option<i64>, objects: ApiVersion, path: &Path, errors: &mut Errors) {
    let metrics = list(spec, "metrics");
    for (index, metric) in metrics.iter().enumerate() {
        metric::validate(metric, objects, &path.index(index), errors);
    }
    let outside = metrics.iter().any(|metric| ["Object", "External"].contains(&text(metric, "type")));
    if min == Some(0) && !outside {
        let detail =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn scaling_rules(rules: &Value, path: &Path, errors: &mut Errors) {
    let window = path.child("stabilizationWindowSeconds");
    match number(rules, "stabilizationWindowSeconds") {
        Some(seconds) if seconds < 0 => {
            errors.push(FieldError::invalid(&window, seconds, "must be greater than or equal to zero"));
        }
        Some(seconds) if seconds > MAX_WINDOW_S => {
            let detail = format!("must be less than or equal to {MAX_WINDOW_S}");
            errors.push(FieldError::invalid(&window, seconds, detail));
        }
        _ => {}
    }
    check::one_of_if_set(rules, "selectPolicy", &["Disabled", "Max", "Min"], path, errors);
    let policies = path.child("policies");
    if is_unset(rules, "policies") {
        errors.push(FieldError::required(&policies, "must specify at least one Policy"));
    }
    for (index, policy) in list(rules, "policies").iter().enumerate() {
        scaling_policy(policy, &policies.index(index), errors);
    }
    let tolerance = get(rules, "tolerance").map(quantity);
    if let Some(tolerance) = tolerance.filter(|tolerance| tolerance.sign() < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child("tolerance"), tolerance.canonical(), detail));
    }
}

fn scaling_policy(policy: &Value, path: &Path, errors: &mut Errors) {
    let types = ["Percent", "Pods"];
    if !types.contains(&text(policy, "type")) {
        errors.push(FieldError::not_supported(&path.child("type"), text(policy, "type"), &types));
    }
    for key in ["value", "periodSeconds"] {
        if count(policy, key) <= 0 {
            errors.push(FieldError::invalid(&path.child(key), count(policy, key), NOT_POSITIVE));
        }
    }
    let period = count(policy, "periodSeconds");
    if period > MAX_PERIOD_S {
        let detail = format!("must be less than or equal to {MAX_PERIOD_S}");
        errors.push(FieldError::invalid(&path.child("periodSeconds"), period, detail));
    }
}

/// What is measured and wanted, of at most two metrics.
fn targets(wanted: &[Value], measured: &[Value]) -> String {
    const MAX: usize = 2;
    if wanted.is_empty() {
        return "<none>".to_owned();
    }
    let shown: Vec<_> = wanted
        .iter()
        .take(MAX)
        .enumerate()
        .map(|(index, metric)| shown(metric, measured.get(index).unwrap_or(&Value::Null)))
        .collect();
    let line = shown.join(", ");
    match wanted.len().checked_sub(MAX) {
        Some(more) if more > 0 => format!("{line} + {more} more..."),
        _ => line,
    }
}

fn shown(metric: &Value, measured: &Value) -> String {
    let key = match text(metric, "type") {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&metric[key]["target"], &measured[key]["current"]);
    let amount = |object: &Value, field: &str| get(object, field).map(|value| quantity(value).canonical());
    let unknown = || "<unknown>".to_owned();
    match key {
        "pods" => {
            let now = amount(current, "averageValue").unwrap_or_else(unknown);
            format!("{now}/{}", amount(target, "averageValue").unwrap_or_default())
        }
        "object" | "external" => {
            let average = amount(target, "averageValue");
            let now = amount(current, if average.is_some() { "averageValue" } else { "value" });
            let now = now.unwrap_or_else(unknown);
            match average {
                Some(average) => format!("{now}/{average} (avg)"),
                None => format!("{now}/{}", amount(target, "value").unwrap_or_else(|| "<auto>".to_owned())),
            }
        }
        _ => {
            let name = text(&metric[key], "name");
            if let Some(average) = amount(target, "averageValue") {
                let now = amount(current, "averageValue").unwrap_or_else(unknown);
                return format!("{name}: {now}/{average}");
            }
            let part = |object: &Value| number(object, "averageUtilization").map(|part| format!("{part}%"));
            let now = part(current).unwrap_or_else(unknown);
            format!("{name}: {now}/{}", part(target).unwrap_or_else(|| "<auto>".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(older: Value, newer: Value) {
        let mut object = older.clone();
        set_older_defaults(&mut object);
        to_hub(&mut object);
        assert_eq!(object, newer, "to v2");
        annotations::to_older(&mut object);
        assert_eq!(object, older, "and back");
    }

    #[test]
    fn cpu_has_a_field_in_the_older_version() {
        let target = json!({"type": "Utilization", "averageUtilization": 50});
        check(
            json!({"metadata": {}, "spec": {"minReplicas": 1, "targetCPUUtilizationPercentage": 50}, "status": {"desiredReplicas": 0}}),
            json!({"metadata": {}, "spec": {"minReplicas": 1, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]},
                "status": {"desiredReplicas": 0}}),
        );
    }

    #[test]
    fn the_rest_is_kept_in_annotations() {
        let metric = json!({"type": "Pods", "pods": {"metric": {"name": "packets"}, "target": {"type": "AverageValue", "averageValue": "1k"}}});
        let mut newer = json!({"metadata": {}, "spec": {"metrics": [metric], "behavior": {"scaleDown": {"selectPolicy": "Min",
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}}, "status": {"desiredReplicas": 1,
            "conditions": [{"type": "AbleToScale", "status": "True"}]}});
        let before = newer.clone();
        annotations::to_older(&mut newer);
        let annotations = &newer["metadata"]["annotations"];
        let kept = r#"[{"pods":{"metricName":"packets","targetAverageValue":"1k"},"type":"Pods"}]"#;
        assert_eq!(annotations["autoscaling.alpha.kubernetes.io/metrics"], kept);
        to_hub(&mut newer);
        assert_eq!(newer, before);
    }
}
