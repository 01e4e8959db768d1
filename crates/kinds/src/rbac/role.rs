//! Role: rules within a namespace.

use super::{GROUP, rule};
use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use nauplius_meta::field::FieldError;
use serde_json::Value;

pub(crate) struct Role(Descriptor);

pub(crate) fn kind() -> Role {
    Role(describe(GROUP, "v1", "Role", "roles").done())
}

impl Kind for Role {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rule::validate(object, true, &mut errors);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{creation, row, updated};
    use serde_json::json;

    #[test]
    fn rules_are_complete() {
        creation(
            &kind(),
            json!({"rules": [{}]}),
            &[
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ],
        );
        updated(
            &kind(),
            &json!({}),
            json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
            &[
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ],
        );
        creation(
            &kind(),
            json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
            &[],
        );
        assert!(kind().validate_name("system:node", false).is_empty());
    }

    #[test]
    fn the_row_has_the_moment_of_creation() {
        row(&kind(), json!({}), json!(["x", "1970-01-12T13:46:40Z"]));
    }
}
