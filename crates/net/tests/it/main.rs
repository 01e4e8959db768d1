//! The pod network, the service dataplane and DNS against the real kernel, in network namespaces of their own.

mod bridge;
mod components;
mod dns;
mod host_ports;
mod proxy;
mod world;
