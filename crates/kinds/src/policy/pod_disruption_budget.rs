//! PodDisruptionBudget: how many of some pods must stay when others are evicted on purpose.

use crate::check::{self, Errors};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::tree::{count, get};
use crate::{conditions, label_selector, name, table};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

pub(crate) struct PodDisruptionBudget(Descriptor);

pub(crate) fn kind() -> PodDisruptionBudget {
    let descriptor = describe("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets");
    PodDisruptionBudget(descriptor.short(&["pdb"]).status().done())
}

impl Kind for PodDisruptionBudget {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn initial_status(&self, _object: &Value) -> Value {
        json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        if get(spec, "minAvailable").is_some() && get(spec, "maxUnavailable").is_some() {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid(&path, spec.clone(), detail));
        }
        for key in ["minAvailable", "maxUnavailable"] {
            if let Some(bound) = get(spec, key) {
                check::positive_int_or_percent(bound, &path.child(key), &mut errors);
                check::at_most_100_percent(bound, &path.child(key), &mut errors);
            }
        }
        if let Some(selector) = get(spec, "selector") {
            label_selector::validate(selector, &path.child("selector"), &mut errors);
        }
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        check::one_of_if_set(spec, "unhealthyPodEvictionPolicy", &policies, &path, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        conditions::validate(&new["status"], &Path::new("status").child("conditions"), &mut errors);
        for key in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            check::nonnegative(&new["status"], key, &Path::new("status"), &mut errors);
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            table::string("Min Available", "How many pods must stay."),
            table::string("Max Unavailable", "How many pods may be gone."),
            table::integer("Allowed Disruptions", "How many pods may be evicted now."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let bound = |key| get(&object["spec"], key).map_or_else(|| "N/A".to_owned(), table::int_or_string);
        vec![
            table::name_cell(object),
            bound("minAvailable").into(),
            bound("maxUnavailable").into(),
            count(&object["status"], "disruptionsAllowed").into(),
            table::age_cell(object, now_s),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, subresource, updated};

    #[test]
    fn bounds_are_one_of_two() {
        let stored = created(&kind(), json!({"spec": {"minAvailable": 1}}));
        assert_eq!(
            (&stored["status"]["expectedPods"], &stored["metadata"]["generation"]),
            (&json!(0), &json!(1))
        );
        creation(
            &kind(),
            json!({"spec": {"minAvailable": 1, "maxUnavailable": 1}}),
            &[
                "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
            ],
        );
        updated(
            &kind(),
            &json!({"spec": {}}),
            json!({"spec": {"minAvailable": "101%"}}),
            &["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"],
        );
        let mut new = stored.clone();
        new["status"]["expectedPods"] = json!(-1);
        subresource(
            &kind(),
            "status",
            &stored,
            new,
            &["status.expectedPods: Invalid value: -1: must be greater than or equal to 0"],
        );
    }

    #[test]
    fn the_row_shows_bounds() {
        let object = json!({"spec": {"maxUnavailable": "50%"}, "status": {"disruptionsAllowed": 2}});
        row(&kind(), object, json!(["x", "N/A", "50%", 2, "75s"]));
    }
}
