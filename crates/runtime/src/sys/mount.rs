//! The file-descriptor mount calls of Linux 5.2 and 5.12: trees and filesystems are made detached and moved into place by
//! descriptor, so no path of an image can redirect a mount. It must not know what is mounted where.

use super::check;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::io;
use std::path::Path;

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
const AT_RECURSIVE: libc::c_uint = 0x8000;

fn mount_setattr(fd: &OwnedFd, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty C string and `attr` outlives the call with the size that is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            std::mem::size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// Makes a detached or attached mount read-only, with everything below it when `recursive`.
pub(crate) fn set_readonly(fd: &OwnedFd, recursive: bool) -> io::Result<()> {
    mount_setattr(fd, recursive, &MountAttr { attr_set: MOUNT_ATTR_RDONLY, ..MountAttr::default() })
}

/// Sets the propagation (`MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`) of a mount and everything below it.
pub(crate) fn set_propagation(fd: &OwnedFd, propagation: u64) -> io::Result<()> {
    mount_setattr(fd, true, &MountAttr { propagation, ..MountAttr::default() })
}

/// A detached copy of the mounts at `path`.
pub(crate) fn clone_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(rustix::fs::CWD, path, flags)?)
}

/// A detached copy of the mounts that `fd` stands on.
pub(crate) fn clone_tree_at(fd: &OwnedFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(fd, c"", flags)?)
}

/// Whether `fd` stands on the root of a mount.
pub(crate) fn is_mount_root(fd: &OwnedFd) -> io::Result<bool> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let known = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    Ok(known.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Puts a detached mount onto the directory or file that `target` stands on.
pub(crate) fn attach(mount: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", target, c"", flags)?)
}

/// A new detached filesystem. Options without a value are flags.
pub(crate) fn new_filesystem(
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    finish_filesystem(&open_filesystem(kind)?, kind, options, attributes)
}

/// Opens a filesystem that is not configured yet.
pub(crate) fn open_filesystem(kind: &str) -> io::Result<OwnedFd> {
    Ok(fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?)
}

/// Configures what [`open_filesystem`] opened and mounts it, detached. In the table of mounts it stands by its kind, as runc's do.
pub(crate) fn finish_filesystem(
    context: &OwnedFd,
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    // A version tells the kernel more than a reader.
    fsconfig_set_string(context.as_fd(), "source", if kind == "cgroup2" { "cgroup" } else { kind })?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), *key, *value)?,
            None => fsconfig_set_flag(context.as_fd(), *key)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Opens `path` below `root` as if `root` were `/`: absolute symlinks and `..` stay inside.
pub(crate) fn open_in_root(root: &OwnedFd, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename raced with the lookup of `..`; the kernel asks to try again.
            Err(rustix::io::Errno::AGAIN) => {}
            other => return Ok(other?),
        }
    }
}

/// What to make where a mount wants to go and nothing is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// A directory.
    Directory,
    /// An empty file, the target of a file's bind mount.
    File,
}

/// The object at `path` below `root`, made with its parents when missing.
pub(crate) fn create_in_root(root: &OwnedFd, path: &str, leaf: Leaf) -> io::Result<OwnedFd> {
    match open_in_root(root, path, OFlags::PATH) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => return other,
    }
    let trimmed = path.trim_end_matches('/');
    let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    let parent_fd = if parent.is_empty() {
        open_in_root(root, "/", OFlags::PATH | OFlags::DIRECTORY)?
    } else {
        create_in_root(root, parent, Leaf::Directory)?
    };
    let made = match leaf {
        Leaf::Directory => rustix::fs::mkdirat(&parent_fd, name, Mode::from_raw_mode(0o755)),
        Leaf::File => rustix::fs::openat(
            &parent_fd,
            name,
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        )
        .map(drop),
    };
    match made {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    open_in_root(root, path, OFlags::PATH)
}
