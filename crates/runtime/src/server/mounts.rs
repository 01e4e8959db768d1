//! Which mounts a container gets, and in which order: what every container has, then the sandbox's files, then the config's
//! mounts. It looks at the host only to check sources.

use super::image_volumes::ImageVolume;
use crate::cgroup::Layout;
use crate::spec::{Mount, MountKind, Propagation, ReadOnly};
use nauplius_cri::v1::{self, MountPropagation};
use std::path::{Path, PathBuf};

const RDONLY: u32 = 0x1;
const NOSUID: u32 = 0x2;
const NODEV: u32 = 0x4;
const NOEXEC: u32 = 0x8;
const STRICTATIME: u32 = 0x20;

/// What the sandbox contributes.
pub(crate) struct SandboxFiles<'a> {
    pub directory: &'a Path,
    /// The pod's shared memory, or the host's.
    pub shm: PathBuf,
}

/// Why a mount cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("mount {0:?}: the container path is not absolute or leaves the root")]
    Target(String),
    #[error("failed to mkdir {path:?}: mkdir {path}: {}", nauplius_base::errno::words(source))]
    Source { path: String, source: std::io::Error },
    #[error("path {path:?} is mounted on {mount:?} but it is not a {needed} mount")]
    NotShared { path: String, mount: String, needed: &'static str },
    #[error("mount {target:?}: {what} is not supported")]
    Unsupported { target: String, what: &'static str },
    #[error("mount {0:?}: recursive read-only needs a read-only mount with private propagation")]
    Recursive(String),
}

/// The mounts of a container. `volumes` are those that its image declares; `images` resolves the layers of volumes that are images, topmost first.
pub(crate) fn plan(
    config: &v1::ContainerConfig,
    files: &SandboxFiles<'_>,
    layout: &Layout,
    privileged: bool,
    readonly_rootfs: bool,
    volumes: &[ImageVolume],
    images: &mut dyn FnMut(&v1::ImageSpec) -> Result<Vec<PathBuf>, nauplius_cri::CriError>,
) -> Result<Vec<Mount>, nauplius_cri::CriError> {
    let mut requested: Vec<Mount> = volumes.iter().map(ImageVolume::mount).collect();
    for mount in &config.mounts {
        let kind = match &mount.image {
            Some(image) if !image.image.is_empty() => image_volume(&images(image)?, mount).map_err(refuse)?,
            _ => bind(mount).map_err(refuse)?,
        };
        requested.push(Mount { target: normal(&mount.container_path).map_err(refuse)?, kind });
    }
    // Deeper targets lie inside shallower ones, whatever the order of the config.
    requested.sort_by_key(|mount| depth(&mount.target));
    let mut mounts = defaults(layout, privileged);
    mounts.extend(sandbox_files(files, readonly_rootfs));
    mounts.retain(|mount| !requested.iter().any(|request| request.target == mount.target));
    mounts.extend(requested);
    Ok(mounts)
}

fn refuse(error: MountError) -> nauplius_cri::CriError {
    nauplius_cri::CriError::unknown(format!("failed to generate container spec: {error}"))
}

fn depth(target: &str) -> usize {
    target.split('/').filter(|part| !part.is_empty()).count()
}

fn normal(target: &str) -> Result<String, MountError> {
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if !target.starts_with('/') || parts.contains(&"..") {
        return Err(MountError::Target(target.to_owned()));
    }
    Ok(format!("/{}", parts.join("/")))
}

fn new(target: &str, filesystem: &str, attributes: u32, options: &[(&str, Option<&str>)]) -> Mount {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect();
    Mount {
        target: target.to_owned(),
        kind: MountKind::New { filesystem: filesystem.to_owned(), options, attributes },
    }
}

fn defaults(layout: &Layout, privileged: bool) -> Vec<Mount> {
    let lock = if privileged { 0 } else { RDONLY };
    let plain = NOSUID | NODEV | NOEXEC;
    let mut mounts = vec![
        new("/proc", "proc", plain, &[]),
        new("/dev", "tmpfs", NOSUID | STRICTATIME, &[("mode", Some("755")), ("size", Some("65536k"))]),
        new(
            "/dev/pts",
            "devpts",
            NOSUID | NOEXEC,
            &[("ptmxmode", Some("0666")), ("mode", Some("0620")), ("gid", Some("5"))],
        ),
        new("/dev/mqueue", "mqueue", plain, &[]),
        new("/sys", "sysfs", plain | lock, &[]),
    ];
    let groups = layout.container_mounts();
    if groups.iter().any(|(_, name, _)| !name.is_empty()) {
        mounts.push(new("/sys/fs/cgroup", "tmpfs", plain, &[("mode", Some("755"))]));
    }
    for (filesystem, name, options) in groups {
        let target = format!("/sys/fs/cgroup/{name}");
        let options: Vec<(&str, Option<&str>)> =
            options.iter().map(|option| (option.as_str(), None)).collect();
        mounts.push(new(target.trim_end_matches('/'), filesystem, plain | lock, &options));
    }
    mounts
}

/// Paths to make read-only after all mounts, beside the config's: the tree that the cgroup mounts stand in.
pub(crate) fn late_readonly(layout: &Layout, privileged: bool) -> Option<String> {
    (matches!(layout, Layout::V1(_)) && !privileged).then(|| "/sys/fs/cgroup".to_owned())
}

fn sandbox_files(files: &SandboxFiles<'_>, readonly_rootfs: bool) -> Vec<Mount> {
    let read_only = if readonly_rootfs { ReadOnly::Top } else { ReadOnly::No };
    let bind = |target: &str, source: PathBuf, read_only| Mount {
        target: target.to_owned(),
        kind: MountKind::Bind { source, read_only, propagation: Propagation::Private },
    };
    let mut mounts = vec![bind("/dev/shm", files.shm.clone(), ReadOnly::No)];
    for name in ["hostname", "resolv.conf", "hosts"] {
        mounts.push(bind(&format!("/etc/{name}"), files.directory.join(name), read_only));
    }
    mounts
}

fn bind(mount: &v1::Mount) -> Result<MountKind, MountError> {
    let target = || mount.container_path.clone();
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(MountError::Unsupported { target: target(), what: "id mapping" });
    }
    if mount.selinux_relabel && Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(MountError::Unsupported { target: target(), what: "SELinux relabelling" });
    }
    let source = PathBuf::from(&mount.host_path);
    // Upstream's runtimes make missing sources, and manifests rely on it.
    if !source.exists() {
        std::fs::create_dir_all(&source)
            .map_err(|error| MountError::Source { path: mount.host_path.clone(), source: error })?;
    }
    let propagation = match MountPropagation::try_from(mount.propagation) {
        Ok(MountPropagation::PropagationPrivate) => Propagation::Private,
        Ok(MountPropagation::PropagationHostToContainer) => Propagation::HostToContainer,
        Ok(MountPropagation::PropagationBidirectional) => Propagation::Bidirectional,
        Err(_) => return Err(MountError::Unsupported { target: target(), what: "this propagation" }),
    };
    check_propagation(&source, &propagation)?;
    let read_only = match (mount.readonly, mount.recursive_read_only) {
        (true, true) if propagation == Propagation::Private => ReadOnly::Recursive,
        (_, true) => return Err(MountError::Recursive(target())),
        (true, false) => ReadOnly::Top,
        (false, false) => ReadOnly::No,
    };
    Ok(MountKind::Bind { source, read_only, propagation })
}

