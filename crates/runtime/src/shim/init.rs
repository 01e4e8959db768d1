//! What a child of the shim does between `clone` and `execve`. The shim has one thread, so the child may allocate. Everything
//! that goes wrong is one message on the control socket; the socket closes by itself when the program is executed.

use super::fault::{Fault, While};
use super::launch::{Destination, Stdio, launch, open_terminal};
use super::rootfs;
use crate::seccomp::Filter;
use crate::spec::{ContainerSpec, Namespaces, Process};
use crate::sys::process::{self as sys, exit_now};
use crate::sys::{mount as sys_mount, socket};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};

/// First byte of a control message: the descriptor that rides along is a terminal's master.
pub(crate) const TERMINAL: u8 = b't';
/// First byte of a control message: the rest is the text of an error.
pub(crate) const FAULT: u8 = b'e';

/// First byte of a control message: the rest is the number of the process that goes on in this one's place.
pub(crate) const SUCCESSOR: u8 = b'p';

/// A child's view of what the shim has opened for it.
pub(crate) struct Birth<'a> {
    pub control: OwnedFd,
    pub streams: [Option<OwnedFd>; 3],
    pub filters: &'a [Filter],
    pub cgroup_entries: &'a [PathBuf],
    /// The pid namespace to go into last, when the child was not born into its own.
    pub pids: Option<&'a OwnedFd>,
}

impl Birth<'_> {
    fn destination(&self) -> Destination<'_> {
        Destination { pids: self.pids, control: &self.control }
    }
}

/// Becomes a container's first process.
pub(crate) fn run_container(spec: &ContainerSpec, mut birth: Birth<'_>) -> ! {
    let fault = match container_stages(spec, &mut birth) {
        Ok(fault) | Err(fault) => fault,
    };
    report(&birth.control, &fault)
}

fn container_stages(spec: &ContainerSpec, birth: &mut Birth<'_>) -> Result<Fault, Fault> {
    begin(birth.cgroup_entries, spec.process.oom_score_adj)?;
    join_pod(&spec.namespaces)?;
    rootfs::enter(spec, birth.pids)?;
    let stdio = stdio(&spec.process, birth)?;
    if let Stdio::Terminal(slave) = &stdio {
        place_console(slave)?;
    }
    Ok(launch(&spec.process, birth.filters, stdio, birth.destination()))
}

/// Joins the namespaces of the pod, and leaves the cgroup namespace for one of its own.
pub(crate) fn join_pod(namespaces: &Namespaces) -> Result<(), Fault> {
    join(namespaces.network.as_deref(), libc::CLONE_NEWNET)?;
    join(namespaces.ipc.as_deref(), libc::CLONE_NEWIPC)?;
    join(namespaces.uts.as_deref(), libc::CLONE_NEWUTS)?;
    sys::unshare(libc::CLONE_NEWCGROUP).while_doing("unshare the cgroup namespace")
}

/// Becomes a command in a running container. `namespaces` are the container's, the mount namespace last; the pid namespace is joined
/// after everything else.
pub(crate) fn run_command(
    process: &Process,
    namespaces: &[(OwnedFd, libc::c_int)],
    mut birth: Birth<'_>,
) -> ! {
    let fault = match command_stages(process, namespaces, &mut birth) {
        Ok(fault) | Err(fault) => fault,
    };
    report(&birth.control, &fault)
}

fn command_stages(
    process: &Process,
    namespaces: &[(OwnedFd, libc::c_int)],
    birth: &mut Birth<'_>,
) -> Result<Fault, Fault> {
    begin(birth.cgroup_entries, process.oom_score_adj)?;
    for (namespace, kind) in namespaces {
        sys::setns(namespace.as_fd(), *kind).while_doing("join the container's namespaces")?;
    }
    let stdio = stdio(process, birth)?;
    Ok(launch(process, birth.filters, stdio, birth.destination()))
}

/// Signals, cgroups and the like, before anything else.
pub(crate) fn begin(cgroup_entries: &[PathBuf], oom_score_adj: Option<i32>) -> Result<(), Fault> {
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).while_doing("clear the dumpable flag")?;
    sys::reset_signals().while_doing("reset signals")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for file in cgroup_entries {
        std::fs::write(file, "0").while_doing(format!("enter cgroup {}", file.display()))?;
    }
    if let Some(score) = oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", score.to_string()).while_doing("set oom_score_adj")?;
    }
    Ok(())
}

/// Closes every descriptor from `first` on except one, and leaves no owner of them behind: the caller executes a program or exits.
pub(crate) fn close_all_but(kept: &OwnedFd, first: libc::c_uint) -> Result<(), Fault> {
    let kept = kept.as_raw_fd() as libc::c_uint; // Open descriptors are not negative.
    if kept > first {
        sys::close_range(first, kept - 1).while_doing("close descriptors")?;
    }
    sys::close_from(first.max(kept + 1)).while_doing("close descriptors")
}

/// Tells the shim which process goes on.
pub(crate) fn announce(control: &OwnedFd, pid: libc::pid_t) -> Result<(), Fault> {
    let [a, b, c, d] = pid.to_le_bytes();
    socket::send_with_fds(control, &[SUCCESSOR, a, b, c, d], &[])
        .while_doing("announce the process")
        .map(drop)
}

fn join(path: Option<&Path>, kind: libc::c_int) -> Result<(), Fault> {
    let Some(path) = path else { return Ok(()) };
    let name = || format!("join namespace {}", path.display());
    let namespace =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).while_doing(name())?;
    sys::setns(namespace.as_fd(), kind).while_doing(name())
}

fn stdio(process: &Process, birth: &mut Birth<'_>) -> Result<Stdio, Fault> {
    if !process.tty {
        return Ok(Stdio::Streams(std::mem::take(&mut birth.streams)));
    }
    let (master, slave) = open_terminal()?;
    socket::send_with_fds(&birth.control, &[TERMINAL], &[master.as_fd()])
        .while_doing("hand over the terminal")?;
    Ok(Stdio::Terminal(slave))
}

/// The terminal also is `/dev/console`.
fn place_console(slave: &OwnedFd) -> Result<(), Fault> {
    let name = "mount /dev/console";
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open("/dev/console", flags, Mode::from_raw_mode(0o620)).while_doing(name)?;
    let tree = sys_mount::clone_tree_at(slave, false).while_doing(name)?;
    let target =
        rustix::fs::open("/dev/console", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).while_doing(name)?;
    sys_mount::attach(&tree, &target).while_doing(name)
}

/// Ends this process with the text of an error for whoever started it.
pub(crate) fn report(control: &OwnedFd, fault: &Fault) -> ! {
    let message = [&[FAULT], fault.0.as_bytes()].concat();
    // Nobody is left to tell when the other side does not listen.
    let _ = socket::send_with_fds(control, &message, &[]);
    exit_now(1)
}
