//! What a child of the shim does between `clone` and `execve`. The shim has one thread, so the child may allocate. Everything
//! that goes wrong is one message on the control socket; the socket closes by itself when the program is executed.

use super::fault::{Fault, While};
use super::launch::{Stdio, launch, open_terminal};
use super::rootfs;
use crate::seccomp::Filter;
use crate::spec::{ContainerSpec, Process};
use crate::sys::process::{self as sys, exit_now};
use crate::sys::{mount as sys_mount, socket};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};

/// First byte of a control message: the descriptor that rides along is a terminal's master.
pub(crate) const TERMINAL: u8 = b't';
/// First byte of a control message: the rest is the text of an error.
pub(crate) const FAULT: u8 = b'e';

/// A child's view of what the shim has opened for it.
pub(crate) struct Birth<'a> {
    pub control: OwnedFd,
    pub streams: [Option<OwnedFd>; 3],
    pub filters: &'a [Filter],
    pub cgroup_entries: &'a [PathBuf],
}

/// Becomes a container's first process.
pub(crate) fn run_container(spec: &ContainerSpec, birth: Birth<'_>) -> ! {
    let control = duplicate_for_report(&birth.control);
    let fault = match container_stages(spec, birth) {
        Ok(fault) | Err(fault) => fault,
    };
    report(control, &fault)
}

fn container_stages(spec: &ContainerSpec, birth: Birth<'_>) -> Result<Fault, Fault> {
    begin(birth.cgroup_entries, spec.process.oom_score_adj)?;
    let namespaces = &spec.namespaces;
    join(namespaces.network.as_deref(), libc::CLONE_NEWNET)?;
    join(namespaces.ipc.as_deref(), libc::CLONE_NEWIPC)?;
    join(namespaces.uts.as_deref(), libc::CLONE_NEWUTS)?;
    sys::unshare(libc::CLONE_NEWCGROUP).while_doing("unshare the cgroup namespace")?;
    rootfs::enter(spec)?;
    let stdio = stdio(&spec.process, &birth.control, birth.streams)?;
    if let Stdio::Terminal(slave) = &stdio {
        place_console(slave)?;
    }
    Ok(launch(&spec.process, birth.filters, stdio))
}

/// Becomes a command in a running container. `namespaces` are the container's, the mount namespace last; the pid namespace is joined
/// already.
pub(crate) fn run_command(process: &Process, namespaces: &[(OwnedFd, libc::c_int)], birth: Birth<'_>) -> ! {
    let control = duplicate_for_report(&birth.control);
    let fault = match command_stages(process, namespaces, birth) {
        Ok(fault) | Err(fault) => fault,
    };
    report(control, &fault)
}

fn command_stages(
    process: &Process,
    namespaces: &[(OwnedFd, libc::c_int)],
    birth: Birth<'_>,
) -> Result<Fault, Fault> {
    begin(birth.cgroup_entries, process.oom_score_adj)?;
    for (namespace, kind) in namespaces {
        sys::setns(namespace.as_fd(), *kind).while_doing("join the container's namespaces")?;
    }
    let stdio = stdio(process, &birth.control, birth.streams)?;
    Ok(launch(process, birth.filters, stdio))
}

/// Becomes the init process of a pod's shared pid namespace: it only reaps.
pub(crate) fn run_reaper() -> ! {
    // A failure leaves the default, which is to live on without the link; the shim kills this process when it ends.
    let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
    let _ = sys::prctl(libc::PR_SET_DUMPABLE, 0, 0);
    // SAFETY: no memory is involved; the descriptors belong to the shim's copy of this process and are used no more.
    unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
    loop {
        while sys::reap().is_some() {}
        // SAFETY: the set is initialised before use. SIGCHLD has been blocked by the shim, so it waits here.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
            libc::sigwaitinfo(&raw const set, std::ptr::null_mut());
        }
    }
}

fn begin(cgroup_entries: &[PathBuf], oom_score_adj: Option<i32>) -> Result<(), Fault> {
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).while_doing("clear the dumpable flag")?;
    sys::reset_signals().while_doing("reset signals")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for file in cgroup_entries {
        std::fs::write(file, "0").while_doing(format!("enter cgroup {}", file.display()))?;
    }
    if let Some(score) = oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", score.to_string()).while_doing("set oom_score_adj")?;
    }
    rustix::process::setsid().while_doing("setsid").map(drop)
}

fn join(path: Option<&Path>, kind: libc::c_int) -> Result<(), Fault> {
    let Some(path) = path else { return Ok(()) };
    let name = || format!("join namespace {}", path.display());
    let namespace =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).while_doing(name())?;
    sys::setns(namespace.as_fd(), kind).while_doing(name())
}

fn stdio(process: &Process, control: &OwnedFd, streams: [Option<OwnedFd>; 3]) -> Result<Stdio, Fault> {
    if !process.tty {
        return Ok(Stdio::Streams(streams));
    }
    let (master, slave) = open_terminal()?;
    socket::send_with_fds(control, &[TERMINAL], &[master.as_fd()]).while_doing("hand over the terminal")?;
    Ok(Stdio::Terminal(slave))
}

/// The terminal also is `/dev/console`.
fn place_console(slave: &OwnedFd) -> Result<(), Fault> {
    let name = "mount /dev/console";
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open("/dev/console", flags, Mode::from_raw_mode(0o620)).while_doing(name)?;
    let terminal = std::fs::read_link(format!("/proc/self/fd/{}", slave.as_raw_fd())).while_doing(name)?;
    let tree = sys_mount::clone_tree(&terminal, false).while_doing(name)?;
    let target =
        rustix::fs::open("/dev/console", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).while_doing(name)?;
    sys_mount::attach(&tree, &target).while_doing(name)
}

/// The control socket outlives the stages that consume [`Birth`], for their error.
fn duplicate_for_report(control: &OwnedFd) -> Option<OwnedFd> {
    // Without a spare descriptor the error's text is lost; the shim still sees the process end.
    rustix::io::fcntl_dupfd_cloexec(control, 3).ok()
}

fn report(control: Option<OwnedFd>, fault: &Fault) -> ! {
    if let Some(control) = control {
        let message = [&[FAULT], fault.0.as_bytes()].concat();
        let none: [BorrowedFd<'_>; 0] = [];
        // Nobody is left to tell when the shim does not listen.
        let _ = socket::send_with_fds(&control, &message, &none);
    }
    exit_now(1)
}
