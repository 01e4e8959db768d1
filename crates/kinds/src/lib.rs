//! Every resource kind of the API, each in one file: descriptor, defaulting, validation, table columns and update strategy,
//! and the typed form that components read. It never does I/O: what needs other objects happens in the API server's hooks.

pub mod api;
mod apps;
mod builtin;
mod check;
mod core;
mod describe;
pub mod duration;
pub mod kind;
mod label_selector;
mod name;
pub mod object;
mod pod_requests;
mod pod_template;
mod rbac;
mod resource;
mod table;
#[cfg(test)]
mod testing;
mod tree;

pub use builtin::builtin;

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
pub use kind::{Column, Context, Descriptor, Kind, Scale, Subresource, Verbs, Version};
pub use object::{DecodeError, Object, Page, RawList, RawWatchEvent, split_list, split_watch_event};
