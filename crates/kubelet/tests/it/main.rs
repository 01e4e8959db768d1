//! A kubelet between a scripted API server and containers that are small state machines.

mod api;
mod eviction;
mod lifecycle;
mod runtime;
mod server;
mod world;
