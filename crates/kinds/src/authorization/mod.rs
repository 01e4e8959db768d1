//! The kinds of the group authorization.k8s.io.

pub(crate) mod local_subject_access_review;
pub(crate) mod self_subject_access_review;
pub(crate) mod self_subject_rules_review;
mod spec;
pub(crate) mod subject_access_review;

const GROUP: &str = "authorization.k8s.io";
