//! The embedded runtime's server side: it implements CRI over shims, namespaces, overlays and cgroups, and adopts what earlier
//! processes have left running. It must not know Kubernetes: a sandbox is a sandbox.

mod calls;
mod command;
mod containers;
mod copy_tree;
mod devices;
mod events;
mod exec;
mod follow;
mod image_root;
mod image_volumes;
mod images;
mod mounts;
mod namespaces;
mod network;
mod plan;
mod registry;
mod sandboxes;
mod shim_client;
mod stats;
mod status;
mod streaming;
mod terminal;
mod users;

pub use network::{Addresses, NetworkError, PortMapping, Protocol, SandboxInfo, SandboxNetwork};

use crate::cgroup::Layout;
use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_cri::CriError;
use nauplius_cri::v1::ContainerEventResponse;
use nauplius_images::{ImageStore, Registries};
pub use registry::sandbox_metadata;
use registry::{Registry, Sandbox};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// How a runtime is set up.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Where sandboxes and containers live. On a file system that overlayfs accepts as upper.
    pub state_dir: PathBuf,
    /// The cgroup that is wholly ours: `/nauplius/<cluster>`. Containers whose sandbox names no parent go below it, and
    /// [`Runtime::destroy_all`] removes it.
    pub cgroup_root: String,
    /// The program that runs as `<program> shim DIRECTORY`; its `main` must call [`crate::shim_main`] then.
    pub program: PathBuf,
    /// What `Version` tells.
    pub version: String,
    /// Limits for every container, by `RLIMIT_*` number: soft and hard. Others are inherited.
    pub rlimits: Vec<(u32, u64, u64)>,
}

/// Why the runtime cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A file or directory of the state.
    #[error("runtime state {}: {}", path.display(), nauplius_base::errno::words(source))]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The machine's cgroups.
    #[error("{0}")]
    Cgroups(String),
    /// Something is left after everything was destroyed.
    #[error("not everything could be removed: {}", .0.join("; "))]
    Leftovers(Vec<String>),
}

/// The embedded runtime; clones are the same one. Dropping it leaves containers running for the next process to adopt.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    options: RuntimeOptions,
    layout: Layout,
    images: ImageStore,
    registries: Registries,
    network: Arc<dyn SandboxNetwork>,
    /// The pinned program.
    program: PathBuf,
    /// The bounding set of this process.
    capabilities: u64,
    oom_floor: i32,
    registry: Mutex<Registry>,
    /// Moves whenever a container's state changes.
    changed: watch::Sender<()>,
    events: broadcast::Sender<ContainerEventResponse>,
    streaming: streaming::Tickets,
    token: CancellationToken,
}

impl Runtime {
    /// Opens the runtime over its state directory: adopts running containers, learns how others ended, and removes what a crash left half
    /// made. It serves until `token` is cancelled; containers run on after that.
    ///
    /// # Errors
    /// [`RuntimeError`] when the state directory, the cgroups or the streaming socket cannot be used.
    pub async fn open(
        options: RuntimeOptions,
        images: ImageStore,
        registries: Registries,
        network: Arc<dyn SandboxNetwork>,
        token: CancellationToken,
    ) -> Result<Self, RuntimeError> {
        let layout = Layout::detect().map_err(|error| RuntimeError::Cgroups(error.to_string()))?;
        let state = |source| RuntimeError::State { path: options.state_dir.clone(), source };
        for directory in ["sandboxes", "containers", "empty"] {
            std::fs::create_dir_all(options.state_dir.join(directory)).map_err(state)?;
        }
        let program =
            namespaces::pin_program(&options.program, &options.state_dir.join("bin")).map_err(state)?;
        let (capabilities, oom_floor) = own_limits().map_err(state)?;
        let (streaming, listener) = streaming::listen().await.map_err(state)?;
        let inner = Arc::new(Inner {
            layout,
            images,
            registries,
            network,
            program,
            capabilities,
            oom_floor,
            registry: Mutex::default(),
            changed: watch::Sender::new(()),
            events: broadcast::Sender::new(events::QUEUE),
            streaming,
            token,
            options,
        });
        inner.adopt().await?;
        streaming::serve(&inner, listener);
        Ok(Self(inner))
    }

    /// Removes every sandbox and container, and everything else that the runtime has made on this machine. The runtime is of no use
    /// afterwards.
    ///
    /// # Errors
    /// [`RuntimeError::Leftovers`] lists what could not be removed.
    pub async fn destroy_all(&self) -> Result<(), RuntimeError> {
        let mut leftovers = Vec::new();
        let sandboxes: Vec<String> = self.0.read(|registry| registry.sandboxes.keys().cloned().collect());
        for id in sandboxes {
            if let Err(error) = self.0.remove_sandbox(&id).await {
                leftovers.push(format!("sandbox {id}: {}", error.message));
            }
        }
        self.0.token.cancel();
        let inner = Arc::clone(&self.0);
        leftovers.extend(blocking(move || Ok(inner.destroy_files())).await.map_err(cri_to_leftovers)?);
        if leftovers.is_empty() { Ok(()) } else { Err(RuntimeError::Leftovers(leftovers)) }
    }
}

