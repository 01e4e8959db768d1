//! The list of the kinds that are served without any definition. It knows no more of a kind than its module.

use crate::kind::Kind;
use crate::runtime_config::RuntimeConfig;
use crate::{
    admissionregistration, apiextensions, apiregistration, apps, authentication, authorization, autoscaling,
    batch, certificates, coordination, core, discovery, flowcontrol, networking, nodes, policy, rbac,
    resources, scheduling, storage, storagemigration,
};
use std::sync::Arc;

/// The built-in kinds in the versions that upstream serves by default, in no order that matters.
pub fn builtin() -> Vec<Arc<dyn Kind>> {
    serving(&RuntimeConfig::default())
}

/// The built-in kinds in the versions that the configuration asks for.
pub fn serving(config: &RuntimeConfig) -> Vec<Arc<dyn Kind>> {
    let mut kinds: Vec<Arc<dyn Kind>> = vec![
        Arc::new(core::component_status::kind()),
        Arc::new(core::config_map::kind()),
        Arc::new(core::endpoints::kind()),
        Arc::new(core::event::kind()),
        Arc::new(core::event::newer_kind()),
        Arc::new(core::limit_range::kind()),
        Arc::new(core::namespace::kind()),
        Arc::new(core::node::kind()),
        Arc::new(core::persistent_volume::kind()),
        Arc::new(core::persistent_volume_claim::kind()),
        Arc::new(core::pod::kind()),
        Arc::new(core::pod_template::kind()),
        Arc::new(core::replication_controller::kind()),
        Arc::new(core::resource_quota::kind()),
        Arc::new(core::secret::kind()),
        Arc::new(core::service::kind()),
        Arc::new(core::service_account::kind()),
        Arc::new(apiextensions::definition::kind()),
        Arc::new(apps::controller_revision::kind()),
        Arc::new(apps::daemon_set::kind()),
        Arc::new(apps::deployment::kind()),
        Arc::new(apps::replica_set::kind()),
        Arc::new(apps::stateful_set::kind()),
        Arc::new(autoscaling::horizontal_pod_autoscaler::kind()),
        Arc::new(batch::cron_job::kind()),
        Arc::new(batch::job::kind()),
        Arc::new(rbac::cluster_role::kind()),
        Arc::new(rbac::cluster_role_binding::kind()),
        Arc::new(rbac::role::kind()),
        Arc::new(authentication::self_subject_review::kind()),
        Arc::new(authentication::token_review::kind()),
        Arc::new(authorization::local_subject_access_review::kind()),
        Arc::new(authorization::self_subject_access_review::kind()),
        Arc::new(authorization::self_subject_rules_review::kind()),
        Arc::new(authorization::subject_access_review::kind()),
        Arc::new(certificates::certificate_signing_request::kind()),
        Arc::new(certificates::cluster_trust_bundle::kind(config)),
        Arc::new(certificates::pod_certificate_request::kind(config)),
        Arc::new(coordination::lease::kind(config)),
        Arc::new(discovery::endpoint_slice::kind()),
        Arc::new(flowcontrol::flow_schema::kind()),
        Arc::new(flowcontrol::priority_level_configuration::kind()),
        Arc::new(networking::ingress::kind()),
        Arc::new(networking::ingress_class::kind()),
        Arc::new(networking::ip_address::kind()),
        Arc::new(networking::network_policy::kind()),
        Arc::new(networking::service_cidr::kind()),
        Arc::new(nodes::runtime_class::kind()),
        Arc::new(policy::pod_disruption_budget::kind()),
        Arc::new(rbac::role_binding::kind()),
        Arc::new(scheduling::priority_class::kind()),
        Arc::new(storage::csi_driver::kind()),
        Arc::new(storage::csi_node::kind()),
        Arc::new(storage::csi_storage_capacity::kind()),
        Arc::new(storage::storage_class::kind()),
        Arc::new(storage::volume_attachment::kind()),
        Arc::new(storage::volume_attributes_class::kind()),
        Arc::new(admissionregistration::mutating_admission_policy::kind(config)),
        Arc::new(admissionregistration::mutating_admission_policy_binding::kind(config)),
        Arc::new(admissionregistration::mutating_webhook_configuration::kind()),
        Arc::new(admissionregistration::validating_admission_policy::kind()),
        Arc::new(admissionregistration::validating_admission_policy_binding::kind()),
        Arc::new(admissionregistration::validating_webhook_configuration::kind()),
        Arc::new(apiregistration::api_service::kind()),
        Arc::new(resources::device_class::kind(config)),
        Arc::new(resources::device_taint_rule::kind(config)),
        Arc::new(resources::resource_claim::kind(config)),
        Arc::new(resources::resource_claim_template::kind(config)),
        Arc::new(resources::resource_slice::kind(config)),
        Arc::new(storagemigration::storage_version_migration::kind(config)),
    ];
    kinds.extend(coordination::lease_candidate::kind(config).map(|kind| Arc::new(kind) as Arc<dyn Kind>));
    kinds.extend(scheduling::pod_group::kind(config).map(|kind| Arc::new(kind) as Arc<dyn Kind>));
    kinds.extend(scheduling::workload::kind(config).map(|kind| Arc::new(kind) as Arc<dyn Kind>));
    kinds
}
