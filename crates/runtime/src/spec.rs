//! What a shim is told about a container: everything already resolved to numbers, host paths and plain steps. Both sides of the
//! shim's socket read these, possibly from different releases, so fields are only added and have defaults. Nothing here
//! knows CRI.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One container, ready to run. Stored as `spec.json` in the container's directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerSpec {
    pub id: String,
    pub namespaces: Namespaces,
    pub rootfs: Rootfs,
    /// In the order in which they are made.
    pub mounts: Vec<Mount>,
    pub devices: Vec<DeviceNode>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub process: Process,
    /// The files (v1: one for each hierarchy) that a process of the container writes `0` into.
    pub cgroup_entries: Vec<PathBuf>,
    /// `memory.oom_control` or `memory.events`: where the kernel counts OOM kills.
    pub oom_counter: Option<PathBuf>,
    pub stdin: bool,
    pub stdin_once: bool,
    pub log_path: Option<PathBuf>,
}

/// Where a container's namespaces come from. An absent path means the host's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Namespaces {
    pub network: Option<PathBuf>,
    pub ipc: Option<PathBuf>,
    pub uts: Option<PathBuf>,
    pub pid: PidNamespace,
    /// As [`ContainerSpec::cgroup_entries`], for the first process of the pod's shared pid namespace.
    pub pause_cgroup_entries: Vec<PathBuf>,
}

/// Whose processes a container sees.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum PidNamespace {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// The pod's, which the shim holds open with a small init process.
    Pod,
    /// Another container's of the same pod.
    Target(String),
}

/// The overlay that becomes `/`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rootfs {
    /// Topmost first.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// An empty directory on the host: the mount point in the container's own mount namespace.
    pub target: PathBuf,
    pub readonly: bool,
}

/// One mount below the root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// The path in the container.
    pub target: String,
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum MountKind {
    /// A file or directory of the host, with the mounts below it.
    Bind { source: PathBuf, read_only: ReadOnly, propagation: Propagation },
    /// A new filesystem; options without a value are flags.
    New { filesystem: String, options: Vec<(String, Option<String>)>, attributes: u32 },
}

/// How far a bind mount is read-only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadOnly {
    #[default]
    No,
    /// The mount itself, not the mounts below it.
    Top,
    /// With everything below it.
    Recursive,
}

/// Which mounts made later cross the border.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// A device node to make in `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceNode {
    /// The path in the container.
    pub path: String,
    pub block: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// The first process of a container, or a command executed in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Process {
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub capabilities: Capabilities,
    pub no_new_privs: bool,
    pub rlimits: Vec<Rlimit>,
    pub oom_score_adj: Option<i32>,
    pub tty: bool,
    /// A file with filters as [`crate::seccomp::encode`] writes them.
    pub seccomp: Option<PathBuf>,
}

/// Capability sets as bit masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    pub bounding: u64,
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// A resource limit by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

/// What became of a container. The shim writes it as `state.json` at every change, so that it outlives the shim too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    pub id: String,
    /// The host's number of the first process; 0 before the start.
    pub pid: i32,
    /// Nanoseconds since the epoch; 0 means not yet.
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `Unknown`; empty while it runs.
    pub reason: String,
    pub message: String,
}

impl ContainerState {
    /// Started and not finished.
    pub(crate) fn running(&self) -> bool {
        self.started_at != 0 && self.finished_at == 0
    }
}
