//! The API server: authentication, authorization, admission, one generic registry for every kind, the watch cache, discovery,
//! OpenAPI and the proxies to kubelets. It must not know any controller; only this crate and the wiring touch the store.

pub mod admission;
pub mod authn;
pub mod authz;
mod body;
pub mod bootstrap;
mod buffers;
pub mod cache;
mod chain;
mod codec;
mod compaction;
pub mod component_status;
mod definitions;
pub mod discovery;
mod dispatch;
mod encode;
pub mod error;
mod frames;
mod gzip;
mod health;
pub mod hooks;
mod metrics;
pub mod negotiate;
pub mod openapi;
pub mod proxy;
mod references;
pub mod registry;
mod render;
pub mod request;
pub mod respond;
pub mod reviews;
pub mod serve;
pub mod server;
mod table;
mod tls_stream;
mod version;
pub mod virtual_resources;
pub mod warning;
mod webhook;
mod zpages;

pub use chain::Limits;
pub use request::UserInfo;
pub use server::{ApiServer, Config, ServiceNetwork, StartError};
pub use version::KUBERNETES_VERSION;
