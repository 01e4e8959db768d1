//! The kinds of the group rbac.authorization.k8s.io. Who may what is decided elsewhere.

mod binding;
pub(crate) mod cluster_role;
pub(crate) mod cluster_role_binding;
pub(crate) mod role;
pub(crate) mod role_binding;
mod rule;

/// The name of the group.
const GROUP: &str = "rbac.authorization.k8s.io";
