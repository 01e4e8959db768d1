//! The paths that an image declares as volumes: each container has a directory of its own for each of them, with what the image has
//! there, unless a mount of the pod covers it. It goes with the container's directory. It must not know how a mount is made.

use super::copy_tree::{self, copy_directory};
use super::image_root;
use crate::spec::{Mount, MountKind, Propagation, ReadOnly};
use nauplius_cri::v1;
use rustix::fs::OFlags;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Where they are in a container's directory.
pub(crate) const DIRECTORY: &str = "volumes";

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageVolume {
    /// The path in the container.
    pub target: String,
    /// The directory on the host.
    pub source: PathBuf,
}

impl ImageVolume {
    /// As a mount: writable, also where the root is not.
    pub fn mount(&self) -> Mount {
        let kind = MountKind::Bind {
            source: self.source.clone(),
            read_only: ReadOnly::No,
            propagation: Propagation::Private,
        };
        Mount { target: self.target.clone(), kind }
    }
}

/// A path without `.`, `..` and doubled slashes, below the root.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The volumes of a container whose image declares these. The root itself cannot be one.
pub(crate) fn plan(
    declared: &BTreeSet<String>,
    mounts: &[v1::Mount],
    container_directory: &Path,
) -> Vec<ImageVolume> {
    let covered: BTreeSet<String> = mounts.iter().map(|mount| clean(&mount.container_path)).collect();
    let targets: BTreeSet<String> = declared.iter().map(|path| clean(path)).collect();
    let wanted = targets.into_iter().filter(|target| target != "/" && !covered.contains(target));
    let volume = |(index, target): (usize, String)| ImageVolume {
        target,
        source: container_directory.join(DIRECTORY).join(index.to_string()),
    };
    wanted.enumerate().map(volume).collect()
}

/// Makes the directories and copies what the image has there.
pub(crate) fn fill(volumes: &[ImageVolume], layers: &[PathBuf]) -> io::Result<()> {
    if volumes.is_empty() {
        return Ok(());
    }
    let root = image_root::open(layers)?;
    for volume in volumes {
        std::fs::create_dir_all(&volume.source)?;
        let found =
            crate::sys::mount::open_in_root(&root, &volume.target, OFlags::RDONLY | OFlags::DIRECTORY);
        match found {
            Ok(directory) => copy_directory(&copy_tree::path_of(&directory), &volume.source)?,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                std::fs::set_permissions(
                    &volume.source,
                    std::os::unix::fs::PermissionsExt::from_mode(0o755),
                )?;
            }
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("volume {}: {error}", volume.target)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_pod_cover_what_the_image_declares() {
        let declared = ["/data/", "cache", "/a/../b", "/", "/etc/x"].map(str::to_owned).into();
        let mount = |path: &str| v1::Mount { container_path: path.to_owned(), ..Default::default() };
        let planned = plan(&declared, &[mount("/etc//x"), mount("/data/sub")], Path::new("/c"));
        let seen: Vec<_> = planned
            .iter()
            .map(|volume| (volume.target.as_str(), volume.source.display().to_string()))
            .collect();
        assert_eq!(
            seen,
            [
                ("/b", "/c/volumes/0".to_owned()),
                ("/cache", "/c/volumes/1".to_owned()),
                ("/data", "/c/volumes/2".to_owned())
            ]
        );
    }
}
