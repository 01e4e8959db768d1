//! The kinds of the group autoscaling.

mod annotations;
pub(crate) mod horizontal_pod_autoscaler;
mod metric;
