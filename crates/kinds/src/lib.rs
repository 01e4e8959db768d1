//! Every resource kind of the API, each in one file: descriptor, defaulting, validation, table columns and update strategy,
//! and the typed form that components read. It never does I/O: what needs other objects happens in the API server's hooks.

mod admissionregistration;
pub mod api;
pub mod apiextensions;
pub mod apiregistration;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
mod body;
mod builtin;
mod certificates;
mod check;
mod conditions;
mod coordination;
mod core;
pub mod deployment;
mod describe;
mod discovery;
pub mod duration;
pub mod flowcontrol;
mod gates;
pub mod kind;
mod label_selector;
pub mod labels;
mod name;
mod networking;
pub mod node;
mod nodes;
pub mod object;
mod pem;
pub mod pod;
mod pod_requests;
mod pod_template;
mod policy;
mod rbac;
mod resource;
mod resources;
mod review;
mod runtime_config;
mod scale_table;
mod scheduling;
mod storage;
mod storagemigration;
mod table;
#[cfg(test)]
mod testing;
pub mod toleration;
mod tree;
mod warnings;
mod webhook_client;

pub use body::{default_body, validate_body};
pub use builtin::{builtin, serving};
pub use certificates::certificate_signing_request::csr_organizations;
pub use core::pod::{BindError, bind as bind_pod, validate_binding};

pub use api::apps::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
pub use api::authentication::{SelfSubjectReview, TokenRequest, TokenReview};
pub use api::authorization::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
pub use api::autoscaling::Scale as ScaleBody;
pub use api::certificates::CertificateSigningRequest;
pub use api::coordination::Lease;
pub use api::core::{
    Binding, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
    PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service,
    ServiceAccount,
};
pub use api::discovery::EndpointSlice;
pub use api::networking::{IPAddress, ServiceCIDR};
pub use api::policy::{Eviction, PodDisruptionBudget};
pub use api::rbac::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
pub use api::scheduling::PriorityClass;
pub use gates::{FieldPath, drop_gated};
pub use kind::{Column, Context, Descriptor, Kind, Scale, Subresource, Verbs, Version};
pub use object::{DecodeError, Object, Page, RawList, RawWatchEvent, split_list, split_watch_event};
pub use pod_requests::{Resources, pod_totals, resource_list};
pub use runtime_config::{RuntimeConfig, RuntimeConfigError};
pub use scale_table::{scale_cells, scale_columns};
