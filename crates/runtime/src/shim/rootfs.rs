//! A container's file system, made in its own mount namespace, so that everything disappears with its last process. Targets
//! are looked up inside the root only. It must not know processes.

use super::fault::{Fault, While};
use super::procfs;
use crate::spec::{ContainerSpec, DeviceNode, Mount, MountKind, Propagation, ReadOnly, Rootfs};
use crate::sys::errno_text;
use crate::sys::mount::{self as sys, Leaf};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags};
use std::ffi::CStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A value longer than this does not fit into `fsconfig(2)`.
const OPTION_LIMIT: usize = 255;

/// Makes the root and everything in it, and moves into it. The caller has a mount namespace of its own.
/// `pids` is the pid namespace that the container's first process will be in; absent when the caller is in it already.
pub(crate) fn enter(spec: &ContainerSpec, pids: Option<&OwnedFd>) -> Result<(), Fault> {
    // Host trees are taken before the namespace is cut off: a copy made now is still a peer of the host's mount.
    let binds = take_binds(&spec.mounts)?;
    make_private()?;
    mount_overlay(&spec.rootfs)?;
    let root = rustix::fs::open(
        &spec.rootfs.target,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .while_doing("open the root")?;
    for (mount, bind) in spec.mounts.iter().zip(&binds) {
        place(&root, mount, bind.as_ref(), pids)?;
        if mount.target == "/dev" {
            fill_dev(&root, &spec.devices)?;
        }
    }
    create_cwd(&root, &spec.process.cwd)?;
    pivot(&root)?;
    for path in &spec.readonly_paths {
        make_readonly(path)?;
    }
    for path in &spec.masked_paths {
        mask(path)?;
    }
    if spec.rootfs.readonly {
        let root = open_existing("/").while_doing("open /")?;
        sys::set_readonly(&root, false).while_doing("make the root read-only")?;
    }
    Ok(())
}

/// Moves into a read-only root in which there is nothing, or only `program`, a name in it and its content, to be executed by anybody and
/// read by nobody. The caller has a mount namespace of its own.
pub(crate) fn enter_void(program: Option<(&CStr, &[u8])>) -> Result<(), Fault> {
    make_private()?;
    let limits = [("mode", Some("755")), ("size", Some("64k")), ("nr_inodes", Some("4"))];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let root = sys::new_filesystem("tmpfs", &limits, attributes).while_doing("make an empty root")?;
    if let Some((name, content)) = program {
        let name = name.to_string_lossy();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&root, name.trim_start_matches('/'), flags, Mode::from_raw_mode(0o111))
            .while_doing("make the program")?;
        std::fs::File::from(file).write_all(content).while_doing("write the program")?;
    }
    sys::set_readonly(&root, false).while_doing("make the empty root read-only")?;
    // Any directory will do: nobody looks at this namespace's mounts before they are gone.
    let place = open_existing("/proc").while_doing("open /proc")?;
    sys::attach(&root, &place).while_doing("mount an empty root")?;
    pivot(&root)
}

fn make_private() -> Result<(), Fault> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .while_doing("make the mounts private")
}

fn take_binds(mounts: &[Mount]) -> Result<Vec<Option<OwnedFd>>, Fault> {
    mounts.iter().map(take_bind).collect()
}

fn take_bind(mount: &Mount) -> Result<Option<OwnedFd>, Fault> {
    let MountKind::Bind { source, read_only, propagation } = &mount.kind else { return Ok(None) };
    let name = || mounting(mount);
    let tree = sys::clone_tree(source, true).while_doing(name())?;
    let kind = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::HostToContainer => libc::MS_SLAVE,
        Propagation::Bidirectional => libc::MS_SHARED,
    };
    sys::set_propagation(&tree, kind).while_doing(name())?;
    match read_only {
        ReadOnly::No => {}
        ReadOnly::Top => sys::set_readonly(&tree, false).while_doing(name())?,
        ReadOnly::Recursive => sys::set_readonly(&tree, true).while_doing(name())?,
    }
    Ok(Some(tree))
}

