//! The command line: what a person can ask for, and the flags that name a cluster.

use crate::node_ports::NodePorts;
use crate::registry_login::LoginArgs;
use clap::{Args, Parser, Subcommand};
use ipnet::Ipv4Net;
use std::path::PathBuf;

/// The whole of Kubernetes in one binary.
#[derive(Debug, Parser)]
#[command(name = "nauplius", version, about, arg_required_else_help = true, max_term_width = 100)]
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
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Range of service addresses [default: 10.96.0.0/12, or the next free one].
    #[arg(long, value_name = "CIDR")]
    pub service_cidr: Option<Ipv4Net>,
    /// Range of pod addresses [default: 10.244.0.0/16, or the next free one].
    #[arg(long, value_name = "CIDR")]
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
    /// How long certificates live; they are renewed with a third of it left [default: a year].
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
