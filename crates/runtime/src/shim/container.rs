//! One container in the shim: its process, its streams and the record of what became of it. It must not know the protocol.

use super::fault::{Fault, While};
use super::init::{self, Birth};
use super::pause;
use super::streams::Streams;
use crate::seccomp::Filter;
use crate::spec::{ContainerSpec, ContainerState, Namespaces, PidNamespace, Process};
use crate::sys::{check_int, process as sys, socket};
use nauplius_base::time;
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The file that records what became of a container.
pub(crate) const STATE_FILE: &str = "state.json";
/// The file that says what to run.
pub(crate) const SPEC_FILE: &str = "spec.json";
/// How long the way from `clone` to `execve` may take; a mount of a dead network file system can hang.
const BIRTH_TIMEOUT_MS: i32 = 60_000;
/// What a start that failed is recorded with, as containerd's users know it.
const START_ERROR_CODE: i32 = 128;
/// What containerd says in front of runc's reason; people search for these words.
pub(crate) const NOT_STARTED: &str = "failed to create containerd task: failed to create shim task: OCI runtime create failed: \
    runc create failed: unable to start container process: error during container init: ";

/// A container that was started by this shim.
pub(crate) struct Container {
    pub state: ContainerState,
    pub streams: Streams,
    directory: PathBuf,
    cgroup_entries: Vec<PathBuf>,
    oom_counter: Option<PathBuf>,
    private_pids: bool,
}

/// A started process and the master of its terminal.
pub(crate) struct Born {
    pub pid: i32,
    pub terminal: Option<OwnedFd>,
}

/// Reads what to run.
pub(crate) fn read_spec(directory: &Path) -> Result<ContainerSpec, Fault> {
    let bytes = std::fs::read(directory.join(SPEC_FILE)).while_doing("read spec.json")?;
    serde_json::from_slice(&bytes).map_err(|error| Fault(format!("read spec.json: {error}")))
}

impl Container {
    /// Runs the container whose directory this is. `join_pids` is the pid namespace that its first process is to be in, when others are there.
    /// A start that failed is recorded as such.
    pub(crate) fn start(
        directory: &Path,
        spec: &ContainerSpec,
        join_pids: Option<&OwnedFd>,
    ) -> Result<Self, Fault> {
        match Self::try_start(directory, spec, join_pids) {
            Ok(container) => Ok(container),
            Err(fault) => {
                let state = ContainerState {
                    id: spec.id.clone(),
                    finished_at: time::unix_nanos(),
                    exit_code: START_ERROR_CODE,
                    reason: "StartError".to_owned(),
                    message: format!("{NOT_STARTED}{fault}"),
                    ..ContainerState::default()
                };
                write_state(directory, &state)?;
                Err(fault)
            }
        }
    }

    fn try_start(directory: &Path, spec: &ContainerSpec, join_pids: Option<&OwnedFd>) -> Result<Self, Fault> {
        let (mut streams, child_ends) = Streams::open(spec)?;
        let filters = read_filters(&spec.process)?;
        let flags = match spec.namespaces.pid {
            PidNamespace::Private => libc::CLONE_NEWNS | libc::CLONE_NEWPID,
            _ => libc::CLONE_NEWNS,
        };
        let born = give_birth(flags, join_pids, child_ends, &filters, &spec.cgroup_entries, |birth| {
            init::run_container(spec, birth)
        })?;
        if let Some(master) = born.terminal {
            streams.set_terminal(master)?;
        }
        let state = ContainerState {
            id: spec.id.clone(),
            pid: born.pid,
            started_at: time::unix_nanos(),
            ..ContainerState::default()
        };
        write_state(directory, &state)?;
        Ok(Self {
            state,
            streams,
            directory: directory.to_owned(),
            cgroup_entries: spec.cgroup_entries.clone(),
            oom_counter: spec.oom_counter.clone(),
            private_pids: spec.namespaces.pid == PidNamespace::Private,
        })
    }

    /// Records the end of the first process, after everything that it wrote is in the log.
    pub(crate) fn finish(&mut self, status: libc::c_int, buffer: &mut [u8]) {
        if !self.private_pids {
            self.kill_all();
        }
        self.streams.finish(buffer);
        let code = sys::exit_code(status);
        let oom = code != 0 && self.oom_counter.as_deref().is_some_and(was_oom_killed);
        self.state.finished_at = time::unix_nanos();
        self.state.exit_code = code;
        let reason = if oom {
            "OOMKilled"
        } else if code == 0 {
            "Completed"
        } else {
            "Error"
        };
        reason.clone_into(&mut self.state.reason);
        if let Err(fault) = write_state(&self.directory, &self.state) {
            eprintln!("container {}: {fault}", self.state.id);
        }
    }

    /// Signals the first process, or with SIGKILL all processes where they do not die with the first.
    pub(crate) fn kill(&self, signal: libc::c_int) -> Result<(), Fault> {
        if !self.state.running() {
            return Ok(());
        }
        if signal == libc::SIGKILL && !self.private_pids {
            self.kill_all();
        }
        sys::kill(self.state.pid, signal).while_doing("kill")
    }

    /// Kills what is in the cgroup; a few rounds, because processes may be forking.
    fn kill_all(&self) {
        const ROUNDS: usize = 8;
        let Some(file) = self.cgroup_entries.first() else { return };
        for _ in 0..ROUNDS {
            // A cgroup that is gone holds no processes.
            let pids = std::fs::read_to_string(file).unwrap_or_default();
            let mut any = false;
            for pid in pids.lines().filter_map(|line| line.parse().ok()).filter(|pid: &i32| *pid > 0) {
                any = true;
                // It may have ended since.
                let _ = sys::kill(pid, libc::SIGKILL);
            }
            if !any {
                return;
            }
        }
    }

