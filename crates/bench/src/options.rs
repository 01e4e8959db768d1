//! What can be asked of the benchmark.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Settings of `nauplius bench api`.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// Kubeconfig of the server to measure.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Its context [default: the current one].
    #[arg(long)]
    pub context: Option<String>,
    /// What to measure; startup and pressure run only when they are named, startup with --restart.
    #[arg(long, value_delimiter = ',', default_values_t = [Workload::Writes, Workload::Gets, Workload::Lists, Workload::Watches])]
    pub workloads: Vec<Workload>,
    /// Clients of writes and gets.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 128])]
    pub clients: Vec<usize>,
    /// Sizes of the collections to list.
    #[arg(long, value_delimiter = ',', default_values_t = [5_000, 50_000])]
    pub objects: Vec<usize>,
    /// What the collections are of.
    #[arg(long, value_delimiter = ',', default_values_t = [Resource::Configmaps, Resource::Pods])]
    pub resources: Vec<Resource>,
    /// Clients of lists.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    pub list_clients: Vec<usize>,
    /// Watchers.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000])]
    pub watchers: Vec<usize>,
    /// Events that each watcher waits for.
    #[arg(long, default_value_t = 1_000)]
    pub events: usize,
    /// Clients that make those events.
    #[arg(long, default_value_t = 8)]
    pub writers: usize,
    /// Seconds that each measurement of writes, gets or lists takes.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Objects that the server holds when it starts again.
    #[arg(long, default_value_t = 100_000)]
    pub startup_objects: usize,
    /// Shell command that stops the server and starts it again, for the startup workload.
    #[arg(long, value_name = "COMMAND")]
    pub restart: Option<String>,
    /// Processes of the server, etcd included [default: who listens on the server's port on this machine].
    #[arg(long, value_delimiter = ',', value_name = "PID")]
    pub server_pid: Vec<u32>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// A group of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Creates, updates, patches, applies and deletes of config maps of 1 KB.
    Writes,
    /// Gets of one object.
    Gets,
    /// Lists: whole, paged, selected, plain, gzip, JSON, protobuf.
    Lists,
    /// Deliveries to watchers.
    Watches,
    /// A start over many objects.
    Startup,
    /// Full lists, stalled watchers, many writes and large objects at once.
    Pressure,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Writes => "writes",
            Self::Gets => "gets",
            Self::Lists => "lists",
            Self::Watches => "watches",
            Self::Startup => "startup",
            Self::Pressure => "pressure",
        })
    }
}

/// What a collection is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resource {
    /// Config maps of 1 KB.
    Configmaps,
    /// Pods that no scheduler takes.
    Pods,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Configmaps => "configmaps",
            Self::Pods => "pods",
        })
    }
}
