//! RoleBinding: who gets a role within a namespace.

use super::{GROUP, binding};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use nauplius_meta::field::FieldError;
use serde_json::Value;

pub(crate) struct RoleBinding(Descriptor);

pub(crate) fn kind() -> RoleBinding {
    let descriptor = describe(GROUP, "v1", "RoleBinding", "rolebindings");
    RoleBinding(descriptor.defaults(binding::set_defaults).done())
}

impl Kind for RoleBinding {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        binding::validate(object, &["Role", "ClusterRole"], true)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        binding::validate_update(new, old, self.validate(new))
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::path_segment(name, prefix)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        binding::columns()
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        binding::cells(object, now_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};
    use serde_json::json;

    fn binding(role: &str) -> Value {
        json!({"roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": "u"},
            {"kind": "Group", "name": "g"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]})
    }

    #[test]
    fn groups_are_filled_and_references_checked() {
        let stored = created(&kind(), binding("view"));
        assert_eq!(stored["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
        assert_eq!(stored["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
        assert!(stored["subjects"][2].get("apiGroup").is_none());
        creation(&kind(), binding("view"), &[]);
        let bad = json!({"roleRef": {"kind": "ClusterRole", "name": "a"}, "subjects": [{"kind": "Robot", "name": ""}]});
        creation(
            &kind(),
            bad,
            &[
                "subjects[0].name: Required value",
                "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ],
        );
    }

    #[test]
    fn the_role_stays() {
        updated(
            &kind(),
            &binding("view"),
            binding("edit"),
            &[
                "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"edit\"}: \
             cannot change roleRef",
            ],
        );
    }

    #[test]
    fn the_row_shows_who() {
        row(&kind(), binding("view"), json!(["x", "ClusterRole/view", "75s", "u", "g", "n/s"]));
    }
}