    /// Runs a command in this container.
    pub(crate) fn exec(&self, process: &Process, streams: [Option<OwnedFd>; 3]) -> Result<Born, Fault> {
        if !self.state.running() {
            return Err(Fault(format!("container {} is not running", self.state.id)));
        }
        let filters = read_filters(process)?;
        let open = |kind: &str| {
            let path = format!("/proc/{}/ns/{kind}", self.state.pid);
            rustix::fs::open(
                &path,
                rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
            .while_doing(format!("open {path}"))
        };
        let pids = open("pid")?;
        // The processes of the container can reach into whoever joins their pid namespace, so that comes last.
        let namespaces = [
            (open("cgroup")?, libc::CLONE_NEWCGROUP),
            (open("net")?, libc::CLONE_NEWNET),
            (open("ipc")?, libc::CLONE_NEWIPC),
            (open("uts")?, libc::CLONE_NEWUTS),
            (open("mnt")?, libc::CLONE_NEWNS),
        ];
        give_birth(0, Some(&pids), streams, &filters, &self.cgroup_entries, |birth| {
            init::run_command(process, &namespaces, birth)
        })
    }
}

fn read_filters(process: &Process) -> Result<Vec<Filter>, Fault> {
    let Some(path) = &process.seccomp else { return Ok(Vec::new()) };
    let bytes = std::fs::read(path).while_doing("read the seccomp filter")?;
    crate::seccomp::decode(&bytes).ok_or_else(|| Fault("the seccomp filter file is damaged".to_owned()))
}

/// Makes the first process of the pod's shared pid namespace.
pub(crate) fn start_pause(namespaces: &Namespaces) -> Result<i32, Fault> {
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let born = give_birth(flags, None, [None, None, None], &[], &namespaces.pause_cgroup_entries, |birth| {
        pause::run(namespaces, &birth)
    });
    Ok(born?.pid)
}

/// Clones a child that runs `stages`, and waits until it has executed its program or said why not.
fn give_birth(
    flags: libc::c_int,
    join_pids: Option<&OwnedFd>,
    streams: [Option<OwnedFd>; 3],
    filters: &[Filter],
    cgroup_entries: &[PathBuf],
    stages: impl FnOnce(Birth<'_>),
) -> Result<Born, Fault> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .while_doing("make the control socket")?;
    // SAFETY: the shim has one thread.
    let pid = unsafe { sys::fork_into(flags) }.while_doing("clone")?;
    if pid == 0 {
        stages(Birth { control: theirs, streams, filters, cgroup_entries, pids: join_pids });
        sys::exit_now(1)
    }
    drop((theirs, streams));
    let mut heard = Heard::default();
    let outcome = match await_birth(&ours, &mut heard) {
        Ok(()) if join_pids.is_some() && heard.successor.is_none() => {
            Err(Fault("the container process ended while it was prepared".to_owned()))
        }
        outcome => outcome,
    };
    match (outcome, heard.successor) {
        (Ok(()), None) => Ok(Born { pid, terminal: heard.terminal }),
        (Ok(()), Some(successor)) => {
            sys::await_child(pid);
            Ok(Born { pid: successor, terminal: heard.terminal })
        }
        (Err(fault), successor) => {
            for pid in [Some(pid), successor].into_iter().flatten() {
                // It may have ended by itself; either way it is waited for, so that the main loop does not see it.
                let _ = sys::kill(pid, libc::SIGKILL);
                sys::await_child(pid);
            }
            Err(fault)
        }
    }
}

/// What a child has said on its control socket.
#[derive(Default)]
struct Heard {
    terminal: Option<OwnedFd>,
    successor: Option<i32>,
}

fn await_birth(control: &OwnedFd, heard: &mut Heard) -> Result<(), Fault> {
    const MESSAGE_LIMIT: usize = 4096;
    loop {
        let mut waiting =
            libc::pollfd { fd: rustix::fd::AsRawFd::as_raw_fd(control), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry is passed and outlives the call.
        if check_int(unsafe { libc::poll(&raw mut waiting, 1, BIRTH_TIMEOUT_MS) })
            .while_doing("wait for the process")?
            == 0
        {
            return Err(Fault("timed out while preparing the container process".to_owned()));
        }
        let (mut message, mut fds) = ([0; MESSAGE_LIMIT], Vec::new());
        let length = socket::receive_with_fds(control, &mut message, &mut fds)
            .while_doing("read the control socket")?;
        match message[..length] {
            [] => return Ok(()),
            [init::TERMINAL] => heard.terminal = fds.pop(),
            [init::SUCCESSOR, a, b, c, d] => {
                // Whoever can trace the new process can speak with its voice: only a child is believed in, for it is signalled later.
                let pid = i32::from_le_bytes([a, b, c, d]);
                heard.successor = Some(pid).filter(|pid| sys::is_child(*pid));
            }
            [_, ref text @ ..] => return Err(Fault(String::from_utf8_lossy(text).into_owned())),
        }
    }
}

/// Writes the record beside the old one and renames it, so that a reader sees one or the other.
pub(crate) fn write_state(directory: &Path, state: &ContainerState) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(state).map_err(|error| Fault(format!("write state.json: {error}")))?;
    let (temporary, target) = (directory.join("state.json.new"), directory.join(STATE_FILE));
    let mut file = std::fs::File::create(&temporary).while_doing("write state.json")?;
    file.write_all(&bytes).while_doing("write state.json")?;
    std::fs::rename(&temporary, &target).while_doing("write state.json")
}

/// Whether the kernel's counter of OOM kills, `oom_kill N` in v1 and v2, is above zero.
fn was_oom_killed(counter: &Path) -> bool {
    // A cgroup that cannot be read cannot testify.
    let text = std::fs::read_to_string(counter).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
}
