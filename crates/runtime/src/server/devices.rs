//! Device nodes of a container: the ones that every program expects, those that the config names, or, privileged, all of the
//! host's. It must not know cgroups beyond the rules that it hands out.

use crate::cgroup::DeviceRule;
use crate::spec::DeviceNode;
use nauplius_cri::v1::Device;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// Directories of `/dev` that containers have of their own, and deep enough for any device tree.
const OWN: [&str; 6] = ["pts", "shm", "mqueue", "fd", "lxc", ".udev"];
const DEPTH_LIMIT: usize = 4;

/// Nodes to make and what may be used.
pub(crate) fn plan(devices: &[Device], privileged: bool) -> io::Result<(Vec<DeviceNode>, Vec<DeviceRule>)> {
    let mut nodes = standard();
    let mut rules = DeviceRule::defaults();
    if privileged {
        rules = vec![DeviceRule::everything()];
        let mut found = Vec::new();
        collect(Path::new("/dev"), "/dev", 0, &mut found)?;
        nodes.extend(
            found
                .into_iter()
                .filter(|node| !matches!(node.path.as_str(), "/dev/console" | "/dev/ptmx" | "/dev/tty")),
        );
    }
    for device in devices {
        let mut found = Vec::new();
        collect(Path::new(&device.host_path), &device.container_path, 0, &mut found).map_err(|error| {
            io::Error::new(error.kind(), format!("device {:?}: {error}", device.host_path))
        })?;
        rules.extend(found.iter().map(|node| DeviceRule {
            kind: if node.block { 'b' } else { 'c' },
            major: Some(node.major),
            minor: Some(node.minor),
            access: device.permissions.clone(),
        }));
        nodes.extend(found);
    }
    // The last of a path counts.
    nodes.reverse();
    let mut seen = std::collections::BTreeSet::new();
    nodes.retain(|node| seen.insert(node.path.clone()));
    nodes.reverse();
    Ok((nodes, rules))
}

fn standard() -> Vec<DeviceNode> {
    let memory =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    memory
        .into_iter()
        .map(|(name, major, minor)| DeviceNode {
            path: format!("/dev/{name}"),
            block: false,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect()
}

/// The device at `host`, or all devices below it when it is a directory.
fn collect(host: &Path, container: &str, depth: usize, found: &mut Vec<DeviceNode>) -> io::Result<()> {
    let metadata = if depth == 0 { std::fs::metadata(host)? } else { std::fs::symlink_metadata(host)? };
    let kind = metadata.file_type();
    if kind.is_dir() && depth < DEPTH_LIMIT {
        for entry in std::fs::read_dir(host)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !OWN.contains(&name.as_str()) {
                collect(&entry.path(), &format!("{container}/{name}"), depth + 1, found)?;
            }
        }
    } else if kind.is_block_device() || kind.is_char_device() {
        let number = metadata.rdev();
        found.push(DeviceNode {
            path: container.to_owned(),
            block: kind.is_block_device(),
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        });
    } else if depth == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a device node"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_devices_join_the_standard_ones() {
        let device = Device {
            container_path: "/dev/x".into(),
            host_path: "/dev/zero".into(),
            permissions: "r".into(),
        };
        let (nodes, rules) = plan(&[device], false).unwrap();
        assert_eq!(nodes.len(), 7);
        assert_eq!((nodes[6].path.as_str(), nodes[6].major, nodes[6].minor), ("/dev/x", 1, 5));
        assert_eq!(rules.last().unwrap().access, "r");
        let missing = Device { host_path: "/dev/nosuch".into(), ..Device::default() };
        assert!(plan(&[missing], false).is_err());
        assert_eq!(plan(&[], true).unwrap().1, [DeviceRule::everything()]);
    }
}
