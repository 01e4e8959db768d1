//! The root directory that a layer is unpacked into. Every path is resolved by the kernel inside this root, so that neither
//! `..` nor a symbolic link leads out of it. Knows paths and file attributes, not tar.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::LayerError;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Owner and mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

impl Attributes {
    const DEFAULT_DIRECTORY: Self = Self { uid: 0, gid: 0, mode: 0o755 };
}

/// An unpack target and the layers below it, top first.
pub(super) struct Root<'a> {
    fd: OwnedFd,
    path: PathBuf,
    parents: Vec<OwnedFd>,
    /// Archives go through a directory file by file: the last one stays open.
    last: Option<(Vec<u8>, OwnedFd)>,
    pub(super) made_directories: u64,
    lifetime: std::marker::PhantomData<&'a ()>,
}

/// A path inside the root: cleaned components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inner(Vec<u8>);

impl Inner {
    /// Drops empty and `.` components; refuses `..`, which no honest archive of a root file system contains.
    pub(super) fn clean(path: &[u8]) -> Result<Self, LayerError> {
        let mut cleaned = Vec::with_capacity(path.len());
        for component in path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
            if component == b".." || component.contains(&0) {
                let shown = String::from_utf8_lossy(path);
                return Err(LayerError::bad(format!("path {shown:?} leads out of the layer")));
            }
            if !cleaned.is_empty() {
                cleaned.push(b'/');
            }
            cleaned.extend_from_slice(component);
        }
        Ok(Self(cleaned))
    }

    /// The directory and the name in it; none for the root itself.
    pub(super) fn split(&self) -> Option<(Self, &OsStr)> {
        if self.0.is_empty() {
            return None;
        }
        let slash = self.0.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = slash.map_or((&b""[..], &self.0[..]), |at| (&self.0[..at], &self.0[at + 1..]));
        Some((Self(parent.to_vec()), OsStr::from_bytes(name)))
    }

    fn or_dot(&self) -> &OsStr {
        OsStr::from_bytes(if self.0.is_empty() { b"." } else { &self.0 })
    }

    fn prefixes(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain(std::iter::once(self.0.len())).map(|end| Self(self.0[..end].to_vec()))
    }
}

impl<'a> Root<'a> {
    /// `path` exists and is empty.
    pub(super) fn open(path: &Path, parents: &'a [PathBuf]) -> Result<Self, LayerError> {
        let open =
            |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(std::io::Error::from);
        let fd = open(path)?;
        let parents = parents.iter().map(|parent| open(parent)).collect::<Result<_, _>>()?;
        let root = Self {
            fd,
            path: path.to_path_buf(),
            parents,
            last: None,
            made_directories: 1,
            lifetime: std::marker::PhantomData,
        };
        let attributes = root.below(&Inner(Vec::new())).unwrap_or(Attributes::DEFAULT_DIRECTORY);
        root.set_directory(&Inner(Vec::new()), attributes)?;
        Ok(root)
    }

    pub(super) fn has_parents(&self) -> bool {
        !self.parents.is_empty()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A handle on a directory, made with its parents where the archive left them out.
    pub(super) fn directory(&mut self, path: &Inner) -> Result<OwnedFd, LayerError> {
        if let Some((last, fd)) = &self.last
            && *last == path.0
        {
            return Ok(fd.try_clone()?);
        }
        let fd = match self.existing(path) {
            Err(Errno::NOENT) => self.make_directories(path)?,
            other => other.map_err(|errno| refused(path, errno))?,
        };
        self.last = Some((path.0.clone(), fd.try_clone()?));
        Ok(fd)
    }

    fn existing(&self, path: &Inner) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(&self.fd, path.or_dot(), DIRECTORY, Mode::empty(), IN_ROOT)
    }

    fn make_directories(&mut self, path: &Inner) -> Result<OwnedFd, LayerError> {
        for prefix in path.prefixes() {
            if !matches!(self.existing(&prefix), Err(Errno::NOENT)) {
                continue;
            }
            let Some((parent, name)) = prefix.split() else { continue };
            let parent_fd = self.existing(&parent).map_err(|errno| refused(&parent, errno))?;
            let made = rustix::fs::mkdirat(&parent_fd, name, Mode::from_raw_mode(0o755));
            made.map_err(|errno| refused(&prefix, errno))?;
            self.made_directories += 1;
            let attributes = self.below(&prefix).unwrap_or(Attributes::DEFAULT_DIRECTORY);
            self.set_directory(&prefix, attributes)?;
        }
        self.existing(path).map_err(|errno| refused(path, errno))
    }

