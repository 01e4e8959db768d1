//! What every pod's actor shares: the node, its services, and the clients. Nothing in it changes.

use crate::config::Config;
use crate::eviction::Pressure;
use crate::node::network::Readiness;
use crate::pull_records::PullRecords;
use crate::server::probes::ProbeCounts;
use crate::sources::Sources;
use crate::spec::field::NodeFacts;
use crate::spec::{dns, sandbox};
use nauplius_client::Client;
use nauplius_cri::{ImageService, RuntimeService};
use nauplius_kinds::api::core::{Pod, Service};
use nauplius_reconcile::{Informer, Recorder};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::watch;

/// The node, for its pods.
pub struct Context {
    /// What it was told.
    pub config: Config,
    /// As the node.
    pub client: Client,
    /// Sandboxes and containers.
    pub runtime: Arc<dyn RuntimeService>,
    /// Images.
    pub images: Arc<dyn ImageService>,
    /// Events.
    pub recorder: Recorder,
    /// Config maps and secrets.
    pub sources: Sources,
    /// The node's pods, as the API has them.
    pub pods: Informer<Pod>,
    /// All services, for environments.
    pub services: Informer<Service>,
    /// What the machine has.
    pub facts: NodeFacts,
    /// Whether pods can have a network.
    pub network: Readiness,
    /// What the node is short of.
    pub pressure: watch::Receiver<Pressure>,
    /// How often hooks that asked for TLS were run without, for metrics.
    pub hook_fallbacks: AtomicU64,
    /// What probes said, for metrics.
    pub probe_counts: ProbeCounts,
    /// One pull at a time, as upstream by default.
    pub pulls: tokio::sync::Semaphore,
    /// Who pulled what.
    pub pull_records: Arc<PullRecords>,
}

impl Context {
    /// Where seccomp profiles of the node are.
    pub fn seccomp_profiles(&self) -> PathBuf {
        self.config.root_dir.join("seccomp")
    }

    /// Makes the config of a sandbox.
    ///
    /// # Errors
    /// When the hostname cannot be made.
    pub fn sandbox_config(
        &self,
        pod: &nauplius_kinds::api::core::Pod,
        attempt: u32,
    ) -> Result<nauplius_cri::v1::PodSandboxConfig, String> {
        // Without a file there is no host resolver.
        let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let profiles = self.seccomp_profiles();
        let node = sandbox::Node {
            dns: dns::Cluster {
                servers: &self.config.cluster_dns,
                domain: &self.config.cluster_domain,
                host_resolv_conf: &resolv_conf,
            },
            cgroup_root: &self.config.cgroup_root,
            log_root: &self.config.log_dir,
            seccomp_profiles: &profiles,
        };
        sandbox::config(pod, attempt, &node)
    }
}
