//! Following shims: their events become states, their death becomes the end of their containers; and adoption of what earlier
//! processes have left. It must not start anything.

use super::registry::{self, Container, ContainerRecord, Phase, Registry, Sandbox, SandboxRecord};
use super::sandboxes::remove_directory;
use super::shim_client::{ShimClient, ShimError, Wire};
use super::{Inner, RuntimeError, blocking, failed};
use crate::spec::ContainerState;
use crate::wire::Answer;
use nauplius_base::{task, time};
use nauplius_cri::CriError;
use nauplius_cri::v1::{self, ContainerEventType};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a shim may take to tell its states; it answers in microseconds unless it is stopped.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a shim came to be gone, which decides how its containers are said to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// It was asked to end, and has recorded how its containers ended.
    Killed,
    /// It died; its containers were killed with it.
    Lost,
    /// The machine has started anew.
    Reboot,
}

impl Inner {
    /// Takes a state that is newer than what is known, and announces it.
    pub(crate) fn apply_state(&self, state: ContainerState) {
        // One that could not be started has an end and no beginning.
        let rank = |state: &ContainerState| match (state.started_at, state.finished_at) {
            (0, 0) => 0,
            (_, 0) => 1,
            _ => 2,
        };
        let news = self.write(|registry| {
            let container = registry.containers.get_mut(&state.id)?;
            let (old, new) = (rank(&container.state), rank(&state));
            if new <= old {
                return None;
            }
            container.state = state;
            Some((
                old,
                new,
                container.record.id.clone(),
                container.record.sandbox.clone(),
                container.record.cgroup.clone(),
            ))
        });
        let Some((old, new, id, sandbox, group)) = news else { return };
        if new == 2 {
            // The pod's cgroup can only go when the container's has gone.
            if let Err(error) = self.layout.remove(&group) {
                tracing::warn!(container = id, %error, "the cgroup of an ended container stays until it is removed");
            }
        }
        self.changed.send_replace(());
        if old == 0 {
            self.emit(ContainerEventType::ContainerStartedEvent, &id, &sandbox);
        }
        if new == 2 {
            self.emit(ContainerEventType::ContainerStoppedEvent, &id, &sandbox);
        }
    }

