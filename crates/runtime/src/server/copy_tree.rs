//! Copies a directory with all that belongs to its files: owners, modes, extended attributes, times, links and devices. Symbolic links
//! are copied, never followed; the source does not change meanwhile.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The longest list of names of attributes, and the longest value, that Linux has.
const ATTRIBUTES_MAX: usize = 64 * 1024;

/// A name for what a descriptor stands on, good for as long as it is open.
pub(crate) fn path_of(directory: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

/// Copies into `to`, which is there and empty; it becomes like `from`.
pub(crate) fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    copy_entries(from, to, &mut BTreeMap::new())?;
    copy_attributes(from, to, &fs::metadata(from)?)
}

/// Where files with several names were copied to, by device and number.
type Linked = BTreeMap<(u64, u64), PathBuf>;

fn copy_entries(from: &Path, to: &Path, linked: &mut Linked) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_one(&entry.path(), &to.join(entry.file_name()), linked)?;
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path, linked: &mut Linked) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if is_whiteout(&metadata) {
        return Ok(());
    }
    if metadata.is_dir() {
        fs::create_dir(to)?;
        copy_entries(from, to, linked)?;
        return copy_attributes(from, to, &metadata);
    }
    let key = (metadata.dev(), metadata.ino());
    if let Some(known) = linked.get(&key).filter(|_| metadata.nlink() > 1) {
        return fs::hard_link(known, to);
    }
    copy_content(from, to, &metadata)?;
    linked.insert(key, to.to_owned());
    copy_attributes(from, to, &metadata)
}

fn copy_content(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if metadata.is_file() {
        return fs::copy(from, to).map(drop);
    }
    let kind = FileType::from_raw_mode(metadata.mode());
    Ok(rustix::fs::mknodat(CWD, to, kind, Mode::from_raw_mode(0o600), metadata.rdev())?)
}

/// How a layer says that a file of the layers below is gone.
fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn copy_attributes(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    // A change of the owner takes capabilities and set-id bits along: it comes first.
    std::os::unix::fs::lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    if !metadata.is_symlink() {
        copy_xattrs(from, to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What a layer keeps of attributes: capabilities, access lists and the user's own.
fn is_wanted(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_")
}

fn copy_xattrs(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTES_MAX];
    let length = match rustix::fs::listxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        length => length?,
    };
    let mut value = vec![0; ATTRIBUTES_MAX];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_wanted(name)) {
        let name = OsStr::from_bytes(name);
        let length = rustix::fs::getxattr(from, name, &mut value[..])?;
        match rustix::fs::setxattr(to, name, &value[..length], XattrFlags::empty()) {
            // A file system without user attributes or access lists holds the files all the same.
            Err(Errno::NOTSUP) if name != "security.capability" => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_like_its_source() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), "text").unwrap();
        fs::hard_link(from.join("sub/file"), from.join("again")).unwrap();
        std::os::unix::fs::symlink("nowhere", from.join("link")).unwrap();
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o700)).unwrap();
        copy_directory(&from, &to).unwrap();
        for name in ["", "sub", "sub/file", "again"] {
            let [one, other] = [&from, &to].map(|root| fs::metadata(root.join(name)).unwrap());
            assert_eq!(
                (one.mode(), one.uid(), one.gid()),
                (other.mode(), other.uid(), other.gid()),
                "{name}"
            );
            assert_eq!(one.modified().unwrap(), other.modified().unwrap(), "{name}");
        }
        assert_eq!(fs::read_to_string(to.join("sub/file")).unwrap(), "text");
        assert_eq!(fs::metadata(to.join("again")).unwrap().nlink(), 2);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("nowhere"));
    }
}
