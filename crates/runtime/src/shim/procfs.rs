//! A proc file system of a pid namespace that other processes live in. Only a process in the namespace can open one, and those who live
//! there can reach into it: so the one that goes in has an empty root, no descriptors, and can do nothing but open a file system and hand it
//! out. It must not know containers.

use super::fault::{Fault, While};
use super::{init, rootfs};
use crate::sys::{mount, process as sys, socket};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// First byte of a message: the descriptor that rides along is the file system's.
const CONTEXT: u8 = b'c';

/// Opens a proc file system of the namespace, to be configured and mounted. The caller has no children.
pub(crate) fn open(pids: &OwnedFd) -> Result<OwnedFd, Fault> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .while_doing("make a socket")?;
    // SAFETY: the process has one thread.
    if unsafe { sys::fork_into(libc::CLONE_NEWNS) }.while_doing("clone")? == 0 {
        match visit(pids, &theirs) {
            Ok(()) => sys::exit_now(0),
            Err(fault) => init::report(&theirs, &fault),
        }
    }
    drop(theirs);
    let answer = hear(&ours);
    sys::await_children().while_doing("wait for the opener of proc")?;
    answer
}

fn hear(socket: &OwnedFd) -> Result<OwnedFd, Fault> {
    let (mut message, mut fds) = ([0; 1024], Vec::new());
    let length = socket::receive_with_fds(socket, &mut message, &mut fds).while_doing("open proc")?;
    match (message[..length].split_first(), fds.pop()) {
        (Some((&CONTEXT, _)), Some(context)) => Ok(context),
        (Some((_, text)), _) => Err(Fault(String::from_utf8_lossy(text).into_owned())),
        (None, _) => Err(Fault("open proc: the process ended".to_owned())),
    }
}

/// Outside, everything is given away that is not needed inside; then the child goes in.
fn visit(pids: &OwnedFd, socket: &OwnedFd) -> Result<(), Fault> {
    let calls = [libc::SYS_clone, libc::SYS_fsopen, libc::SYS_sendmsg, libc::SYS_exit_group];
    let filter = crate::seccomp::allow_only(&calls).map_err(|error| Fault(error.to_string()))?;
    rootfs::enter_void(None)?;
    sys::setns(pids.as_fd(), libc::CLONE_NEWPID).while_doing("join the pid namespace")?;
    init::close_all_but(socket, 0)?;
    sys::capset(sys::CAP_SYS_ADMIN, sys::CAP_SYS_ADMIN, 0).while_doing("set capabilities")?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).while_doing("set no_new_privs")?;
    sys::install_filter(&filter.program, filter.flags).while_doing("install the seccomp filter")?;
    // SAFETY: the process has one thread.
    if unsafe { sys::fork_into(libc::CLONE_PARENT) }.while_doing("enter the pid namespace")? == 0 {
        let context = mount::open_filesystem("proc").while_doing("open proc")?;
        socket::send_with_fds(socket, &[CONTEXT], &[context.as_fd()]).while_doing("hand out proc")?;
    }
    Ok(())
}
