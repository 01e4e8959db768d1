//! Takes a pod's volumes away: first whatever is mounted below its directory, then the files. It never removes what is still mounted:
//! that may be the host's.

use super::place;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Removes all volumes of a pod; last words and hosts file stay.
///
/// # Errors
/// When something cannot be unmounted or removed.
pub fn volumes(root: &Path, uid: &str) -> io::Result<()> {
    let pod = place::pod_directory(root, uid);
    unmount_below(&pod)?;
    remove_tree(&pod.join("volume-subpaths"))?;
    remove_tree(&place::volumes_directory(root, uid))
}

/// Removes all of a pod.
///
/// # Errors
/// As [`volumes`].
pub fn pod(root: &Path, uid: &str) -> io::Result<()> {
    let pod = place::pod_directory(root, uid);
    unmount_below(&pod)?;
    remove_tree(&pod)
}

/// Unmounts all pods' volumes below a kubelet's root directory; for whoever deletes the cluster.
///
/// # Errors
/// When something cannot be unmounted.
pub fn unmount_all(root: &Path) -> io::Result<()> {
    unmount_below(&root.join("pods"))
}

fn unmount_below(directory: &Path) -> io::Result<()> {
    for mount in mounts_below(directory)?.iter().rev() {
        match rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match mounts_below(directory)?.first() {
        None => Ok(()),
        Some(left) => Err(io::Error::other(format!("{} is still mounted", left.display()))),
    }
}

/// In the order they were mounted.
fn mounts_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = match directory.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    Ok(points.filter(|point| point.starts_with(&directory)).collect())
}

/// The table writes blanks and backslashes in octal.
fn unescape(text: &str) -> PathBuf {
    let mut plain = text.to_owned();
    for (escape, meaning) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(escape, meaning);
    }
    PathBuf::from(plain)
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
