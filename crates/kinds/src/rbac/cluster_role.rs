//! ClusterRole: rules for the whole cluster, or for a namespace by a binding there; it may be the sum of others.

use super::{GROUP, rule};
use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::tree::{get, list};
use crate::{label_selector, name};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct ClusterRole(Descriptor);

pub(crate) fn kind() -> ClusterRole {
    ClusterRole(describe(GROUP, "v1", "ClusterRole", "clusterroles").cluster_scoped().done())
}

impl Kind for ClusterRole {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rule::validate(object, false, &mut errors);
        aggregation(object, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::path_segment(name, prefix)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        rule::columns()
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        rule::cells(object)
    }
}

/// A role that is the sum of others says of which.
fn aggregation(role: &Value, errors: &mut Errors) {
    let Some(rule) = get(role, "aggregationRule") else { return };
    let path = Path::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = list(rule, "clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(&path, detail));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let (path, before) = (path.index(index), errors.len());
        label_selector::validate(selector, &path, errors);
        if errors.len() > before {
            // Upstream also tries to read it, and shows what came of that.
            errors.push(FieldError::invalid(&path, Value::Null, "invalid label selector."));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{creation, row, updated};
    use serde_json::json;

    #[test]
    fn rules_and_aggregation_are_complete() {
        creation(&kind(), json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]}), &[]);
        creation(
            &kind(),
            json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}]}),
            &[
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
            ],
        );
        updated(
            &kind(),
            &json!({}),
            json!({"aggregationRule": {}}),
            &[
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if \
             aggregationRule is non-nil",
            ],
        );
    }

    #[test]
    fn the_row_has_the_moment_of_creation() {
        row(&kind(), json!({}), json!(["x", "1970-01-12T13:46:40Z"]));
    }
}
