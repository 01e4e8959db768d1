//! Turns a layer's tar stream into a directory in overlayfs' form: whiteouts become 0/0 character devices, opaque markers an
//! extended attribute. Streams; holds no file in memory.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::directory::{Attributes, Inner, Root, set_attributes, timestamps};
use super::{Cancel, Entries, Entry, Kind, LayerError};
use crate::digest::{Digest, Hasher, HashingReader};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
const AUFS_METADATA: &[u8] = b".wh..wh.";
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";
const MAX_ENTRIES: u64 = 4_000_000;
/// What one layer may unpack to, trailing bytes included: a bound on decompression bombs.
const MAX_LAYER_BYTES: u64 = 128 << 30;
const COPY_BUFFER_BYTES: usize = 128 << 10;

/// What came out of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// The digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// The bytes of files on disk.
    pub(crate) bytes: u64,
    /// Files and directories on disk.
    pub(crate) inodes: u64,
    /// The length of the uncompressed archive.
    pub(crate) archive_bytes: u64,
}

/// Unpacks the plain tar stream `reader` into the empty directory `target`; `parents` are the layers below, top first.
pub(crate) fn unpack(
    reader: impl Read,
    target: &Path,
    parents: &[PathBuf],
    cancel: &Cancel,
) -> Result<Unpacked, LayerError> {
    let hashing = HashingReader::new(reader, Hasher::sha256());
    let mut entries = Entries::new(hashing.take(MAX_LAYER_BYTES));
    let mut writer = Writer::new(Root::open(target, parents)?, cancel);
    let mut count = 0;
    while let Some(entry) = entries.next()? {
        cancel.check()?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(LayerError::bad(format!("more than {MAX_ENTRIES} entries")));
        }
        writer.write(&entry, &mut entries)?;
    }
    writer.finish()?;
    let mut rest = entries.into_inner();
    std::io::copy(&mut rest, &mut std::io::sink())?;
    if rest.limit() == 0 {
        return Err(LayerError::bad(format!("more than {MAX_LAYER_BYTES} bytes")));
    }
    let (diff_id, archive_bytes) = rest.into_inner().finish();
    let inodes = writer.inodes + writer.root.made_directories;
    Ok(Unpacked { diff_id, bytes: writer.bytes, inodes, archive_bytes })
}

struct Writer<'a> {
    root: Root<'a>,
    cancel: &'a Cancel,
    directory_times: Vec<(Inner, (i64, u32))>,
    buffer: Vec<u8>,
    bytes: u64,
    inodes: u64,
}

impl<'a> Writer<'a> {
    fn new(root: Root<'a>, cancel: &'a Cancel) -> Self {
        Self {
            root,
            cancel,
            directory_times: Vec::new(),
            buffer: vec![0; COPY_BUFFER_BYTES],
            bytes: 0,
            inodes: 0,
        }
    }

    fn write(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), LayerError> {
        let path = Inner::clean(&entry.path)?;
        let attributes = attributes(entry)?;
        let Some((parent, name)) = path.split() else {
            return self.root_directory(&path, entry, attributes);
        };
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(&parent, name, OsStr::from_bytes(hidden));
        }
        let directory = self.root.directory(&parent)?;
        let replaced = Root::stat(&directory, name)?;
        if entry.kind == Kind::Directory {
            self.directory(&path, &directory, name, replaced.as_ref(), entry, attributes)?;
            return Ok(());
        }
        if replaced.is_some() {
            self.root.remove(&directory, name)?;
        }
        match entry.kind {
            Kind::File => self.file(&directory, name, entry, attributes, content)?,
            Kind::Hardlink => return self.hardlink(&directory, name, entry),
            Kind::Symlink => symlink(&directory, name, entry)?,
            Kind::Character => node(&directory, name, entry, FileType::CharacterDevice)?,
            Kind::Block => node(&directory, name, entry, FileType::BlockDevice)?,
            Kind::Fifo => node(&directory, name, entry, FileType::Fifo)?,
            Kind::Directory => {}
        }
        self.inodes += 1;
        if entry.kind != Kind::File {
            set_named(&directory, name, entry, attributes)?;
        }
        Ok(())
    }

    fn root_directory(
        &mut self,
        path: &Inner,
        entry: &Entry,
        attributes: Attributes,
    ) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(LayerError::bad("the root of the layer is not a directory"));
        }
        self.finish_directory(path, entry, attributes)
    }

    fn directory(
        &mut self,
        path: &Inner,
        parent: &OwnedFd,
        name: &OsStr,
        replaced: Option<&Stat>,
        entry: &Entry,
        attributes: Attributes,
    ) -> Result<(), LayerError> {
        let is_directory = replaced.is_some_and(|stat| file_type(stat) == FileType::Directory);
        let was_whiteout = replaced.is_some_and(is_whiteout);
        if !is_directory {
            if replaced.is_some() {
                self.root.remove(parent, name)?;
            }
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(std::io::Error::from)?;
            self.inodes += 1;
        }
        self.finish_directory(path, entry, attributes)?;
        if was_whiteout {
            set_opaque(&self.root.readable(path)?)?;
        }
        Ok(())
    }

    fn finish_directory(
        &mut self,
        path: &Inner,
        entry: &Entry,
        attributes: Attributes,
    ) -> Result<(), LayerError> {
        let fd = self.root.readable(path)?;
        set_attributes(&fd, attributes)?;
        set_xattrs(&fd, entry)?;
        self.directory_times.push((path.clone(), entry.mtime));
        Ok(())
    }

    fn file(
        &mut self,
        directory: &OwnedFd,
        name: &OsStr,
        entry: &Entry,
        attributes: Attributes,
        content: &mut impl Read,
    ) -> Result<(), LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))
            .map_err(std::io::Error::from)?;
        let mut file = std::fs::File::from(fd);
        loop {
            let count = content.read(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            self.cancel.check()?;
            file.write_all(&self.buffer[..count])?;
            self.bytes += count as u64;
        }
        // A change of owner drops file capabilities, so they come after it.
        set_attributes(&file, attributes)?;
        set_xattrs(&file, entry)?;
        rustix::fs::futimens(&file, &timestamps(entry.mtime)).map_err(std::io::Error::from)?;
        Ok(())
    }

    /// The target is resolved inside the root like any other path and must be in this layer.
    fn hardlink(&mut self, directory: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<(), LayerError> {
        let missing = || {
            let (path, link) = (String::from_utf8_lossy(&entry.path), String::from_utf8_lossy(&entry.link));
            LayerError::bad(format!("{path}: hard link to {link}, which is not in this layer"))
        };
        let target = Inner::clean(&entry.link)?;
        let (parent, target_name) = target.split().ok_or_else(missing)?;
        let parent = self.root.directory(&parent)?;
        match rustix::fs::linkat(&parent, target_name, directory, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::PERM) => Err(missing()),
            Err(errno) => Err(std::io::Error::from(errno).into()),
        }
    }

    /// Hides what layers below have under this name. Entries of the same layer are not hidden, whatever their order.
    fn whiteout(&mut self, parent: &Inner, marker: &OsStr, hidden: &OsStr) -> Result<(), LayerError> {
        let marker = marker.as_bytes();
        if marker != OPAQUE_MARKER && marker.starts_with(AUFS_METADATA) {
            return Ok(());
        }
        let directory = self.root.directory(parent)?;
        if !self.root.has_parents() {
            return Ok(());
        }
        if marker == OPAQUE_MARKER {
            return set_opaque(&self.root.readable(parent)?);
        }
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(LayerError::bad("a whiteout without a name"));
        }
        match Root::stat(&directory, hidden)? {
            None => {
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(&directory, hidden, FileType::CharacterDevice, mode, 0)
                    .map_err(std::io::Error::from)?;
                self.inodes += 1;
                Ok(())
            }
            Some(stat) if file_type(&stat) == FileType::Directory => {
                let name = [hidden.as_bytes()].concat();
                let fd = open_child_directory(&directory, OsStr::from_bytes(&name))?;
                set_opaque(&fd)
            }
            Some(_) => Ok(()),
        }
    }

    /// Deepest last would not matter: setting a directory's time changes no other directory's.
    fn finish(&mut self) -> Result<(), LayerError> {
        for (path, mtime) in std::mem::take(&mut self.directory_times) {
            self.root.set_directory_time(&path, mtime)?;
        }
        tracing::trace!(path = %self.root.path().display(), bytes = self.bytes, "unpacked");
        Ok(())
    }
}

