//! The typed API, under short names: the v1 structs of each group, so that other crates take types and codecs from one
//! place. It knows nothing of their rules.

pub use k8s_openapi::ByteString;
pub use k8s_openapi::api::apps::v1 as apps;
pub use k8s_openapi::api::authentication::v1 as authentication;
pub use k8s_openapi::api::authorization::v1 as authorization;
pub use k8s_openapi::api::autoscaling::v1 as autoscaling;
pub use k8s_openapi::api::certificates::v1 as certificates;
pub use k8s_openapi::api::coordination::v1 as coordination;
pub use k8s_openapi::api::core::v1 as core;
pub use k8s_openapi::api::discovery::v1 as discovery;
pub use k8s_openapi::api::events::v1 as events;
pub use k8s_openapi::api::networking::v1 as networking;
pub use k8s_openapi::api::policy::v1 as policy;
pub use k8s_openapi::api::rbac::v1 as rbac;
pub use k8s_openapi::api::scheduling::v1 as scheduling;
pub use k8s_openapi::api::storage::v1 as storage;
pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
pub use k8s_openapi::jiff;
