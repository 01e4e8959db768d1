//! A container's mounts: its volumes, with sub paths opened so that they cannot leave the volume, the pod's `/etc/hosts` and the file
//! for its last words.

use super::place;
use crate::pod::facts;
use crate::spec::env::expand;
use nauplius_base::{errno, id};
use nauplius_cri::v1::{Mount, MountPropagation};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Container, Pod, Volume, VolumeMount};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::cell::RefCell;
use std::collections::BTreeSet;
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
        mounts.push(
            hosts_mount(root, pod, text)
                .map_err(|error| format!("cannot write /etc/hosts: {}", errno::words(&error)))?,
        );
    }
    let path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    if !path.is_empty() {
        mounts.push(
            last_words(root, pod, container, path)
                .map_err(|error| format!("cannot make {path}: {}", errno::words(&error)))?,
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
    let sub_path = sub_path(mount, environment)?;
    let host_path = if sub_path.is_empty() {
        host_path
    } else {
        let target = place::pod_directory(root, pod.uid())
            .join("volume-subpaths")
            .join(&mount.name)
            .join(&container.name)
            .join(index.to_string());
        bind_sub_path(&host_path, &sub_path, &target).map_err(|error| {
            let SubPathError { doing, source } = error;
            // As upstream, the pod is not told why: that would say what the host's file system has.
            tracing::info!(pod = pod.name(), volume = mount.name, sub_path, %source, "failed to {doing}");
            let (volume, container) = (&mount.name, &container.name);
            format!("failed to {doing} for volumeMount {volume:?} of container {container:?}")
        })?
    };
    let read_only = mount.read_only == Some(true) || volume.is_some_and(is_written_by_us);
    let recursive_read_only = recursive_read_only(mount)?;
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    Ok(Mount {
        container_path: absolute(&mount.mount_path),
        host_path: host_path.display().to_string(),
        readonly: read_only,
        recursive_read_only,
        propagation: propagation.into(),
        ..Mount::default()
    })
}

/// Whether the kubelet alone writes the volume: containers see it read-only, whatever the mount says.
fn is_written_by_us(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
}

/// Whether mounts below the volume are read-only too.
///
/// # Errors
/// When it was asked for and cannot be.
pub fn recursive_read_only(mount: &VolumeMount) -> Result<bool, String> {
    let read_only = mount.read_only == Some(true);
    let alone = matches!(mount.mount_propagation.as_deref(), None | Some("None"));
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => Ok(false),
        Some("IfPossible") => Ok(read_only && alone),
        Some("Enabled") if !read_only => Err(format!(
            "volume {:?} requested recursive read-only mode, but it is not read-only",
            mount.name
        )),
        Some("Enabled") if !alone => Err(format!(
            "volume {:?} requested recursive read-only mode, but it is not compatible with propagation {:?}",
            mount.name,
            mount.mount_propagation.as_deref().unwrap_or_default()
        )),
        Some("Enabled") => Ok(true),
        Some(other) => Err(format!("unknown recursive read-only mode {other:?}")),
    }
}

