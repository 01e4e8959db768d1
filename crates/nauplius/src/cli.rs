//! The command line: what a person can ask for, and the flags that name a cluster.

use crate::node_ports::NodePorts;
use crate::registry_login::LoginArgs;
use clap::{Args, Parser, Subcommand};
use ipnet::Ipv4Net;
use nauplius_apiserver::KUBERNETES_VERSION;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Ours, and that of the API.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (Kubernetes {KUBERNETES_VERSION})", env!("CARGO_PKG_VERSION")));

/// Run Kubernetes on this machine: `nauplius up` makes a cluster that kubectl can use.
#[derive(Debug, Parser)]
#[command(name = "nauplius", version = VERSION.as_str(), arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster is meant.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// The cluster's name: its kubeconfig context, links, tables and cgroups carry it.
    #[arg(long, default_value = "nauplius", global = true)]
    pub name: String,
    /// Where the cluster keeps its state [default: /var/lib/nauplius/NAME].
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
}

/// What a new cluster may be told; one that exists keeps what it has.
#[derive(Debug, Clone, Default, Args)]
pub struct NewClusterArgs {
    /// Port of the API server [default: 6443, or the next free one when other clusters live here].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Range of service addresses [default: 10.96.0.0/12, or the next free one].
    #[arg(long, value_name = "CIDR", value_parser = range)]
    pub service_cidr: Option<Ipv4Net>,
    /// Range of pod addresses [default: 10.244.0.0/16, or the next free one].
    #[arg(long, value_name = "CIDR", value_parser = range)]
    pub pod_cidr: Option<Ipv4Net>,
    /// Ports for services of type NodePort [default: 30000-32767, or the next free range of that size below it].
    #[arg(long, value_name = "FIRST-LAST")]
    pub service_node_port_range: Option<NodePorts>,
    /// The address that the node and the API server are known by [default: that of the default route].
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<std::net::Ipv4Addr>,
    /// The node's name [default: the host's name].
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Who signs service account tokens, as an address below which outsiders find the OpenID documents; given again, tokens of
    /// these are accepted, too [default: https://kubernetes.default.svc.cluster.local].
    #[arg(long, value_name = "URL")]
    pub service_account_issuer: Vec<String>,
    /// Where the OpenID document says that the tokens' keys are [default: the API server's own address].
    #[arg(long, value_name = "URL")]
    pub service_account_jwks_uri: Option<String>,
    /// Which beta versions of the API are served, too: `GROUP/VERSION=true`, `api/beta=true`; given again or with commas [default: none].
    #[arg(long, value_name = "SETTINGS")]
    pub runtime_config: Vec<String>,
    /// How long certificates live, at least 30 seconds; they are renewed with a third of it left [default: a year].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(30..))]
    pub certificate_lifetime_s: Option<u64>,
    /// Where the cluster's state is kept, if not in its data directory.
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// From when on its node is short of something.
    #[command(flatten)]
    pub eviction: EvictionArgs,
}

/// From when on the node is short of something, in upstream's flags.
#[derive(Debug, Clone, Default, Args)]
pub struct EvictionArgs {
    /// When pods end at once, for example `memory.available<5%,nodefs.available<1Gi` [default: memory.available<100Mi,nodefs.available<1Gi,nodefs.inodesFree<1%].
    #[arg(long, value_name = "SIGNALS")]
    pub eviction_hard: Option<String>,
    /// When pods end after a grace period [default: never].
    #[arg(long, value_name = "SIGNALS")]
    pub eviction_soft: Option<String>,
    /// How long each soft threshold may be met, for example `memory.available=1m30s`.
    #[arg(long, value_name = "TIMES")]
    pub eviction_soft_grace_period: Option<String>,
    /// How much more than its threshold is won back, for example `nodefs.available=500Mi` [default: nothing].
    #[arg(long, value_name = "AMOUNTS")]
    pub eviction_minimum_reclaim: Option<String>,
}

/// An etcd cluster that keeps the state, in upstream's flags.
#[derive(Debug, Clone, Default, Args)]
pub struct EtcdArgs {
    /// Keep the state in etcd v3 at these http(s) addresses, comma separated [default: in the data directory].
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// The CA of etcd's certificates [default: the well-known ones].
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// Our certificate for etcd.
    #[arg(long, value_name = "FILE")]
    pub etcd_certfile: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, value_name = "FILE")]
    pub etcd_keyfile: Option<PathBuf>,
    /// What all keys in etcd begin with [default: /registry].
    #[arg(long, value_name = "PREFIX")]
    pub etcd_prefix: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring a cluster up and return when it works.
    Up {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// What a new one may be told.
        #[command(flatten)]
        new: NewClusterArgs,
    },
    /// Run a cluster in the foreground, for a service manager; logs to standard error.
    Server {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// What a new one may be told.
        #[command(flatten)]
        new: NewClusterArgs,
        /// `text` or `json`.
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        log_format: LogFormat,
        /// Write progress as JSON lines to standard output.
        #[arg(long, hide = true)]
        progress: bool,
    },
    /// Show each component's health, versions and memory.
    Status {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop a cluster and its containers; its state stays for the next `up`.
    Down {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Stop a cluster and remove everything it ever made on this machine.
    Delete {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Remove its keys from etcd, too, where it keeps its state there.
        #[arg(long)]
        etcd_keys: bool,
    },
    /// Work with the images of a running cluster.
    Image {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// What to do.
        #[command(subcommand)]
        action: ImageAction,
    },
    /// Measure a cluster: `up` time, pod start latency, idle memory, or any API server's speed.
    Bench {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// What to measure.
        #[command(subcommand)]
        what: BenchWhat,
    },
    /// Write everything that the cluster's store holds into a file, while it runs or while it is down.
    Backup {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// The file to make.
        file: PathBuf,
    },
    /// Replace what a cluster's store holds by a backup; the cluster must be down, and is made when there is none.
    Restore {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// What a new one may be told.
        #[command(flatten)]
        new: NewClusterArgs,
        /// The backup.
        file: PathBuf,
    },
    /// Look after a cluster's store.
    Store {
        /// Which cluster.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// What to do.
        #[command(subcommand)]
        action: StoreAction,
    },
    /// Serve the demo application (what the demo image runs).
    #[command(hide = true)]
    Demo,
}

/// What can be done to a store.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum StoreAction {
    /// Verify checksums and indexes, and say what is wrong.
    Check,
}

