//! The last steps of a new process on its way to the user's program: terminal, limits, identity, capabilities, filters, the pid
//! namespace, and `execve`. It must not know how it got into the container.

use super::fault::{Fault, While};
use super::init;
use crate::seccomp::Filter;
use crate::seccomp::{self, Call};
use crate::spec::Process;
use crate::sys::process::CAP_SYS_ADMIN;
use crate::sys::{errno_text, process as sys};
use rustix::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::io;

/// What becomes descriptors 0, 1 and 2.
pub(crate) enum Stdio {
    /// Pipes or files; an absent one becomes `/dev/null`.
    Streams([Option<OwnedFd>; 3]),
    /// The slave of a terminal.
    Terminal(OwnedFd),
}

/// Opens a terminal in the instance of devpts that is mounted here: the master, for outside, and the slave.
pub(crate) fn open_terminal() -> Result<(OwnedFd, OwnedFd), Fault> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).while_doing("open /dev/pts/ptmx")?;
    rustix::pty::unlockpt(&master).while_doing("unlock the terminal")?;
    const TIOCGPTPEER: libc::c_ulong = 0x5441;
    // SAFETY: the request takes open flags and returns a new descriptor.
    let slave = unsafe {
        libc::ioctl(master.as_raw_fd(), TIOCGPTPEER as _, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)
    };
    let slave = crate::sys::check_int(slave).while_doing("open the terminal's slave")?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok((master, unsafe { rustix::fd::FromRawFd::from_raw_fd(slave) }))
}

/// Where the program is to be executed.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    /// The pid namespace to go into, when the caller is not in it. Others live there and can reach into whoever joins them, so the process
    /// that goes in has given up everything before.
    pub pids: Option<&'a OwnedFd>,
    /// Stays open until the program is executed, and hears of the process that went in.
    pub control: &'a OwnedFd,
}

/// Executes the process; comes back only with what went wrong. The caller is root inside the container's namespaces.
pub(crate) fn launch(
    process: &Process,
    filters: &[Filter],
    stdio: Stdio,
    destination: Destination<'_>,
) -> Fault {
    match prepare(process, filters, stdio, destination) {
        Ok(fault) | Err(fault) => fault,
    }
}

fn prepare(
    process: &Process,
    filters: &[Filter],
    stdio: Stdio,
    destination: Destination<'_>,
) -> Result<Fault, Fault> {
    if let Some(pids) = destination.pids {
        // Only children go there.
        sys::setns(pids.as_fd(), libc::CLONE_NEWPID).while_doing("join the pid namespace")?;
    }
    let terminal = place_stdio(process, stdio)?;
    init::close_all_but(destination.control, 3)?;
    for limit in &process.rlimits {
        sys::set_rlimit(limit.resource, limit.soft, limit.hard).while_doing("set resource limits")?;
    }
    let (arguments, environment) = (strings(&process.args)?, strings(&process.env)?);
    // A filter without no_new_privs asks for a capability.
    let admin = if filters.is_empty() || process.no_new_privs { 0 } else { CAP_SYS_ADMIN };
    become_user(process, admin)?;
    enter_directory(&process.cwd)?;
    let program = find_program(process)?;
    if process.no_new_privs {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).while_doing("set no_new_privs")?;
    }
    // Inside, nobody shall find that capability.
    let early = destination.pids.is_some() && admin != 0 && seccomp::permits(filters, &steps_inside());
    if early {
        confine(process, filters, admin)?;
    }
    if destination.pids.is_some() {
        go_in(destination.control)?;
    }
    rustix::process::setsid().while_doing("setsid")?;
    if terminal {
        take_terminal()?;
    }
    // A shim that dies takes its processes along, so that no container runs unwatched.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0)
        .while_doing("set the parent death signal")?;
    if !early {
        confine(process, filters, admin)?;
    }
    let error = sys::exec(&program, &arguments, &environment);
    Ok(Fault(format!("exec {}: {}", program.to_string_lossy(), errno_text(&error))))
}

/// Goes on as a child in the pid namespace, which is the shim's child, too; this process ends.
fn go_in(control: &OwnedFd) -> Result<(), Fault> {
    // SAFETY: the process has one thread.
    let pid = unsafe { sys::fork_into(libc::CLONE_PARENT) }.while_doing("enter the pid namespace")?;
    if pid == 0 {
        return Ok(());
    }
    if let Err(fault) = init::announce(control, pid) {
        // Nobody would know of it.
        let _ = sys::kill(pid, libc::SIGKILL);
        return Err(fault);
    }
    sys::exit_now(0)
}

/// What is called between [`confine`] and `execve` when the filters are installed early.
fn steps_inside() -> [Call; 6] {
    const TIOCSCTTY: u64 = 0x540e;
    [
        Call(libc::SYS_clone, [(libc::CLONE_PARENT | libc::SIGCHLD) as u64, 0]),
        Call(libc::SYS_sendmsg, [0, 0]),
        Call(libc::SYS_exit_group, [0, 0]),
        Call(libc::SYS_setsid, [0, 0]),
        Call(libc::SYS_ioctl, [0, TIOCSCTTY]),
        Call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64]),
    ]
}

