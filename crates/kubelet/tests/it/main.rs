//! A kubelet between a scripted API server and containers that are small state machines.

mod api;
mod lifecycle;
mod runtime;
mod server;
mod world;
