//! A container's mounts: its volumes, with sub paths opened so that they cannot leave the volume, the pod's `/etc/hosts` and the file
//! for its last words.

use super::place;
use crate::pod::facts;
use crate::spec::env::expand;
use nauplius_base::id;
use nauplius_cri::v1::{Mount, MountPropagation};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Container, Pod, VolumeMount};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Makes what a container mounts. `hosts` is the text of the pod's `/etc/hosts`.
///
/// # Errors
/// In upstream's words, where it has any.
pub fn prepare(
    root: &Path,
    pod: &Pod,
    container: &Container,
    environment: &[(String, String)],
    hosts: Option<&str>,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        mounts.push(volume_mount(root, pod, container, mount, index, environment)?);
    }
    if let Some(text) = hosts
        && !mounts.iter().any(|mount| mount.container_path == "/etc/hosts")
    {
        mounts
            .push(hosts_mount(root, pod, text).map_err(|error| format!("cannot write /etc/hosts: {error}"))?);
    }
    let path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    if !path.is_empty() {
        mounts.push(
            last_words(root, pod, container, path).map_err(|error| format!("cannot make {path}: {error}"))?,
        );
    }
    Ok(mounts)
}

fn volume_mount(
    root: &Path,
    pod: &Pod,
    container: &Container,
    mount: &VolumeMount,
    index: usize,
    environment: &[(String, String)],
) -> Result<Mount, String> {
    let volumes = facts::spec(pod).volumes.iter().flatten();
    let volume = volumes.into_iter().find(|volume| volume.name == mount.name);
    let host_path = volume.and_then(|volume| place::volume(root, pod, volume));
    let host_path = host_path.ok_or_else(|| {
        format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name)
    })?;
    let sub_path = match (mount.sub_path_expr.as_deref(), mount.sub_path.as_deref()) {
        (Some(text), _) if !text.is_empty() => {
            let lookup = |name: &str| {
                environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            };
            expand(text, &lookup)
        }
        (_, plain) => plain.unwrap_or_default().to_owned(),
    };
    let host_path = if sub_path.is_empty() {
        host_path
    } else {
        let target = place::pod_directory(root, pod.uid())
            .join("volume-subpaths")
            .join(&mount.name)
            .join(&container.name)
            .join(index.to_string());
        bind_sub_path(&host_path, &sub_path, &target).map_err(|error| {
            format!(
                "failed to prepare subPath for volumeMount {:?} of container {:?}: {error}",
                mount.name, container.name
            )
        })?
    };
    let read_only = mount.read_only == Some(true);
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    Ok(Mount {
        container_path: absolute(&mount.mount_path),
        host_path: host_path.display().to_string(),
        readonly: read_only,
        recursive_read_only: read_only && mount.recursive_read_only.as_deref() == Some("Enabled"),
        propagation: propagation.into(),
        ..Mount::default()
    })
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Opens the sub path without leaving the volume, makes it when it is missing, and pins what was opened by a bind mount: the
/// container cannot swap it for a link to somewhere else.
fn bind_sub_path(volume: &Path, sub_path: &str, target: &Path) -> io::Result<PathBuf> {
    let base = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let opened = open_beneath(&base, sub_path)?;
    let is_directory = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode).is_dir();
    // A target of an earlier start may still be mounted.
    match rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if is_directory {
        fs::create_dir_all(target)?;
    } else if !target.exists() {
        fs::File::create(target)?;
    }
    rustix::mount::mount_bind(format!("/proc/self/fd/{}", opened.as_raw_fd()), target)?;
    Ok(target.to_owned())
}

fn open_beneath(base: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let open = |path: &str| {
        rustix::fs::openat2(base, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH)
    };
    match open(path) {
        Err(rustix::io::Errno::NOENT) => {
            make_directories(base, path)?;
            Ok(open(path)?)
        }
        other => Ok(other?),
    }
}

/// Each part is opened beneath the one before, so a link on the way cannot lead out.
fn make_directories(base: &OwnedFd, path: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path must not contain '..'"));
        }
        let parent = if here.is_empty() { "." } else { &here };
        let parent = rustix::fs::openat2(base, parent, flags, Mode::empty(), ResolveFlags::BENEATH)?;
        match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        here = if here.is_empty() { part.to_owned() } else { format!("{here}/{part}") };
    }
    Ok(())
}

fn hosts_mount(root: &Path, pod: &Pod, text: &str) -> io::Result<Mount> {
    let file = place::hosts_file(root, pod);
    fs::create_dir_all(place::pod_directory(root, pod.uid()))?;
    // Written in place: containers that run have this very file mounted, and may have changed it; only a changed text is written.
    if fs::read(&file).ok().as_deref() != Some(text.as_bytes()) {
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    }
    Ok(bind("/etc/hosts", &file))
}

fn last_words(root: &Path, pod: &Pod, container: &Container, path: &str) -> io::Result<Mount> {
    let directory = place::container_directory(root, pod, &container.name);
    fs::create_dir_all(&directory)?;
    let file = directory.join(id::hex(4));
    fs::File::create(&file)?;
    // The container may run as any user.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    Ok(bind(path, &file))
}

fn bind(container_path: &str, file: &Path) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: file.display().to_string(),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_stay_in_the_volume() {
        let volume = tempfile::tempdir().unwrap();
        let base = rustix::fs::open(volume.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(open_beneath(&base, "a/b").is_ok());
        assert!(volume.path().join("a/b").is_dir());
        std::os::unix::fs::symlink("/etc", volume.path().join("out")).unwrap();
        std::os::unix::fs::symlink("a", volume.path().join("in")).unwrap();
        assert!(open_beneath(&base, "in/b").is_ok());
        for path in ["out", "out/passwd", "../x", "a/../../x"] {
            assert!(open_beneath(&base, path).is_err(), "{path}");
        }
    }
}
