//! The Container Runtime Interface, v1: messages, the two service traits, and gRPC adapters for both ends of a unix
//! socket. This crate must not know who implements the traits or who calls them.

mod error;
pub mod grpc;
mod service;

pub use error::{Code, CriError};
pub use service::{BoxFuture, ContainerEvents, ImageService, RuntimeService};

/// The messages, as `proto/cri.proto` defines them.
#[allow(missing_docs, clippy::all, clippy::too_many_lines, clippy::disallowed_methods)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}