    /// A directory that this layer only passes through keeps the owner and mode it has in the layers below.
    fn below(&self, path: &Inner) -> Option<Attributes> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        self.parents.iter().find_map(|parent| {
            let fd = rustix::fs::openat2(parent, path.or_dot(), flags, Mode::empty(), IN_ROOT).ok()?; // Not in this layer.
            let stat = rustix::fs::fstat(&fd).ok()?; // Cannot fail on an open handle; defaults would be right if it did.
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            is_directory.then_some(Attributes {
                uid: stat.st_uid,
                gid: stat.st_gid,
                mode: stat.st_mode & 0o7777,
            })
        })
    }

    fn set_directory(&self, path: &Inner, attributes: Attributes) -> Result<(), LayerError> {
        set_attributes(&self.readable(path)?, attributes)
    }

    /// A handle that attributes can be set through.
    pub(super) fn readable(&self, path: &Inner) -> Result<OwnedFd, LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.fd, path.or_dot(), flags, Mode::empty(), IN_ROOT)
            .map_err(|errno| refused(path, errno))
    }

    /// What stands at `name`, links not followed.
    pub(super) fn stat(directory: &OwnedFd, name: &OsStr) -> Result<Option<Stat>, LayerError> {
        match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(std::io::Error::from(errno).into()),
        }
    }

    /// Removes what an entry replaces.
    pub(super) fn remove(&mut self, directory: &OwnedFd, name: &OsStr) -> Result<(), LayerError> {
        self.last = None;
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::ISDIR) => {
                use std::os::fd::AsRawFd;
                // The standard library's removal follows no links; the directory handle has no other name than this.
                let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
                Ok(std::fs::remove_dir_all(path)?)
            }
            Err(errno) => Err(std::io::Error::from(errno).into()),
        }
    }

    /// Times of directories are set when nothing changes in them any more.
    pub(super) fn set_directory_time(&self, path: &Inner, mtime: (i64, u32)) -> Result<(), LayerError> {
        match self.readable(path) {
            Ok(fd) => Ok(rustix::fs::futimens(fd, &timestamps(mtime)).map_err(std::io::Error::from)?),
            // A later entry replaced the directory by something else.
            Err(_) => Ok(()),
        }
    }
}

/// Changing the owner clears setuid bits, so the mode comes last.
pub(super) fn set_attributes(fd: impl AsFd, attributes: Attributes) -> Result<(), LayerError> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::fchown(fd.as_fd(), Some(uid), Some(gid)).map_err(std::io::Error::from)?;
    rustix::fs::fchmod(fd.as_fd(), Mode::from_raw_mode(attributes.mode)).map_err(std::io::Error::from)?;
    Ok(())
}

pub(super) fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn refused(path: &Inner, errno: Errno) -> LayerError {
    match errno {
        Errno::NOTDIR | Errno::LOOP | Errno::EXIST | Errno::XDEV | Errno::NAMETOOLONG => {
            LayerError::bad(format!("{}: {errno}", String::from_utf8_lossy(&path.0)))
        }
        errno => std::io::Error::from(errno).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        let check = |path: &str, expected: Option<&str>| {
            let cleaned = Inner::clean(path.as_bytes()).ok().map(|inner| String::from_utf8(inner.0).unwrap());
            assert_eq!(cleaned.as_deref(), expected, "{path}");
        };
        check("./a//b/", Some("a/b"));
        check("/etc/passwd", Some("etc/passwd"));
        check("./", Some(""));
        check("..a/b..", Some("..a/b.."));
        check("../a", None);
        check("a/../b", None);
        check("a/..", None);
        let prefixes: Vec<_> = Inner::clean(b"a/b/c").unwrap().prefixes().map(|prefix| prefix.0).collect();
        assert_eq!(prefixes, [b"a".to_vec(), b"a/b".to_vec(), b"a/b/c".to_vec()]);
    }
}