    /// Learns the states of a sandbox's containers and follows them from now on.
    pub(crate) async fn follow(self: &Arc<Self>, id: &str) -> Result<(), ShimError> {
        let wire = self.catch_up(id).await?;
        let token = self.read(|registry| registry.sandboxes.get(id).map(|sandbox| sandbox.token.clone()));
        let Some(token) = token else { return Ok(()) };
        let (inner, id) = (Arc::clone(self), id.to_owned());
        task::spawn("shim-follower", async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = inner.follow_on(&id, wire) => {}
            }
        });
        Ok(())
    }

    /// As [`Self::apply_state`], on a thread that may wait for the kernel to remove a cgroup.
    async fn apply_states(self: &Arc<Self>, states: Vec<ContainerState>) {
        let inner = Arc::clone(self);
        let applied = blocking(move || {
            states.into_iter().for_each(|state| inner.apply_state(state));
            Ok(())
        });
        if let Err(error) = applied.await {
            tracing::error!(error = error.message, "a container's state was lost");
        }
    }

    async fn catch_up(self: &Arc<Self>, id: &str) -> Result<Wire, ShimError> {
        let client = ShimClient::new(&self.sandbox_dir(id));
        let first = async {
            let mut wire = client.subscribe().await?;
            match wire.receive().await?.0 {
                Answer::Snapshot { pid, containers } => Ok((wire, pid, containers)),
                _ => Err(ShimError::Protocol),
            }
        };
        let (wire, pid, containers) =
            time::timeout(SNAPSHOT_TIMEOUT, first).await.map_err(|_| ShimError::Gone)??;
        self.write(|registry| {
            if let Some(sandbox) = registry.sandboxes.get_mut(id) {
                sandbox.shim_pid = pid;
            }
        });
        self.apply_states(containers).await;
        Ok(wire)
    }

    async fn follow_on(self: &Arc<Self>, id: &str, mut wire: Wire) {
        loop {
            match wire.receive().await {
                Ok((Answer::State(state), _)) => self.apply_states(vec![state]).await,
                Ok(_) => {}
                Err(_) => match self.catch_up(id).await {
                    Ok(again) => wire = again,
                    Err(error) => return self.lose_shim(id, &error).await,
                },
            }
        }
    }

    async fn lose_shim(self: &Arc<Self>, id: &str, error: &ShimError) {
        if self.read(|registry| registry.sandboxes.get(id).is_none_or(|sandbox| sandbox.ending)) {
            return;
        }
        // A server that was killed while it stopped the sandbox did not get to record it.
        let told = !self.sandbox_dir(id).join(crate::shim::PID_FILE).exists();
        let death = if told { Death::Killed } else { Death::Lost };
        if told {
            tracing::info!(sandbox = id, "the shim has ended as it was told");
        } else {
            tracing::error!(sandbox = id, %error, "the shim died; its containers are killed");
        }
        let (inner, sandbox) = (Arc::clone(self), id.to_owned());
        let buried = blocking(move || {
            inner.bury_containers(&sandbox, death)?;
            inner.stop_record(&sandbox)
        });
        if let Err(error) = buried.await {
            tracing::error!(sandbox = id, error = error.message, "the end of a sandbox could not be stored");
        }
        self.changed.send_replace(());
        self.emit(ContainerEventType::ContainerStoppedEvent, id, id);
    }

    fn stop_record(&self, id: &str) -> Result<(), CriError> {
        let record = self.write(|registry| {
            let sandbox = registry.sandboxes.get_mut(id)?;
            sandbox.record.phase = Phase::Stopped;
            Some(sandbox.record.clone())
        });
        let Some(record) = record else { return Ok(()) };
        registry::save(&self.sandbox_dir(id), &record, None).map_err(failed("store the sandbox"))
    }

    /// Records the end of a sandbox's containers whose shim is gone, and makes sure that they have ended.
    pub(crate) fn bury_containers(&self, sandbox: &str, death: Death) -> Result<(), CriError> {
        let containers: Vec<Container> =
            self.read(|registry| registry.containers_of(sandbox).cloned().collect());
        for container in containers {
            let id = &container.record.id;
            let directory = self.container_dir(id);
            self.layout.kill(&container.record.cgroup);
            let mut state =
                registry::load_state(&directory, id).map_err(failed("read the container's state"))?;
            if state.running() {
                end(&mut state, death);
                let bytes =
                    serde_json::to_vec(&state).map_err(|error| CriError::unknown(error.to_string()))?;
                registry::write_atomically(&directory.join(crate::shim::STATE_FILE), &bytes)
                    .map_err(failed("store the container's state"))?;
            }
            self.apply_state(state);
        }
        Ok(())
    }

    /// Reads what is on the disk, connects to what still runs, and removes what a crash has left half made.
    pub(crate) async fn adopt(self: &Arc<Self>) -> Result<(), RuntimeError> {
        let rebooted = self.is_other_boot().map_err(|source| self.state_error(source))?;
        let inner = Arc::clone(self);
        let (registry, broken) = tokio::task::spawn_blocking(move || inner.load_all())
            .await
            .map_err(|error| self.state_error(std::io::Error::other(error)))?
            .map_err(|source| self.state_error(source))?;
        self.write(|known| *known = registry);
        for id in broken {
            tracing::info!(sandbox = id, "removing an unfinished sandbox");
            self.discard_sandbox(&id).await;
        }
        self.retain_images().await;
        let ready: Vec<String> = self.read(|registry| {
            let ready = registry.sandboxes.values().filter(|sandbox| sandbox.record.phase == Phase::Ready);
            ready.map(|sandbox| sandbox.record.id.clone()).collect()
        });
        for id in ready {
            self.adopt_sandbox(&id, rebooted).await;
        }
        Ok(())
    }

    fn state_error(&self, source: std::io::Error) -> RuntimeError {
        RuntimeError::State { path: self.options.state_dir.clone(), source }
    }

    /// Compares the kernel's boot id with the one seen last, and remembers it.
    fn is_other_boot(&self) -> std::io::Result<bool> {
        let file = self.options.state_dir.join("boot_id");
        let current = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        // A first start has no sandboxes that could have been there before.
        let last = std::fs::read_to_string(&file).unwrap_or_default();
        if last != current {
            registry::write_atomically(&file, current.as_bytes())?;
        }
        Ok(last != current)
    }

    async fn adopt_sandbox(self: &Arc<Self>, id: &str, rebooted: bool) {
        let error = if rebooted {
            let (inner, sandbox) = (Arc::clone(self), id.to_owned());
            blocking(move || {
                inner.bury_containers(&sandbox, Death::Reboot)?;
                inner.stop_record(&sandbox)
            })
            .await
            .err()
        } else {
            match self.follow(id).await {
                Ok(()) => self.mourn_unknown(id).err(),
                Err(error) => {
                    self.lose_shim(id, &error).await;
                    None
                }
            }
        };
        if let Some(error) = error {
            tracing::error!(sandbox = id, error = error.message, "a sandbox could not be adopted whole");
        }
    }

    /// What the disk says of containers that the shim has told nothing new about: ended and forgotten ones.
    fn mourn_unknown(&self, sandbox: &str) -> Result<(), CriError> {
        let ids: Vec<String> = self.read(|registry| {
            let quiet = registry.containers_of(sandbox).filter(|container| !container.state.running());
            quiet.map(|container| container.record.id.clone()).collect()
        });
        for id in ids {
            let state = registry::load_state(&self.container_dir(&id), &id)
                .map_err(failed("read the container's state"))?;
            if !state.running() {
                self.apply_state(state);
            }
        }
        Ok(())
    }

    async fn retain_images(&self) {
        let needed: Vec<(String, String)> = self.read(|registry| {
            let records = registry.containers.values().map(|container| &container.record);
            records
                .flat_map(|record| {
                    let images = std::iter::once(&record.image_id).chain(&record.volumes);
                    images.map(|image| (record.id.clone(), image.clone()))
                })
                .collect()
        });
        for (owner, image) in needed {
            if let Err(error) = self.images.retain(&owner, &image).await {
                tracing::warn!(container = owner, image, %error, "the image of a container is gone");
            }
        }
    }

    /// Everything that is whole, and the ids of sandboxes that are not. Containers that are not whole, or have no sandbox, are removed.
    fn load_all(&self) -> std::io::Result<(Registry, Vec<String>)> {
        let (mut registry, mut broken) = (Registry::default(), Vec::new());
        for id in names(&self.options.state_dir.join("sandboxes"))? {
            match registry::load::<SandboxRecord, v1::PodSandboxConfig>(&self.sandbox_dir(&id)) {
                Ok((record, config)) if record.phase != Phase::Creating => {
                    let token = self.token.child_token();
                    registry
                        .sandboxes
                        .insert(id, Sandbox { record, config, shim_pid: 0, token, ending: false });
                }
                _ => broken.push(id),
            }
        }
        for id in names(&self.options.state_dir.join("containers"))? {
            let directory = self.container_dir(&id);
            match registry::load::<ContainerRecord, v1::ContainerConfig>(&directory) {
                Ok((record, config)) if registry.sandboxes.contains_key(&record.sandbox) => {
                    let state = ContainerState { id: id.clone(), ..ContainerState::default() };
                    let container = Container { record, config, state, starting: false, cpu_sample: None };
                    registry.containers.insert(id, container);
                }
                known => self.discard_container(&directory, known.ok().map(|(record, _)| record.cgroup)),
            }
        }
        for container in registry.containers.values_mut().filter(|container| {
            registry
                .sandboxes
                .get(&container.record.sandbox)
                .is_some_and(|sandbox| sandbox.record.phase == Phase::Stopped)
        }) {
            let directory = self.container_dir(&container.record.id);
            container.state = registry::load_state(&directory, &container.record.id)?;
        }
        Ok((registry, broken))
    }

    fn discard_container(&self, directory: &Path, group: Option<String>) {
        if let Some(group) = group {
            self.layout.kill(&group);
            if let Err(error) = self.layout.remove(&group) {
                tracing::warn!(%error, "the cgroup of an unfinished container is left");
            }
        }
        if let Err(error) = remove_directory(directory) {
            tracing::warn!(error = error.message, "an unfinished container is left");
        }
    }
}

fn end(state: &mut ContainerState, death: Death) {
    const SIGKILLED: i32 = 137;
    const UNKNOWN: i32 = 255;
    let (code, message) = match death {
        Death::Killed => (SIGKILLED, ""),
        Death::Lost => {
            (SIGKILLED, "the process that watched over the container died, and the container was killed")
        }
        Death::Reboot => (UNKNOWN, "the machine was restarted"),
    };
    state.finished_at = time::unix_nanos();
    state.exit_code = code;
    "Unknown".clone_into(&mut state.reason);
    message.clone_into(&mut state.message);
}

fn names(directory: &Path) -> std::io::Result<BTreeSet<String>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