fn image_volume(layers: &[PathBuf], mount: &v1::Mount) -> Result<MountKind, MountError> {
    match layers {
        [] => Err(MountError::Unsupported {
            target: mount.container_path.clone(),
            what: "an image without layers",
        }),
        [layer] => Ok(MountKind::Bind {
            source: layer.clone(),
            read_only: ReadOnly::Recursive,
            propagation: Propagation::Private,
        }),
        layers => Ok(MountKind::New {
            filesystem: "overlay".to_owned(),
            options: layers
                .iter()
                .map(|layer| ("lowerdir+".to_owned(), Some(layer.display().to_string())))
                .collect(),
            attributes: RDONLY | NOSUID | NODEV,
        }),
    }
}

/// What is mounted later can only be passed on by a mount that passes on.
fn check_propagation(source: &Path, propagation: &Propagation) -> Result<(), MountError> {
    let (tags, needed): (&[&str], _) = match propagation {
        Propagation::Private => return Ok(()),
        Propagation::HostToContainer => (&["shared:", "master:"], "shared or slave"),
        Propagation::Bidirectional => (&["shared:"], "shared"),
    };
    let path = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    // Without the table nothing can be said to be shared.
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let (mount, options) = holder(&table, &path).unwrap_or(("", Vec::new()));
    if options.iter().any(|option| tags.iter().any(|tag| option.starts_with(tag))) {
        return Ok(());
    }
    Err(MountError::NotShared { path: source.display().to_string(), mount: mount.to_owned(), needed })
}

