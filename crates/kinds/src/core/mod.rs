//! The kinds of the core group.

pub(crate) mod component_status;
pub(crate) mod config_map;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod limit_range;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod persistent_volume;
pub(crate) mod persistent_volume_claim;
mod persistent_volume_source;
pub(crate) mod pod;
mod pod_cells;
pub(crate) mod pod_diff;
mod pod_resize;
mod pod_status;
pub(crate) mod pod_template;
mod pod_update;
pub(crate) mod replication_controller;
pub(crate) mod resource_quota;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_account;
mod service_cells;
mod service_rules;
mod service_update;
mod service_warnings;
