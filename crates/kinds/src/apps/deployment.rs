//! Deployment: replica sets, one for each template there was.

use super::{immutable_selector, template_warnings, validate_collisions, validate_replicas};
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Context, Descriptor, Kind, carry, keep_content};
use crate::pod_template::default_template;
use crate::table::{self, container_cells, container_columns, string, wide};
use crate::tree::{at, child, count, default, get, number, same, set, text};
use crate::{label_selector, name};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct Deployment(Descriptor);

pub(crate) fn kind() -> Deployment {
    let descriptor = describe("apps", "v1", "Deployment", "deployments").short(&["deploy"]).in_all();
    Deployment(descriptor.defaults(set_defaults).scale().status().done())
}

fn set_defaults(object: &mut Value) {
    let spec = child(object, "spec");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    let strategy = child(spec, "strategy");
    default(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = child(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", "25%");
        default(rolling, "maxSurge", "25%");
    }
    default_template(object);
}

impl Kind for Deployment {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "status");
        // Annotations move the generation, too: they go on to the replica sets.
        let moved =
            new.get("spec") != old.get("spec") || !same(&new["metadata"], &old["metadata"], "annotations");
        let generation = count(&old["metadata"], "generation") + i64::from(moved);
        set(&mut new["metadata"], "generation", generation);
    }

    fn tracked(&self, subresource: &str) -> Filter {
        match subresource {
            "" => Filter::Exclude(&[&["status"]]),
            "status" => Filter::Exclude(&[&["spec"], &["metadata", "labels"]]),
            _ => Filter::ALL,
        }
    }

    fn prepare_subresource_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        keep_content(new, old);
        carry(&mut new["metadata"], &old["metadata"], "labels");
        carry(&mut new["metadata"], &old["metadata"], "generation");
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        gates::of_template()
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        check::nonnegative(spec, "replicas", &path, &mut errors);
        validate_replicas(spec, &mut errors);
        strategy(spec, &path.child("strategy"), &mut errors);
        check::nonnegative(spec, "minReadySeconds", &path, &mut errors);
        check::nonnegative(spec, "revisionHistoryLimit", &path, &mut errors);
        check::nonnegative(spec, "progressDeadlineSeconds", &path, &mut errors);
        if let Some(deadline_s) = number(spec, "progressDeadlineSeconds")
            && deadline_s <= count(spec, "minReadySeconds")
        {
            let detail = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid(&path.child("progressDeadlineSeconds"), deadline_s, detail));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        immutable_selector(new, old, &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (status, old_status, path) = (&new["status"], &old["status"], Path::new("status"));
        check::nonnegative(status, "unavailableReplicas", &path, &mut errors);
        check::nonnegative(status, "collisionCount", &path, &mut errors);
        check::nonnegative(status, "terminatingReplicas", &path, &mut errors);
        let counts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
        check::replica_counts(status, &counts, &path, &mut errors);
        validate_collisions(status, old_status, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        template_warnings(new, old)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![
            table::name(),
            string("Ready", "How many of the wanted pods are ready."),
            string("Up-to-date", "How many pods have the newest template."),
            string("Available", "How many pods have been ready long enough."),
            table::age(),
            containers,
            images,
            wide(string("Selector", "The labels of its pods.")),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let [containers, images] = container_cells(at(spec, &["template", "spec"]));
        vec![
            table::name_cell(object),
            format!("{}/{}", count(status, "readyReplicas"), count(spec, "replicas")).into(),
            count(status, "updatedReplicas").into(),
            count(status, "availableReplicas").into(),
            table::age_cell(object, now_s),
            containers,
            images,
            label_selector::format(&spec["selector"]).into(),
        ]
    }
}

fn strategy(spec: &Value, path: &Path, errors: &mut Errors) {
    let strategy = &spec["strategy"];
    let rolling = get(strategy, "rollingUpdate");
    match (text(strategy, "type"), rolling) {
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(&path.child("rollingUpdate"), detail));
        }
        ("Recreate", None) => {}
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, &path.child("rollingUpdate"), errors),
        ("RollingUpdate", None) => {
            let detail = "this should be defaulted and never be nil";
            errors.push(FieldError::required(&path.child("rollingUpdate"), detail));
        }
        _ => errors.push(FieldError::not_supported(path, strategy.clone(), &["Recreate", "RollingUpdate"])),
    }
}

