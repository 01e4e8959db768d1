//! RoleBinding: who gets a role within a namespace.

use super::GROUP;
use super::binding::Binding;
use crate::describe::describe;

pub(crate) fn kind() -> Binding {
    Binding::new(describe(GROUP, "v1", "RoleBinding", "rolebindings"), &["Role", "ClusterRole"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};
    use serde_json::{Value, json};

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
