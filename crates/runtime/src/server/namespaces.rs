//! A sandbox's namespaces, held by bind mounts of their files, so that no process needs to live for them. It must not know CRI.

use crate::sys::{check_int, process as sys};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, UnmountFlags};
use std::io;
use std::path::Path;

/// What to make.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub network: bool,
    pub ipc: bool,
    /// The host name of a UTS namespace of its own.
    pub hostname: Option<String>,
    /// Sysctls to set inside, as names with dots.
    pub sysctls: Vec<(String, String)>,
}

/// Makes the namespaces on a thread of their own and pins each to `directory/<kind>`.
pub(crate) fn create(directory: &Path, wanted: &Wanted) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("namespaces".to_owned())
            .stack_size(64 * 1024)
            .spawn_scoped(scope, || create_here(directory, wanted))?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes namespaces panicked")))
    })
}

fn create_here(directory: &Path, wanted: &Wanted) -> io::Result<()> {
    let kinds = [
        ("net", libc::CLONE_NEWNET, wanted.network),
        ("ipc", libc::CLONE_NEWIPC, wanted.ipc),
        ("uts", libc::CLONE_NEWUTS, wanted.hostname.is_some()),
    ];
    let chosen: Vec<_> = kinds.into_iter().filter(|(_, _, wanted)| *wanted).collect();
    sys::unshare(chosen.iter().fold(0, |flags, (_, flag, _)| flags | flag))?;
    if let Some(name) = &wanted.hostname {
        rustix::system::sethostname(name.as_bytes())?;
    }
    if wanted.network {
        loopback_up()?;
    }
    for (name, value) in &wanted.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        std::fs::write(&path, value)
            .map_err(|error| io::Error::new(error.kind(), format!("sysctl {name}: {error}")))?;
    }
    for (kind, _, _) in chosen {
        let target = directory.join(kind);
        std::fs::File::create(&target)?;
        rustix::mount::mount_bind(format!("/proc/thread-self/ns/{kind}"), &target)?;
    }
    Ok(())
}

fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the structure is plain bytes, for which zero is a value; the name fits with its NUL.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request reads an ifreq that outlives the call.
    let result = unsafe {
        libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS as _, &raw const request)
    };
    check_int(result).map(drop)
}

/// Lets go of the namespaces below `directory`. What is gone already is fine.
pub(crate) fn release(directory: &Path) -> io::Result<()> {
    for kind in ["net", "ipc", "uts"] {
        let path = directory.join(kind);
        unmount(&path)?;
        remove_file(&path)?;
    }
    Ok(())
}

/// Runs `work` on a thread that is in the network namespace at `path`, or in the host's when there is none.
pub(crate) fn inside_network<T: Send>(
    path: Option<&Path>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let Some(path) = path else { return work() };
    let namespace = std::fs::File::open(path)?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("in-network".to_owned())
            .stack_size(64 * 1024)
            .spawn_scoped(scope, || {
                sys::setns(std::os::fd::AsFd::as_fd(&namespace), libc::CLONE_NEWNET)?;
                work()
            })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace panicked")))
    })
}

/// Mounts the pod's shared memory.
pub(crate) fn mount_shm(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount("shm", path, "tmpfs", flags, Some(c"mode=1777,size=65536k"))?)
}

/// Unmounts everything at `path`; nothing mounted and nothing there are fine.
pub(crate) fn unmount(path: &Path) -> io::Result<()> {
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Unmounts everything below `directory`, the last mount first.
pub(crate) fn unmount_below(directory: &Path) -> io::Result<()> {
    let directory = match directory.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    // The table writes blanks in octal.
    let points = table.lines().filter_map(|line| Some(line.split(' ').nth(4)?.replace("\\040", " ")));
    let below: Vec<String> = points
        .filter(|point| Path::new(point) != directory && Path::new(point).starts_with(&directory))
        .collect();
    below.iter().rev().try_for_each(|point| unmount(Path::new(point)))
}

/// Removes a file that may be gone.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Pins this program's file, read-only, at `directory/nauplius`, and returns that path. A container never sees the
/// original, and this mount of it cannot be written through.
pub(crate) fn pin_program(program: &Path, directory: &Path) -> io::Result<std::path::PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::create_dir_all(directory)?;
    let metadata = std::fs::metadata(program)?;
    let identity =
        format!("{:x}-{:x}-{:x}", metadata.ino(), metadata.mtime_nsec() ^ metadata.mtime(), metadata.len());
    let target = directory.join(identity).join("nauplius");
    // The name says which file it is, and only a mount made here is read-only.
    if target.exists() && is_readonly(&target)? {
        return Ok(target);
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if metadata.nlink() == 0 {
        // The file was deleted, by an upgrade for example: only a copy of what still runs can be mounted.
        let temporary = target.with_extension("new");
        std::fs::copy(program, &temporary)?;
        std::fs::rename(&temporary, &target)?;
    } else if !target.exists() {
        std::fs::File::create(&target)?;
    }
    std::fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o555))?;
    let source = if metadata.nlink() == 0 { target.as_path() } else { program };
    let tree = crate::sys::mount::clone_tree(source, false)?;
    crate::sys::mount::set_readonly(&tree, false)?;
    let place =
        rustix::fs::open(&target, rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, Mode::empty())?;
    crate::sys::mount::attach(&tree, &place)?;
    Ok(target)
}

fn is_readonly(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statvfs(path)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Takes the mounts of [`pin_program`] away. Running shims keep their file.
pub(crate) fn unpin_programs(directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        unmount(&entry?.path().join("nauplius"))?;
    }
    std::fs::remove_dir_all(directory)
}
