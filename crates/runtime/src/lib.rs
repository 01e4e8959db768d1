//! The embedded container runtime: CRI over namespaces, cgroups, overlayfs and one small shim process for each pod. The shim
//! half ([`shim_main`]) is single-threaded and knows nothing of the server half ([`Runtime`]); between them lies a socket. Nothing
//! here knows Kubernetes.

mod capabilities;
mod cgroup;
mod seccomp;
mod server;
mod shim;
mod spec;
mod sys;
mod wire;

pub use server::{
    Addresses, NetworkError, PortMapping, Protocol, Runtime, RuntimeError, RuntimeOptions, SandboxInfo,
    SandboxNetwork, end_by_force, release_cgroups, release_programs, sandbox_metadata,
};
pub use shim::shim_main;
