//! The seam to whoever connects sandboxes to a network. The runtime makes the network namespace; the other side puts links and
//! addresses into it. It must not know how.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One sandbox, as a network needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxInfo {
    /// The sandbox's id.
    pub id: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// A file that stands for the network namespace. At a detach it may be gone already, after a reboot for example.
    pub netns: PathBuf,
    /// Ports of the host that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
}

/// A port of the host that leads to a port of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The pod's port.
    pub container_port: u16,
    /// The host's port.
    pub host_port: u16,
    /// The host's address; all addresses when absent.
    pub host_ip: Option<IpAddr>,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// Addresses of a pod, the primary one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses(pub Vec<IpAddr>);

/// Why a sandbox could not be connected or disconnected.
#[derive(Debug, thiserror::Error)]
#[error("failed to setup network for sandbox {sandbox:?}: {reason}")]
pub struct NetworkError {
    /// The sandbox.
    pub sandbox: String,
    /// For people.
    pub reason: String,
}

/// Connects sandboxes. Called on threads that may block; calls for one sandbox do not overlap.
pub trait SandboxNetwork: Send + Sync {
    /// Puts links, addresses and routes into a fresh namespace whose loopback is up.
    ///
    /// # Errors
    /// When it cannot; it has then left nothing behind.
    fn attach(&self, sandbox: &SandboxInfo) -> Result<Addresses, NetworkError>;

    /// Takes everything back. Idempotent, also for sandboxes that were never attached.
    ///
    /// # Errors
    /// When something is left; it is tried again.
    fn detach(&self, sandbox: &SandboxInfo) -> Result<(), NetworkError>;

    /// Whether pods can be connected now; the error is why not, for the `NetworkReady` condition. Asked every few seconds: whoever can mend
    /// what is broken does so here.
    ///
    /// # Errors
    /// The reason, for people.
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    /// The range that the cluster gave this node for pods.
    fn pod_cidr(&self, _cidr: &str) {}
}

impl SandboxInfo {
    /// Whether the namespace is still there.
    pub fn has_namespace(&self) -> bool {
        Path::new(&self.netns).exists()
    }
}
