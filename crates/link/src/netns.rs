//! Network namespaces: made, kept by a bind mount on a file, entered by a thread that ends with its work. Only that thread ever
//! changes namespace, so no caller's thread can be left in the wrong one.

use crate::error::{Context, Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const NSFS_MAGIC: i64 = 0x6e73_6673;
/// The work in a namespace is small; the default of 8 MiB address space is not needed.
const STACK_BYTES: usize = 512 * 1024;

/// An open network namespace. It lives at least as long as this.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Netns {
    /// A new namespace that is kept by a bind mount on `path` until [`delete`]. The file must not exist.
    ///
    /// # Errors
    /// The file exists, or the kernel refuses (not root, no space for mounts).
    pub fn create(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).at("create directory", dir)?;
        }
        std::fs::OpenOptions::new().write(true).create_new(true).open(path).at("create", path)?;
        let created = on_thread(|| {
            unshare()?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", path)
                .at("bind a network namespace on", path)?;
            current()
        });
        if created.is_err() {
            // The error that matters is the first one; an empty file left behind is not a namespace.
            let _ = std::fs::remove_file(path);
        }
        created
    }

    /// A new namespace that ends with the last process or descriptor in it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unnamed() -> Result<Self> {
        on_thread(|| {
            unshare()?;
            current()
        })
    }

    /// The namespace held at `path`.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", path)?;
        if is_namespace(&fd)? {
            Ok(Self { fd })
        } else {
            Err(io::Error::from_raw_os_error(libc::ENOENT)).at("no network namespace is mounted on", path)
        }
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn current() -> Result<Self> {
        current()
    }

    /// Runs `work` on a thread inside this namespace and waits for it. Sockets that `work` opens stay in the namespace and may
    /// be returned. A panic of `work` continues here.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread(|| {
            rustix::thread::move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
                .call("enter a network namespace")?;
            Ok(work())
        })
    }
}

/// Ends the namespace held at `path` as far as we hold it: unmounts and removes the file. False: there was nothing.
///
/// # Errors
/// The unmount or the removal fails for another reason than absence.
pub fn delete(path: &Path) -> Result<bool> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error).at("unmount", path),
    }
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("remove", path),
    }
}

/// The files directly under `dir` that hold a namespace, sorted. A missing directory holds none.
///
/// # Errors
/// The directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at("read directory", dir),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.at("read directory", dir)?.path();
        // One that goes away while we look is simply no longer there.
        if Netns::open(&path).is_ok() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn unshare() -> Result<()> {
    // SAFETY: a network namespace owns no memory or descriptors, and this thread ends with the work.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.call("make a network namespace")
}

fn current() -> Result<Netns> {
    let path = Path::new("/proc/thread-self/ns/net");
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", path)?;
    Ok(Netns { fd })
}

fn is_namespace(fd: &OwnedFd) -> Result<bool> {
    #[allow(clippy::unnecessary_cast)] // The type differs between targets.
    let kind = rustix::fs::fstatfs(fd).call("look at a file system")?.f_type as i64;
    Ok(kind == NSFS_MAGIC)
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("netns".to_owned()).stack_size(STACK_BYTES);
        let handle = builder
            .spawn_scoped(scope, work)
            .map_err(|source| Error::System { call: "start a thread", source })?;
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
