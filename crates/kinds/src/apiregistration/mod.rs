//! The kind of the group apiregistration.k8s.io, and the objects that stand for what this server serves itself.

pub(crate) mod api_service;
pub mod local;

const GROUP: &str = "apiregistration.k8s.io";