/// Takes away what only running sandboxes of the runtime in `state_dir` need from the machine. None may run, and no server.
///
/// # Errors
/// When it cannot be unmounted.
pub fn release_programs(state_dir: &std::path::Path) -> std::io::Result<()> {
    namespaces::unpin_programs(&state_dir.join("bin"))
}

/// Removes the empty cgroups of a runtime whose root is `cgroup_root`. Nothing of it may run, and no server.
///
/// # Errors
/// [`RuntimeError::Cgroups`] when something runs in one of them still.
pub fn release_cgroups(cgroup_root: &str) -> Result<(), RuntimeError> {
    let removed = Layout::detect().and_then(|layout| layout.remove_with_parents(cgroup_root));
    removed.map_err(|error| RuntimeError::Cgroups(error.to_string()))
}

/// Ends whatever runs in the cgroups of a runtime whose files are damaged or gone, and lets go of what is mounted below its directory. No server
/// may run, nor any of its shims.
///
/// # Errors
/// When something cannot be unmounted, or runs still.
pub fn end_by_force(state_dir: &std::path::Path, cgroup_root: &str) -> Result<(), RuntimeError> {
    let layout = Layout::detect().map_err(|error| RuntimeError::Cgroups(error.to_string()))?;
    layout.kill_tree(cgroup_root);
    let unmounted = namespaces::unmount_below(state_dir);
    unmounted.map_err(|source| RuntimeError::State { path: state_dir.to_owned(), source })?;
    release_cgroups(cgroup_root)
}

fn cri_to_leftovers(error: CriError) -> RuntimeError {
    RuntimeError::Leftovers(vec![error.message])
}

impl Inner {
    /// Looks at the registry. The lock lasts as long as the closure.
    fn read<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the registry.
    fn write<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        change(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.options.state_dir.join("sandboxes").join(id)
    }

    fn container_dir(&self, id: &str) -> PathBuf {
        self.options.state_dir.join("containers").join(id)
    }

    /// The file of a sandbox's network namespace; `None` for the host's.
    fn netns(&self, sandbox: &Sandbox) -> Option<PathBuf> {
        (!sandbox.record.host_network).then(|| self.sandbox_dir(&sandbox.record.id).join("ns/net"))
    }

    /// Waits until `done` holds or the time is over; says which.
    async fn wait_until(&self, timeout: Duration, done: impl Fn(&Registry) -> bool) -> bool {
        let mut changed = self.changed.subscribe();
        let deadline = time::monotonic() + timeout;
        loop {
            changed.mark_unchanged();
            if self.read(&done) {
                return true;
            }
            let left = deadline.saturating_duration_since(time::monotonic());
            // The sender lives as long as self, so this only ends by a change or the time.
            if time::timeout(left, changed.changed()).await.is_err() {
                return self.read(&done);
            }
        }
    }

    fn destroy_files(&self) -> Vec<String> {
        let mut leftovers = Vec::new();
        let mut note = |what: &str, outcome: Result<(), String>| {
            if let Err(error) = outcome {
                leftovers.push(format!("{what}: {error}"));
            }
        };
        let directory = &self.options.state_dir;
        let unpinned = namespaces::unpin_programs(&directory.join("bin"));
        note("bin", unpinned.map_err(|error| error.to_string()));
        note(
            "cgroup",
            self.layout.remove_with_parents(&self.options.cgroup_root).map_err(|error| error.to_string()),
        );
        note("state", std::fs::remove_dir_all(directory).map_err(|error| error.to_string()));
        leftovers
    }
}

/// Runs work that blocks on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CriError> + Send + 'static,
) -> Result<T, CriError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CriError::unknown(format!("a worker failed: {error}")))?
}

/// An error of the machine under CRI's least specific code, with what was being done.
fn failed(doing: &str) -> impl Fn(std::io::Error) -> CriError + '_ {
    move |error| CriError::unknown(format!("failed to {doing}: {error}"))
}

/// The bounding set of this process, and the lowest `oom_score_adj` that its children may have.
fn own_limits() -> std::io::Result<(u64, i32)> {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let capabilities = bounding.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0); // Never malformed.
    let own = std::fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse().unwrap_or(0); // Nor this.
    Ok((capabilities, if capabilities & CAP_SYS_RESOURCE == 0 { own } else { -1000 }))
}
