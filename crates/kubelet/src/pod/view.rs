//! What is observed of a pod in the runtime, in the few facts that decisions and statuses are made from. Plain data, no calls.

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited,
    /// The runtime cannot tell.
    Unknown,
}

/// One container, dead or alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// The runtime's id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// The sandbox it is in.
    pub sandbox: String,
    /// How often it was started before.
    pub attempt: u32,
    /// Where it stands.
    pub state: ContainerState,
    /// Nanoseconds since the epoch; 0 when it has not happened.
    pub created_at: i64,
    /// As above.
    pub started_at: i64,
    /// As above.
    pub finished_at: i64,
    /// Of the ended process.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, ...
    pub reason: String,
    /// The runtime's words, or the container's last.
    pub message: String,
    /// What people call the image.
    pub image: String,
    /// The image by digest.
    pub image_ref: String,
    /// Of the definition it was made from.
    pub hash: String,
    /// Where its log is.
    pub log_path: String,
    /// Uid, gid and groups of its process.
    pub user: Option<(i64, i64, Vec<i64>)>,
    /// What it may use, as far as it can change while it runs.
    pub limits: Option<Limits>,
}

/// What a container may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Its share of the processor, where others want it too.
    pub cpu_shares: i64,
    /// Microseconds of each tenth of a second; 0 without limit.
    pub cpu_quota: i64,
    /// Bytes; 0 without limit.
    pub memory: i64,
}

/// One sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxView {
    /// The runtime's id.
    pub id: String,
    /// How many there were before.
    pub attempt: u32,
    /// Whether containers can run in it.
    pub ready: bool,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Its addresses; none on the host's network.
    pub ips: Vec<String>,
}

/// All of one pod, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its sandboxes.
    pub sandboxes: Vec<SandboxView>,
    /// Its containers.
    pub containers: Vec<ContainerView>,
}

impl Observed {
    /// The newest sandbox, if it is ready.
    pub fn sandbox(&self) -> Option<&SandboxView> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest container of that name.
    pub fn newest(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest container of that name, if it lives in the current sandbox.
    pub fn current(&self, name: &str) -> Option<&ContainerView> {
        let sandbox = &self.sandboxes.first()?.id;
        self.newest(name).filter(|container| container.sandbox == *sandbox)
    }

    /// Whatever may still be running.
    pub fn live(&self) -> impl Iterator<Item = &ContainerView> {
        self.containers
            .iter()
            .filter(|c| matches!(c.state, ContainerState::Running | ContainerState::Unknown))
    }

    /// Puts the newest first.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.created_at, sandbox.attempt)));
        self.containers.sort_by_key(|container| std::cmp::Reverse((container.created_at, container.attempt)));
    }
}
