//! What the runtime knows: its sandboxes and containers, in memory and, as far as it must outlive the process, in their
//! directories. One short lock, never held across an await. It must not act on anything.

use crate::spec::{ContainerState, PidNamespace};
use nauplius_base::task::CancellationToken;
use nauplius_cri::v1;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

const RECORD_FILE: &str = "record.json";
const CONFIG_FILE: &str = "config.pb";

/// How far a sandbox has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Being made; what a crash leaves in this phase is removed.
    Creating,
    Ready,
    /// Stopped, or found dead; it does not come back.
    Stopped,
}

/// The durable part of a sandbox beside its config.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub id: String,
    pub created_at: i64,
    pub phase: Phase,
    pub host_network: bool,
    pub host_ipc: bool,
    pub addresses: Vec<std::net::IpAddr>,
    pub cgroup_parent: String,
    /// The network was asked to attach and not yet, successfully, to detach.
    pub attached: bool,
}

impl SandboxRecord {
    /// The cgroup of processes that belong to the sandbox and to no container. Made when there are any.
    pub(crate) fn cgroup(&self) -> String {
        format!("{}/{}", self.cgroup_parent.trim_end_matches('/'), self.id)
    }
}

/// A sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub record: SandboxRecord,
    pub config: v1::PodSandboxConfig,
    pub shim_pid: i32,
    /// Ends whoever follows the shim.
    pub token: CancellationToken,
    /// The shim was told to end: that it does is no loss.
    pub ending: bool,
}

/// The durable part of a container beside its config, spec and state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub id: String,
    pub sandbox: String,
    pub created_at: i64,
    pub image_id: String,
    /// A digest reference when the image has one, else its id.
    pub image_ref: String,
    /// Further images that must stay: image volumes.
    pub volumes: Vec<String>,
    pub cgroup: String,
    pub stop_signal: i32,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub pid_namespace: PidNamespace,
    pub privileged: bool,
    /// Of the sandbox's config, for the log's path.
    pub log_directory: String,
}

/// A container.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub record: ContainerRecord,
    pub config: v1::ContainerConfig,
    pub state: ContainerState,
    /// A start is under way.
    pub starting: bool,
    /// The last measurement of CPU time, for the rate: when and how much.
    pub cpu_sample: Option<(i64, u64)>,
}

impl Container {
    /// CRI's word for its state.
    pub(crate) fn cri_state(&self) -> v1::ContainerState {
        match (self.state.started_at, self.state.finished_at) {
            (0, 0) => v1::ContainerState::ContainerCreated,
            (_, 0) => v1::ContainerState::ContainerRunning,
            _ => v1::ContainerState::ContainerExited,
        }
    }
}

impl Sandbox {
    /// CRI's word for its state.
    pub(crate) fn cri_state(&self) -> v1::PodSandboxState {
        match self.record.phase {
            Phase::Ready => v1::PodSandboxState::SandboxReady,
            Phase::Creating | Phase::Stopped => v1::PodSandboxState::SandboxNotready,
        }
    }
}

/// Everything, by id.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub containers: BTreeMap<String, Container>,
}

/// One thing that an id or a unique beginning of one means.
pub(crate) fn find<'a, T>(items: &'a BTreeMap<String, T>, id: &str) -> Option<&'a T> {
    if let Some(exact) = items.get(id) {
        return Some(exact);
    }
    let mut candidates = items.range(id.to_owned()..).take_while(|(known, _)| known.starts_with(id));
    let (_, first) = candidates.next().filter(|_| !id.is_empty())?;
    candidates.next().is_none().then_some(first)
}

impl Registry {
    /// The containers of a sandbox.
    pub(crate) fn containers_of(&self, sandbox: &str) -> impl Iterator<Item = &Container> {
        self.containers.values().filter(move |container| container.record.sandbox == sandbox)
    }
}

/// Writes the config and then, which makes it exist, the record.
pub(crate) fn save<R: Serialize>(directory: &Path, record: &R, config: Option<&[u8]>) -> io::Result<()> {
    if let Some(config) = config {
        std::fs::write(directory.join(CONFIG_FILE), config)?;
    }
    write_atomically(&directory.join(RECORD_FILE), &serde_json::to_vec(record)?)
}

/// Encodes a config for [`save`].
pub(crate) fn encode(config: &impl prost::Message) -> Vec<u8> {
    config.encode_to_vec()
}

/// Reads what [`save`] wrote.
pub(crate) fn load<R: for<'de> Deserialize<'de>, C: prost::Message + Default>(
    directory: &Path,
) -> io::Result<(R, C)> {
    let record = serde_json::from_slice(&std::fs::read(directory.join(RECORD_FILE))?)?;
    let config =
        C::decode(std::fs::read(directory.join(CONFIG_FILE))?.as_slice()).map_err(io::Error::other)?;
    Ok((record, config))
}

/// Whose sandbox lives in this directory, for commands that find a shim without its server.
///
/// # Errors
/// When it cannot be read, or is half made.
pub fn sandbox_metadata(directory: &Path) -> io::Result<v1::PodSandboxMetadata> {
    let (_, config): (SandboxRecord, v1::PodSandboxConfig) = load(directory)?;
    Ok(config.metadata.unwrap_or_default())
}

/// Replaces a file in one step.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::File::create(&temporary)?.write_all(bytes)?;
    std::fs::rename(&temporary, path)
}

/// Reads the state that the shim has written last; a container that was never started has none. A file that a power failure
/// has torn says that it was started, and no more.
pub(crate) fn load_state(directory: &Path, id: &str) -> io::Result<ContainerState> {
    match std::fs::read(directory.join(crate::shim::STATE_FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(container = id, %error, "the state of a container is damaged");
            ContainerState { id: id.to_owned(), started_at: 1, ..ContainerState::default() }
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(ContainerState { id: id.to_owned(), ..ContainerState::default() })
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_states_count_as_started() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load_state(directory.path(), "a").unwrap().started_at, 0);
        std::fs::write(directory.path().join(crate::shim::STATE_FILE), "").unwrap();
        assert!(load_state(directory.path(), "a").unwrap().running());
    }

    #[test]
    fn a_sandbox_says_whose_it_is_without_a_server() {
        let directory = tempfile::tempdir().unwrap();
        assert!(sandbox_metadata(directory.path()).is_err());
        let metadata = v1::PodSandboxMetadata { name: "hello".to_owned(), ..Default::default() };
        let config = v1::PodSandboxConfig { metadata: Some(metadata.clone()), ..Default::default() };
        let record = SandboxRecord {
            id: "a".to_owned(),
            created_at: 1,
            phase: Phase::Ready,
            host_network: false,
            host_ipc: false,
            addresses: Vec::new(),
            cgroup_parent: String::new(),
            attached: false,
        };
        save(directory.path(), &record, Some(&encode(&config))).unwrap();
        assert_eq!(sandbox_metadata(directory.path()).unwrap(), metadata);
    }

    #[test]
    fn unique_beginnings_are_enough() {
        let items = BTreeMap::from([("abc".to_owned(), 1), ("abd".to_owned(), 2)]);
        assert_eq!(find(&items, "abc"), Some(&1));
        assert_eq!(find(&items, "abd"), Some(&2));
        assert_eq!(find(&items, "ab"), None);
        assert_eq!(find(&items, "x"), None);
        assert_eq!(find(&items, ""), None);
    }
}
