//! Processes, namespaces, credentials and filters. It must not know about mounts or containers.

use super::{check, check_int};
use rustix::fd::{AsRawFd, BorrowedFd};
use std::ffi::{CStr, CString};
use std::io;

/// `clone(2)` as a fork with namespace flags. Returns 0 in the child.
///
/// # Safety
/// The calling process must have one thread, or the child may only make system calls until it executes a program.
pub(crate) unsafe fn fork_into(namespace_flags: libc::c_int) -> io::Result<libc::pid_t> {
    let flags = i64::from(namespace_flags | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack the call behaves as fork(2); the rest is the caller's promise.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok(pid as libc::pid_t) // A pid fits.
}

/// Ends the process at once: no destructors, no handlers.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any value and does not return.
    unsafe { libc::_exit(code) }
}

/// Joins the namespace that `fd` stands on.
pub(crate) fn setns(fd: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open; the kernel checks what it is.
    check_int(unsafe { libc::setns(fd.as_raw_fd(), kind) }).map(drop)
}

/// Leaves the shared instances of the namespaces in `flags`.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check_int(unsafe { libc::unshare(flags) }).map(drop)
}

/// `prctl(2)` with integer arguments.
pub(crate) fn prctl(option: libc::c_int, argument: libc::c_ulong, second: libc::c_ulong) -> io::Result<()> {
    // SAFETY: every option used in this crate takes integers only.
    check_int(unsafe { libc::prctl(option, argument, second, 0 as libc::c_ulong, 0 as libc::c_ulong) })
        .map(drop)
}

/// Signals to their defaults and nothing blocked: what a program expects when it starts.
pub(crate) fn reset_signals() -> io::Result<()> {
    // SAFETY: the set is initialised by sigemptyset before it is read; SIG_DFL is a valid disposition.
    unsafe {
        for signal in 1..=64 {
            // Fails for SIGKILL, SIGSTOP and the two that libc reserves; none of them can have been changed.
            let _ = libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check_int(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())).map(drop)
    }
}

/// Ignores a signal, also in the program that is executed. Children of a process that ignores SIGCHLD leave no zombies.
pub(crate) fn ignore(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: SIG_IGN is a valid disposition.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: libc::c_uint) -> io::Result<()> {
    close_range(first, libc::c_uint::MAX)
}

/// Closes the descriptors from `first` to `last`.
pub(crate) fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: no memory is involved; the caller uses nothing of it any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Marks every descriptor from `first` on as close-on-exec.
pub(crate) fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Sets supplementary groups, then gid, then uid, of this (single-threaded) process.
pub(crate) fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the slice outlives the call and its length is passed. Raw calls, because glibc's wrappers signal threads.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// The capability that namespaces, mounts and filters without no_new_privs ask for, as a mask.
pub(crate) const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Sets the effective, permitted and inheritable capabilities.
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let header = Header { version: 0x2008_0522, pid: 0 };
    let data = [half(0), half(32)];
    // SAFETY: version 3 of the call reads one header and two data blocks.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// One instruction of a classic BPF program, as the kernel lays it out.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Instruction(pub(crate) u16, pub(crate) u8, pub(crate) u8, pub(crate) u32);

/// Installs a seccomp filter on this process. `flags` are `SECCOMP_FILTER_FLAG_*`.
pub(crate) fn install_filter(program: &[Instruction], flags: u32) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const Instruction,
    }
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = Program { len, filter: program.as_ptr() };
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    // SAFETY: the program outlives the call and its length is right; the kernel verifies the instructions.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
        .map(drop)
}

/// Replaces the program. Returns only on failure.
pub(crate) fn exec(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and every string outlives the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Sends a signal to a process, or to a process group when `pid` is negative.
pub(crate) fn kill(pid: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check_int(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Sets both limits of a resource.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the structure outlives the call.
    check_int(unsafe { libc::setrlimit(resource as _, &raw const limit) }).map(drop)
}

/// One finished child, if there is one: its pid and its raw wait status.
pub(crate) fn reap() -> Option<(libc::pid_t, libc::c_int)> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// Waits for the end of a child and forgets how it was.
pub(crate) fn await_child(pid: libc::pid_t) {
    // SAFETY: a null status is allowed. A child that was waited for already is fine.
    while unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Whether this process would have to wait for `pid`.
pub(crate) fn is_child(pid: libc::pid_t) -> bool {
    let Ok(id) = libc::id_t::try_from(pid) else { return false };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the structure is plain bytes, for which zero is a value, and outlives the call.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, id, &raw mut info, flags) == 0
    }
}

/// Waits for the end of all children.
pub(crate) fn await_children() -> io::Result<()> {
    loop {
        // SAFETY: a null status is allowed.
        if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } >= 0 {
            continue;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ECHILD) => return Ok(()),
            Some(libc::EINTR) => {}
            _ => return Err(error),
        }
    }
}

/// The exit code as shells count: the code itself, or 128 and the signal.
pub(crate) fn exit_code(status: libc::c_int) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}
