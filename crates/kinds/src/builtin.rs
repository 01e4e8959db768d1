//! The list of the kinds that are served without any definition. It knows no more of a kind than its module.

use crate::kind::Kind;
use crate::{
    apps, authentication, authorization, coordination, core, discovery, networking, policy, rbac, scheduling,
};
use std::sync::Arc;

/// The built-in kinds, in no order that matters.
pub fn builtin() -> Vec<Arc<dyn Kind>> {
    vec![
        Arc::new(core::config_map::kind()),
        Arc::new(core::endpoints::kind()),
        Arc::new(core::event::kind()),
        Arc::new(core::event::newer_kind()),
        Arc::new(core::namespace::kind()),
        Arc::new(core::node::kind()),
        Arc::new(core::pod::kind()),
        Arc::new(core::pod_template::kind()),
        Arc::new(core::secret::kind()),
        Arc::new(core::service::kind()),
        Arc::new(core::service_account::kind()),
        Arc::new(apps::deployment::kind()),
        Arc::new(apps::replica_set::kind()),
        Arc::new(rbac::cluster_role::kind()),
        Arc::new(rbac::cluster_role_binding::kind()),
        Arc::new(rbac::role::kind()),
        Arc::new(authentication::self_subject_review::kind()),
        Arc::new(authentication::token_review::kind()),
        Arc::new(authorization::local_subject_access_review::kind()),
        Arc::new(authorization::self_subject_access_review::kind()),
        Arc::new(authorization::self_subject_rules_review::kind()),
        Arc::new(authorization::subject_access_review::kind()),
        Arc::new(coordination::lease::kind()),
        Arc::new(discovery::endpoint_slice::kind()),
        Arc::new(networking::ip_address::kind()),
        Arc::new(networking::service_cidr::kind()),
        Arc::new(policy::pod_disruption_budget::kind()),
        Arc::new(rbac::role_binding::kind()),
        Arc::new(scheduling::priority_class::kind()),
    ]
}

/// Kinds whose rules are here but on which no component acts yet: to serve one would promise what nobody keeps. Each moves
/// to [`builtin`] with the component that gives it its meaning.
pub fn prepared() -> Vec<Arc<dyn Kind>> {
    vec![
        Arc::new(core::limit_range::kind()),
        Arc::new(core::persistent_volume_claim::kind()),
        Arc::new(core::replication_controller::kind()),
        Arc::new(core::resource_quota::kind()),
        Arc::new(apps::controller_revision::kind()),
        Arc::new(apps::daemon_set::kind()),
        Arc::new(apps::stateful_set::kind()),
    ]
}