fn mount_overlay(rootfs: &Rootfs) -> Result<(), Fault> {
    let target = open_existing(&rootfs.target).while_doing("open the root's mount point")?;
    match overlay_by_config(rootfs) {
        Ok(mount) => sys::attach(&mount, &target).while_doing("mount the root"),
        // Kernels before 6.7 take the lower directories only as one option, which mount(2) bounds at a page.
        Err(_) => overlay_by_options(rootfs).while_doing("mount the root (overlayfs)"),
    }
}

fn text(path: &Path) -> std::io::Result<&str> {
    path.to_str()
        .filter(|path| path.len() <= OPTION_LIMIT)
        .ok_or(std::io::Error::from_raw_os_error(libc::EINVAL))
}

fn overlay_by_config(rootfs: &Rootfs) -> std::io::Result<OwnedFd> {
    let mut options = vec![];
    for layer in &rootfs.lower {
        options.push(("lowerdir+", Some(text(layer)?)));
    }
    options.push(("upperdir", Some(text(&rootfs.upper)?)));
    options.push(("workdir", Some(text(&rootfs.work)?)));
    // The upper layer dies with the container, so nothing is gained by syncing it.
    options.push(("volatile", None));
    sys::new_filesystem("overlay", &options, MountAttrFlags::empty())
}

fn overlay_by_options(rootfs: &Rootfs) -> std::io::Result<()> {
    let mut options = b"volatile,lowerdir=".to_vec();
    for (index, layer) in rootfs.lower.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        options.extend_from_slice(layer.as_os_str().as_bytes());
    }
    options.extend_from_slice(b",upperdir=");
    options.extend_from_slice(rootfs.upper.as_os_str().as_bytes());
    options.extend_from_slice(b",workdir=");
    options.extend_from_slice(rootfs.work.as_os_str().as_bytes());
    let options = std::ffi::CString::new(options)?;
    Ok(rustix::mount::mount(
        "overlay",
        &rootfs.target,
        "overlay",
        MountFlags::empty(),
        Some(options.as_c_str()),
    )?)
}