/// Filters come before the last capability change, which they must allow, as runc's do.
fn confine(process: &Process, filters: &[Filter], admin: u64) -> Result<(), Fault> {
    for filter in filters {
        sys::install_filter(&filter.program, filter.flags).while_doing("install the seccomp filter")?;
    }
    settle_capabilities(process, admin)
}

fn strings(values: &[String]) -> Result<Vec<CString>, Fault> {
    let convert = |value: &String| CString::new(value.as_str());
    values
        .iter()
        .map(convert)
        .collect::<Result<_, _>>()
        .map_err(|_| Fault("an argument or variable has a NUL byte".to_owned()))
}

/// Whether it is a terminal.
fn place_stdio(process: &Process, stdio: Stdio) -> Result<bool, Fault> {
    let terminal = matches!(stdio, Stdio::Terminal(_));
    match stdio {
        Stdio::Terminal(slave) => {
            for target in 0..3 {
                duplicate(slave.as_raw_fd(), target)?;
            }
        }
        Stdio::Streams(streams) => {
            for (target, stream) in (0..).zip(&streams) {
                match stream {
                    Some(stream) => duplicate(stream.as_raw_fd(), target)?,
                    None => open_null(target)?,
                }
            }
        }
    }
    for fd in 0..3 {
        // So that the user may open /dev/stdout again. Not allowed on some objects, where it is not needed either.
        // SAFETY: no memory is involved.
        let _ = unsafe { libc::fchown(fd, process.uid, libc::gid_t::MAX) };
    }
    Ok(terminal)
}

/// Makes standard input the terminal of this session.
fn take_terminal() -> Result<(), Fault> {
    // SAFETY: the request takes an integer.
    crate::sys::check_int(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })
        .while_doing("take the terminal")
        .map(drop)
}

fn duplicate(from: RawFd, to: RawFd) -> Result<(), Fault> {
    // SAFETY: dup2 closes whatever `to` was; nothing in this process owns descriptors 0 to 2.
    crate::sys::check_int(unsafe { libc::dup2(from, to) }).while_doing("place standard streams").map(drop)
}

fn open_null(target: RawFd) -> Result<(), Fault> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .while_doing("open /dev/null")?;
    duplicate(null.as_raw_fd(), target)
}

/// Takes the user's ids and capabilities, and keeps those of `spare` until [`settle_capabilities`].
pub(crate) fn become_user(process: &Process, spare: u64) -> Result<(), Fault> {
    for capability in 0..=63_u64 {
        if process.capabilities.bounding & (1 << capability) == 0
            && let Err(error) = sys::prctl(libc::PR_CAPBSET_DROP, capability, 0)
        {
            // EINVAL: the kernel knows no capability beyond this one.
            if error.raw_os_error() == Some(libc::EINVAL) {
                break;
            }
            return Err(error).while_doing("drop a capability from the bounding set");
        }
    }
    sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).while_doing("keep capabilities")?;
    sys::set_ids(process.uid, process.gid, &process.groups).while_doing("set user and groups")?;
    sys::prctl(libc::PR_SET_KEEPCAPS, 0, 0).while_doing("keep capabilities")?;
    // Changing ids cleared the dumpable flag or left it; either way nobody may trace this process before it executes.
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).while_doing("clear the dumpable flag")?;
    let sets = &process.capabilities;
    sys::capset(sets.effective | spare, sets.permitted | spare, sets.inheritable)
        .while_doing("set capabilities")
}

fn settle_capabilities(process: &Process, spare: u64) -> Result<(), Fault> {
    let sets = &process.capabilities;
    if spare != 0 {
        sys::capset(sets.effective, sets.permitted, sets.inheritable).while_doing("set capabilities")?;
    }
    for capability in (0..=63_u64).filter(|capability| sets.ambient & (1 << capability) != 0) {
        let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
        sys::prctl(libc::PR_CAP_AMBIENT, raise, capability).while_doing("raise an ambient capability")?;
    }
    Ok(())
}

fn enter_directory(path: &str) -> Result<(), Fault> {
    let path = if path.is_empty() { "/" } else { path };
    std::env::set_current_dir(path)
        .while_doing(format!("chdir to cwd (\"{path}\") set in config.json failed"))
}

/// The file that `args[0]` names, looked up as Go's `exec.LookPath` does, whose messages Kubernetes users know.
fn find_program(process: &Process) -> Result<CString, Fault> {
    let name = process.args.first().map_or("", String::as_str);
    let quoted = |text: &str| Fault(format!("exec: {name:?}: {text}"));
    let path = if name.contains('/') {
        executable(name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => quoted(&format!("stat {name}: no such file or directory")),
            _ => quoted(&errno_text(&error)),
        })?;
        name.to_owned()
    } else {
        let search =
            process.env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or("");
        search
            .split(':')
            .map(|directory| format!("{}/{name}", if directory.is_empty() { "." } else { directory }))
            .find(|candidate| !name.is_empty() && executable(candidate).is_ok())
            .ok_or_else(|| quoted("executable file not found in $PATH"))?
    };
    CString::new(path).map_err(|_| quoted("invalid argument"))
}

fn executable(path: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(())
}
