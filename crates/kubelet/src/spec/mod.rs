//! From a pod's spec to CRI's configs: sandbox, containers, environment, users, limits, names and addresses. Mostly pure; what
//! needs objects of the API gets them handed in.

pub mod apparmor;
pub mod container;
pub mod dns;
pub mod ending;
pub mod env;
pub mod env_file;
pub mod field;
pub mod hosts;
pub mod resources;
pub mod sandbox;
pub mod security;
