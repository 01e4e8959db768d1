//! Pod network, service dataplane and cluster DNS: snapshots of the API's objects become rules and answers. What is pure (which
//! endpoint, which rule, which record) stands apart from what acts (netlink, sockets). Nothing here knows the store
//! or the container runtime.

pub mod bridge;
pub mod dns;
mod health;
pub mod host_ports;
pub mod proxy;
mod run;
mod snapshot;

pub use run::{ClusterDns, Proxy, ProxyConfig};
