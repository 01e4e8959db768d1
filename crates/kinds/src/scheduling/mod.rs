//! The kinds of the group scheduling.k8s.io.

mod group;
pub(crate) mod pod_group;
pub(crate) mod priority_class;
pub(crate) mod workload;
