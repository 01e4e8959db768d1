//! What a kubelet is told by whoever wires it. Plain data.

use crate::eviction::Settings;
use nauplius_kinds::api::core::Taint;
use rustls::server::ResolvesServerCert;
use rustls_pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that a kubelet needs to know and cannot find out.
#[derive(Debug)]
pub struct Config {
    /// The node's name; the client speaks as `system:node:<name>`.
    pub node_name: String,
    /// The node's address.
    pub node_ip: IpAddr,
    /// Volumes and the like are below `<root_dir>/pods/<uid>`.
    pub root_dir: PathBuf,
    /// Logs are below `<log_dir>/<namespace>_<name>_<uid>`.
    pub log_dir: PathBuf,
    /// Of the HTTPS server; 0 takes any free one.
    pub port: u16,
    /// Addresses of cluster DNS.
    pub cluster_dns: Vec<IpAddr>,
    /// `cluster.local`
    pub cluster_domain: String,
    /// Where pods' cgroups are: `/nauplius/<cluster>/kubepods`.
    pub cgroup_root: String,
    /// Gives the server's certificate: whoever wires this renews it.
    pub serving: Arc<dyn ResolvesServerCert>,
    /// Clients whose certificates these sign are who the certificate says.
    pub client_ca: Vec<CertificateDer<'static>>,
    /// How many pods may run.
    pub max_pods: u32,
    /// `v1.37.0`
    pub version: String,
    /// Labels of the node beside the well-known ones, at registration.
    pub labels: BTreeMap<String, String>,
    /// Taints of the node, at registration.
    pub taints: Vec<Taint>,
    /// From when on the node is short of something.
    pub eviction: Settings,
}