fn attributes(entry: &Entry) -> Result<Attributes, LayerError> {
    let id = |value: u64| {
        // The last value means "leave as it is" to the kernel.
        u32::try_from(value)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or_else(|| LayerError::bad("owner out of range"))
    };
    Ok(Attributes { uid: id(entry.uid)?, gid: id(entry.gid)?, mode: entry.mode })
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn open_child_directory(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd, LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(std::io::Error::from)?)
}

fn set_opaque(fd: &OwnedFd) -> Result<(), LayerError> {
    Ok(rustix::fs::fsetxattr(fd, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
        .map_err(std::io::Error::from)?)
}

fn symlink(directory: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<(), LayerError> {
    if entry.link.is_empty() || entry.link.contains(&0) {
        return Err(LayerError::bad(format!(
            "{}: symbolic link without a target",
            String::from_utf8_lossy(&entry.path)
        )));
    }
    Ok(rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), directory, name)
        .map_err(std::io::Error::from)?)
}

fn node(directory: &OwnedFd, name: &OsStr, entry: &Entry, kind: FileType) -> Result<(), LayerError> {
    // As a character device 0/0 is overlayfs' whiteout, an archive must not smuggle one in.
    if kind == FileType::CharacterDevice && entry.device == (0, 0) {
        return Err(LayerError::bad(format!("{}: device 0/0", String::from_utf8_lossy(&entry.path))));
    }
    let device = if kind == FileType::Fifo { 0 } else { rustix::fs::makedev(entry.device.0, entry.device.1) };
    let mode = Mode::from_raw_mode(0o600);
    Ok(rustix::fs::mknodat(directory, name, kind, mode, device).map_err(std::io::Error::from)?)
}

/// Owner, mode and time of what has no handle: links, devices, pipes. A link has no mode of its own.
fn set_named(
    directory: &OwnedFd,
    name: &OsStr,
    entry: &Entry,
    attributes: Attributes,
) -> Result<(), LayerError> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(std::io::Error::from)?;
    if entry.kind != Kind::Symlink {
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())
            .map_err(std::io::Error::from)?;
    }
    rustix::fs::utimensat(directory, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(std::io::Error::from)?;
    Ok(())
}

/// Capabilities, access lists and user attributes. `trusted.` ones would steer overlayfs, and labels of security modules mean
/// something only on the machine that wrote them: those are left out.
fn set_xattrs(fd: impl std::os::fd::AsFd, entry: &Entry) -> Result<(), LayerError> {
    let wanted = |name: &[u8]| {
        name == b"security.capability" || name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_")
    };
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| wanted(name)) {
        match rustix::fs::fsetxattr(fd.as_fd(), OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Ok(()) => {}
            // A file system without user attributes or access lists holds the image all the same.
            Err(Errno::NOTSUP) if name != b"security.capability" => {}
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
    }
    Ok(())
}