fn place(root: &OwnedFd, mount: &Mount, bind: Option<&OwnedFd>, pids: Option<&OwnedFd>) -> Result<(), Fault> {
    let name = || mounting(mount);
    let made;
    let (mounted, leaf) = match (&mount.kind, bind) {
        (MountKind::Bind { .. }, Some(tree)) => (tree, leaf_of(tree).while_doing(name())?),
        (MountKind::New { filesystem, options, attributes }, _) => {
            let options: Vec<_> =
                options.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            let attributes = MountAttrFlags::from_bits_retain(*attributes);
            let context = match pids {
                // Proc shows the namespace of whoever opens it, and this process is not in the container's.
                Some(pids) if filesystem == "proc" => procfs::open(pids)?,
                _ => sys::open_filesystem(filesystem).while_doing(name())?,
            };
            made = sys::finish_filesystem(&context, filesystem, &options, attributes).while_doing(name())?;
            (&made, Leaf::Directory)
        }
        (MountKind::Bind { .. }, None) => return Err(Fault(format!("{}: its source was not taken", name()))),
    };
    let target = sys::create_in_root(root, &mount.target, leaf).while_doing(name())?;
    // The kernel only calls it an invalid argument.
    if leaf_of(&target).while_doing(name())? != leaf {
        return Err(not_mounted(mount, &std::io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    sys::attach(mounted, &target).map_err(|error| not_mounted(mount, &error))
}

/// What is done, as runc says it.
fn mounting(mount: &Mount) -> String {
    let source = match &mount.kind {
        MountKind::Bind { source, .. } => source.display().to_string(),
        MountKind::New { filesystem, .. } => filesystem.clone(),
    };
    format!("error mounting {source:?} to rootfs at {:?}", mount.target)
}

/// With runc's advice.
fn not_mounted(mount: &Mount, error: &std::io::Error) -> Fault {
    let advice = match (&mount.kind, error.raw_os_error()) {
        (MountKind::Bind { .. }, Some(libc::ENOTDIR)) => {
            ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
        }
        _ => "",
    };
    Fault(format!("{}: {}{advice}", mounting(mount), errno_text(error)))
}

fn leaf_of(tree: &OwnedFd) -> std::io::Result<Leaf> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode);
    Ok(if kind == FileType::Directory { Leaf::Directory } else { Leaf::File })
}

/// Device nodes and the links that programs expect.
fn fill_dev(root: &OwnedFd, devices: &[DeviceNode]) -> Result<(), Fault> {
    let dev = sys::open_in_root(root, "/dev", OFlags::PATH | OFlags::DIRECTORY).while_doing("open /dev")?;
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    for (target, name) in links {
        rustix::fs::symlinkat(target, &dev, name).while_doing(format!("make /dev/{name}"))?;
    }
    devices.iter().try_for_each(|device| make_device(root, device))
}

fn make_device(root: &OwnedFd, device: &DeviceNode) -> Result<(), Fault> {
    let name = || format!("make device {}", device.path);
    let (parent, leaf) =
        device.path.rsplit_once('/').ok_or_else(|| Fault(format!("{}: not absolute", name())))?;
    let parent = sys::create_in_root(root, if parent.is_empty() { "/" } else { parent }, Leaf::Directory)
        .while_doing(name())?;
    let kind = if device.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let number = rustix::fs::makedev(device.major, device.minor);
    rustix::fs::mknodat(&parent, leaf, kind, Mode::from_raw_mode(device.mode), number).while_doing(name())?;
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    // mknod obeyed the umask; the container's mode must be the host's.
    rustix::fs::chmodat(&parent, leaf, Mode::from_raw_mode(device.mode), rustix::fs::AtFlags::empty())
        .while_doing(name())?;
    let owner = (rustix::fs::Uid::from_raw(device.uid), rustix::fs::Gid::from_raw(device.gid));
    rustix::fs::chownat(&parent, leaf, Some(owner.0), Some(owner.1), flags).while_doing(name())
}

/// runc makes a missing working directory; images rely on it.
fn create_cwd(root: &OwnedFd, cwd: &str) -> Result<(), Fault> {
    if cwd.is_empty() || cwd == "/" {
        return Ok(());
    }
    sys::create_in_root(root, cwd, Leaf::Directory).while_doing(format!("mkdir {cwd}")).map(drop)
}

fn pivot(root: &OwnedFd) -> Result<(), Fault> {
    // The directory descriptor was opened below the overlay, so entering it is entering the new root.
    rustix::process::fchdir(root).while_doing("enter the root")?;
    rustix::process::pivot_root(".", ".").while_doing("pivot_root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).while_doing("let go of the host's root")?;
    std::env::set_current_dir("/").while_doing("enter the root")
}

fn open_existing(path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a path of /proc or /sys; `None` where this kernel does not have it.
fn open_optional(path: &str) -> Result<Option<OwnedFd>, Fault> {
    match open_existing(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).while_doing(format!("open {path}")),
    }
}

fn make_readonly(path: &str) -> Result<(), Fault> {
    let Some(target) = open_optional(path)? else { return Ok(()) };
    let name = || format!("make {path} read-only");
    // A mount of this container's own is changed; anything else is covered by a copy.
    if sys::is_mount_root(&target).while_doing(name())? {
        return sys::set_readonly(&target, false).while_doing(name());
    }
    let tree = sys::clone_tree_at(&target, true).while_doing(name())?;
    sys::set_readonly(&tree, false).while_doing(name())?;
    sys::attach(&tree, &target).while_doing(name())
}

fn mask(path: &str) -> Result<(), Fault> {
    let Some(target) = open_optional(path)? else { return Ok(()) };
    let name = || format!("mask {path}");
    let cover = match leaf_of(&target).while_doing(name())? {
        Leaf::Directory => {
            sys::new_filesystem("tmpfs", &[("size", Some("0k"))], MountAttrFlags::MOUNT_ATTR_RDONLY)
        }
        Leaf::File => sys::clone_tree(Path::new("/dev/null"), false),
    };
    sys::attach(&cover.while_doing(name())?, &target).while_doing(name())
}