/// Image commands.
#[derive(Debug, Subcommand)]
pub enum ImageAction {
    /// Load images from an archive (`docker save` or an OCI layout).
    Load {
        /// The archive; `-` is standard input.
        archive: PathBuf,
    },
    /// List images.
    List,
    /// Remove an image.
    Remove {
        /// Name, digest or id.
        image: String,
    },
    /// Pull an image from its registry.
    Pull {
        /// The reference.
        image: String,
        #[command(flatten)]
        login: LoginArgs,
    },
}

/// Benchmarks.
#[derive(Debug, Subcommand)]
pub enum BenchWhat {
    /// Time `up` of a fresh cluster until it works.
    Up {
        /// How often.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
    /// Time from the POST's answer to the watch event with phase Running.
    Pod {
        /// How often.
        #[arg(long, default_value_t = 20)]
        rounds: u32,
        /// The image, which must be present.
        #[arg(long, default_value = crate::demo_image::REFERENCE)]
        image: String,
    },
    /// Memory (PSS) of every process of the cluster, now and with more pods.
    Idle {
        /// Seconds to wait first.
        #[arg(long, default_value_t = 60)]
        wait_s: u64,
        /// How many pods to add for the figure per pod; 0 leaves it out.
        #[arg(long, default_value_t = 10)]
        pods: u32,
    },
    /// Load any API server (this cluster's, or that of --kubeconfig): writes, gets, lists, watches, and what they cost it.
    Api {
        /// What to measure and how.
        #[command(flatten)]
        api: Box<nauplius_bench::ApiArgs>,
    },
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// A range of addresses, with words for what is wrong with it.
fn range(text: &str) -> Result<Ipv4Net, String> {
    if text.contains(':') {
        return Err("only IPv4 is supported".to_owned());
    }
    let Some((address, length)) = text.split_once('/') else {
        return Err("/LENGTH is missing, as in 10.96.0.0/12".to_owned());
    };
    let address: Ipv4Addr = address.parse().map_err(|_| format!("{address:?} is no IPv4 address"))?;
    let length = length.parse().ok().and_then(|length| Ipv4Net::new(address, length).ok());
    length.ok_or_else(|| "/LENGTH is out of range: it is from 0 to 32".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn wrong_flags_are_told_what_is_wrong() {
        for (flag, expected) in [
            ("--service-cidr=10.0.0.0", "/LENGTH is missing, as in 10.96.0.0/12"),
            ("--service-cidr=10.0.0.0/33", "/LENGTH is out of range: it is from 0 to 32"),
            ("--service-cidr=10.0.0.0/x", "/LENGTH is out of range: it is from 0 to 32"),
            ("--service-cidr=10.0.0/8", "\"10.0.0\" is no IPv4 address"),
            ("--pod-cidr=fd00::/64", "only IPv4 is supported"),
            ("--port=99999", "99999 is not in 1..=65535"),
            ("--port=0", "0 is not in 1..=65535"),
            ("--certificate-lifetime-s=29", "29 is not in 30.."),
        ] {
            let refused = Cli::try_parse_from(["nauplius", "up", flag]).unwrap_err().to_string();
            let (name, value) = flag.split_once('=').unwrap();
            assert!(
                refused.starts_with(&format!("error: invalid value '{value}' for '{name} <")),
                "{refused}"
            );
            assert!(refused.contains(expected), "{expected:?} is not in {refused}");
        }
        assert_eq!(range("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn help_is_written_for_users() {
        let mut command = Cli::command();
        let version = command.render_version();
        assert_eq!(version, format!("nauplius {} (Kubernetes v1.37.0)\n", env!("CARGO_PKG_VERSION")));
        let help = command.render_help().to_string();
        assert!(help.starts_with("Run Kubernetes on this machine: `nauplius up` makes"), "{help}");
        let up = command.find_subcommand_mut("up").unwrap().render_help().to_string();
        assert!(up.contains("How long certificates live, at least 30 seconds"), "{up}");
    }
}
