//! Reads a file of variables from a pod's volume. Containers write the volume: no link in it leads out of it, and no more is read than
//! variables can be.

use super::place;
use crate::pod::facts;
use nauplius_base::errno;
use nauplius_kinds::api::core::{FileKeySelector, Pod};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// No file of variables is longer.
const LENGTH_MAX: u64 = 1 << 20;

/// The text of the file; none when it is not there.
///
/// # Errors
/// Why it cannot be read, in words.
pub fn read(root: &Path, pod: &Pod, reference: &FileKeySelector) -> Result<Option<String>, String> {
    let (name, path) = (&reference.volume_name, &reference.path);
    let volume = facts::spec(pod).volumes.iter().flatten().find(|volume| volume.name == *name);
    let directory = volume.and_then(|volume| place::volume(root, pod, volume));
    let directory =
        directory.ok_or_else(|| format!("cannot find the volume {name:?} referenced by FileKeyRef"))?;
    match read_beneath(&directory, path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(format!("failed to open environment variable file {path:?}: {}", errno::words(&error)))
        }
    }
}

fn read_beneath(directory: &Path, path: &str) -> io::Result<String> {
    let base =
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(&base, path, flags, Mode::empty(), inside)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut text = String::new();
    file.take(LENGTH_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LENGTH_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {LENGTH_MAX} bytes"),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_leads_out_of_the_volume() {
        let volume = tempfile::tempdir().unwrap();
        std::fs::create_dir(volume.path().join("etc")).unwrap();
        std::fs::write(volume.path().join("etc/hostname"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", volume.path().join("link")).unwrap();
        assert_eq!(read_beneath(volume.path(), "link").unwrap(), "inside");
        assert_eq!(read_beneath(volume.path(), "../../etc/hostname").unwrap(), "inside");
        assert_eq!(read_beneath(volume.path(), "none").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(read_beneath(volume.path(), "etc").is_err());
        std::fs::write(volume.path().join("long"), vec![b'#'; (1 << 20) + 1]).unwrap();
        assert_eq!(read_beneath(volume.path(), "long").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