fn sub_path(mount: &VolumeMount, environment: &[(String, String)]) -> Result<String, String> {
    let path = match (mount.sub_path_expr.as_deref(), mount.sub_path.as_deref()) {
        (Some(text), _) if !text.is_empty() => expand_sub_path(text, environment)?,
        (_, plain) => plain.unwrap_or_default().to_owned(),
    };
    if path.starts_with('/') {
        return Err(format!("error SubPath `{path}` must not be an absolute path"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("unable to provision SubPath `{path}`: must not contain '..'"));
    }
    Ok(path)
}

/// A variable that is not set, or empty, would lead to another directory than the one that was meant.
fn expand_sub_path(text: &str, environment: &[(String, String)]) -> Result<String, String> {
    let missing = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        let value = environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let value = value.filter(|value| !value.is_empty());
        if value.is_none() {
            missing.borrow_mut().insert(name.to_owned());
        }
        value
    };
    let path = expand(text, &lookup);
    let missing: Vec<String> = missing.take().into_iter().collect();
    if missing.is_empty() { Ok(path) } else { Err(format!("missing value for {}", missing.join(", "))) }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Opens the sub path without leaving the volume, makes it when it is missing, and pins what was opened by a bind mount: the
/// container cannot swap it for a link to somewhere else.
fn bind_sub_path(volume: &Path, sub_path: &str, target: &Path) -> Result<PathBuf, SubPathError> {
    let base = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    pin(open_beneath(&base, sub_path)?, target).map_err(SubPathError::from)
}

/// What failed on the way to a sub path, in upstream's words, and what the system said.
#[derive(Debug)]
struct SubPathError {
    doing: &'static str,
    source: io::Error,
}

impl<E: Into<io::Error>> From<E> for SubPathError {
    fn from(error: E) -> Self {
        Self { doing: "prepare subPath", source: error.into() }
    }
}

fn pin(opened: OwnedFd, target: &Path) -> io::Result<PathBuf> {
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

fn open_beneath(base: &OwnedFd, path: &str) -> Result<OwnedFd, SubPathError> {
    let open = |path: &str| {
        rustix::fs::openat2(base, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH)
    };
    match open(path) {
        Err(rustix::io::Errno::NOENT) => {
            make_directories(base, path)
                .map_err(|source| SubPathError { doing: "create subPath directory", source })?;
            Ok(open(path)?)
        }
        other => Ok(other?),
    }
}

/// Each part is opened beneath the one before, so a link on the way cannot lead out. What is made is as open as the volume itself:
/// whoever may write the volume may write its parts.
fn make_directories(base: &OwnedFd, path: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(base)?.st_mode & 0o7777);
    let mut here = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path must not contain '..'"));
        }
        let parent = if here.is_empty() { "." } else { &here };
        let parent = rustix::fs::openat2(base, parent, flags, Mode::empty(), ResolveFlags::BENEATH)?;
        match rustix::fs::mkdirat(&parent, part, mode) {
            // What was made obeyed the umask.
            Ok(()) => rustix::fs::fchmod(rustix::fs::openat(&parent, part, flags, Mode::empty())?, mode)?,
            Err(rustix::io::Errno::EXIST) => {}
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

    #[test]
    fn parts_of_a_volume_are_as_open_as_it_is() {
        let volume = tempfile::tempdir().unwrap();
        fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let base = rustix::fs::open(volume.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        open_beneath(&base, "a/b").unwrap();
        for part in ["a", "a/b"] {
            assert_eq!(fs::metadata(volume.path().join(part)).unwrap().permissions().mode() & 0o7777, 0o777);
        }
    }

    fn mount_of(json: &str) -> VolumeMount {
        let pod = format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","volumeMounts":[{json}]}}]}}}}"#
        );
        let pod = Pod::decode(pod.as_bytes()).unwrap();
        pod.spec.unwrap().containers[0].volume_mounts.clone().unwrap().remove(0)
    }

    #[test]
    fn sub_paths_are_expanded_or_refused() {
        let environment = [("A".to_owned(), "x".to_owned()), ("EMPTY".to_owned(), String::new())];
        for (mount, expected) in [
            (r#"{"name":"v","mountPath":"/m"}"#, Ok("")),
            (r#"{"name":"v","mountPath":"/m","subPath":"a/b"}"#, Ok("a/b")),
            (r#"{"name":"v","mountPath":"/m","subPathExpr":"$(A)/y"}"#, Ok("x/y")),
            (
                r#"{"name":"v","mountPath":"/m","subPathExpr":"$(EMPTY)/$(NO)"}"#,
                Err("missing value for EMPTY, NO"),
            ),
            (
                r#"{"name":"v","mountPath":"/m","subPathExpr":"/$(A)"}"#,
                Err("error SubPath `/x` must not be an absolute path"),
            ),
            (
                r#"{"name":"v","mountPath":"/m","subPathExpr":"../$(A)"}"#,
                Err("unable to provision SubPath `../x`: must not contain '..'"),
            ),
        ] {
            let got = sub_path(&mount_of(mount), &environment);
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{mount}");
        }
    }

    #[test]
    fn read_only_goes_down_where_it_can() {
        for (mount, expected) in [
            (r#"{"name":"v","mountPath":"/m","readOnly":true}"#, Ok(false)),
            (r#"{"name":"v","mountPath":"/m","readOnly":true,"recursiveReadOnly":"IfPossible"}"#, Ok(true)),
            (r#"{"name":"v","mountPath":"/m","recursiveReadOnly":"IfPossible"}"#, Ok(false)),
            (
                r#"{"name":"v","mountPath":"/m","readOnly":true,"recursiveReadOnly":"IfPossible","mountPropagation":"HostToContainer"}"#,
                Ok(false),
            ),
            (r#"{"name":"v","mountPath":"/m","readOnly":true,"recursiveReadOnly":"Enabled"}"#, Ok(true)),
            (
                r#"{"name":"v","mountPath":"/m","recursiveReadOnly":"Enabled"}"#,
                Err("volume \"v\" requested recursive read-only mode, but it is not read-only"),
            ),
        ] {
            let got = recursive_read_only(&mount_of(mount));
            assert_eq!(got.as_ref().map(|it| *it).map_err(String::as_str), expected, "{mount}");
        }
    }
}