fn rolling_update(rolling: &Value, path: &Path, errors: &mut Errors) {
    let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
    let unavailable_path = path.child("maxUnavailable");
    check::positive_int_or_percent(unavailable, &unavailable_path, errors);
    check::positive_int_or_percent(surge, &path.child("maxSurge"), errors);
    if check::int_or_percent(unavailable) == 0 && check::int_or_percent(surge) == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(&unavailable_path, unavailable.clone(), detail));
    }
    check::at_most_100_percent(unavailable, &unavailable_path, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, context, created, creation, row, subresource, updated};
    use serde_json::json;

    fn deployment(spec: Value) -> Value {
        let mut deployment = json!({"metadata": {"name": "x"}, "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container("c")]}},
        }});
        for (key, value) in spec.as_object().into_iter().flatten() {
            deployment["spec"][key] = value.clone();
        }
        deployment
    }

    #[test]
    fn a_small_deployment_is_filled() {
        let stored = created(&kind(), deployment(json!({})));
        let spec = &stored["spec"];
        assert_eq!((&spec["replicas"], &spec["revisionHistoryLimit"]), (&json!(1), &json!(10)));
        assert_eq!(spec["progressDeadlineSeconds"], 600);
        let strategy =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
        assert_eq!(spec["strategy"], strategy);
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
        assert_eq!((&stored["metadata"]["generation"], &stored["status"]), (&json!(1), &json!({})));
        assert_eq!(kind().validate(&stored), []);
    }

    #[test]
    fn wrong_deployments_are_refused() {
        creation(
            &kind(),
            deployment(json!({"replicas": -1})),
            &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        );
        creation(
            &kind(),
            deployment(json!({"selector": {"matchLabels": {"app": "b"}}})),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
            ],
        );
        creation(
            &kind(),
            deployment(json!({"selector": {}})),
            &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        );
        creation(
            &kind(),
            deployment(json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}})),
            &[
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        );
        let zero = json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}});
        creation(
            &kind(),
            deployment(zero),
            &[
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            ],
        );
        creation(
            &kind(),
            deployment(json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5})),
            &["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
        );
        let mut once = deployment(json!({}));
        once["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
        creation(
            &kind(),
            once,
            &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
        );
    }

    #[test]
    fn the_selector_stays() {
        let old = deployment(json!({}));
        let mut new = deployment(json!({"selector": {"matchLabels": {"app": "b"}}}));
        new["spec"]["template"]["metadata"]["labels"]["app"] = "b".into();
        updated(
            &kind(),
            &old,
            new,
            &["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"],
        );
        updated(&kind(), &old, deployment(json!({"replicas": 3})), &[]);
    }

    #[test]
    fn generations_count_specs_and_annotations() {
        let old = created(&kind(), deployment(json!({})));
        let generation = |change: fn(&mut Value)| {
            let mut new = old.clone();
            change(&mut new);
            kind().prepare_update(&context(None), &mut new, &old);
            new["metadata"]["generation"].clone()
        };
        assert_eq!(generation(|_| ()), 1);
        assert_eq!(generation(|new| new["spec"]["replicas"] = json!(2)), 2);
        assert_eq!(generation(|new| new["metadata"]["annotations"] = json!({"a": "b"})), 2);
        assert_eq!(generation(|new| new["metadata"]["labels"] = json!({"a": "b"})), 1);
        assert_eq!(generation(|new| new["status"] = json!({"replicas": 2})), 1);
    }

    #[test]
    fn counts_of_a_status_fit() {
        let old = created(&kind(), deployment(json!({})));
        let mut new = old.clone();
        new["status"] = json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 1});
        subresource(
            &kind(),
            "status",
            &old,
            new,
            &["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
        );
    }

    #[test]
    fn the_row_counts() {
        let mut object = deployment(json!({"replicas": 3}));
        object["status"] = json!({"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2});
        row(&kind(), object, json!(["x", "2/3", 1, 2, "75s", "c", "demo:1", "app=a"]));
    }
}
