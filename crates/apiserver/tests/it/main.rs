//! The API server in process, over the embedded store and over the model.

mod admission;
mod bootstrap;
mod consistency;
mod crud;
mod discovery;
mod encodings;
mod followed;
mod hooks;
mod identities;
mod kubectl;
mod kubectl_auth;
mod lists;
mod network;
mod odd;
mod openapi;
mod operation;
mod patches;
mod pod_subresources;
mod proxying;
mod rbac;
mod secured;
mod support;
mod tokens;
mod typed;
mod watch_streams;
mod watches;