/// The mount that holds `path`, with its optional fields: the last of the deepest, for a later mount covers an earlier one.
fn holder<'a>(table: &'a str, path: &Path) -> Option<(&'a str, Vec<&'a str>)> {
    let mounts = table.lines().filter_map(|line| {
        let (head, _) = line.split_once(" - ")?;
        let mut fields = head.split(' ');
        let mount = fields.nth(4)?;
        path.starts_with(mount).then(|| (mount, fields.skip(1).collect()))
    });
    mounts.max_by_key(|(mount, _)| Path::new(mount).components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(mounts: &[v1::Mount]) -> Vec<String> {
        let config = v1::ContainerConfig { mounts: mounts.to_vec(), ..Default::default() };
        let files = SandboxFiles { directory: Path::new("/s"), shm: "/s/shm".into() };
        let layout = Layout::V2("/sys/fs/cgroup".into());
        let volume = ImageVolume { target: "/data/cache".to_owned(), source: "/c/volumes/0".into() };
        let planned =
            plan(&config, &files, &layout, false, true, &[volume], &mut |_| Ok(vec!["/l".into()])).unwrap();
        planned.into_iter().map(|mount| mount.target).collect()
    }

    #[test]
    fn the_config_overrides_and_nests() {
        let mount = |path: &str| v1::Mount {
            container_path: path.to_owned(),
            host_path: "/".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            targets(&[mount("/data/a/"), mount("/data"), mount("/etc/hosts")]),
            [
                "/proc",
                "/dev",
                "/dev/pts",
                "/dev/mqueue",
                "/sys",
                "/sys/fs/cgroup",
                "/dev/shm",
                "/etc/hostname",
                "/etc/resolv.conf",
                "/data",
                "/data/cache",
                "/data/a",
                "/etc/hosts",
            ]
        );
    }

    #[test]
    fn mounts_that_pass_on_are_told_from_others() {
        let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /a rw,nosuid shared:7 - tmpfs t rw\n\
            3 2 0:3 / /a/b rw master:7 - tmpfs t rw\n4 3 0:3 / /a/b rw - tmpfs t rw\n";
        for (path, expected) in
            [("/x", ("/", vec![])), ("/a/c", ("/a", vec!["shared:7"])), ("/a/b/c", ("/a/b", vec![]))]
        {
            assert_eq!(holder(table, Path::new(path)), Some(expected), "{path}");
        }
    }

    #[test]
    fn bad_mounts_are_refused() {
        let mount =
            v1::Mount { host_path: "/".to_owned(), container_path: "/x".to_owned(), ..Default::default() };
        assert!(normal("relative").is_err());
        assert!(normal("/a/../b").is_err());
        assert!(bind(&v1::Mount { recursive_read_only: true, ..mount.clone() }).is_err());
        assert!(bind(&v1::Mount { uid_mappings: vec![v1::IdMapping::default()], ..mount.clone() }).is_err());
        assert!(bind(&v1::Mount { propagation: 9, ..mount.clone() }).is_err());
        let volume = v1::Mount { readonly: true, recursive_read_only: true, ..mount };
        assert!(matches!(bind(&volume).unwrap(), MountKind::Bind { read_only: ReadOnly::Recursive, .. }));
    }
}
