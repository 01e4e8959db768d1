//! Cgroups of containers, v1 and v2 behind one face: make, limit, enter, measure, remove. It must not know what a container is.

mod device_filter;
mod resources;
mod usage;

pub(crate) use resources::{DeviceRule, Resources, Write};
pub(crate) use usage::Usage;

use std::io;
use std::path::{Path, PathBuf};

/// What failed, at which file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("no cgroup hierarchy is mounted")]
    None,
    #[error("cgroup controller {0} is not available on this machine")]
    MissingController(&'static str),
    #[error("cgroup file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cgroup path {0:?} is not allowed")]
    Path(String),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CgroupError + '_ {
    move |source| CgroupError::File { path: path.to_owned(), source }
}

/// One mounted hierarchy of v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub controllers: Vec<String>,
    pub mount: PathBuf,
}

/// How this machine's cgroups are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    V1(Vec<Hierarchy>),
    V2(PathBuf),
}

/// Controllers of v1 that take part. Named hierarchies and a v2 tree beside v1 belong to somebody else.
const CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
];

impl Layout {
    /// Reads the layout from `/proc/self/mountinfo`.
    pub(crate) fn detect() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        Self::parse(&std::fs::read_to_string(path).map_err(at(path))?).ok_or(CgroupError::None)
    }

    fn parse(mountinfo: &str) -> Option<Self> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let Some((head, tail)) = line.split_once(" - ") else { continue };
            let mut tail = tail.split(' ');
            let (Some(mount), Some(kind)) = (head.split(' ').nth(4), tail.next()) else { continue };
            let controllers: Vec<String> = tail
                .nth(1)
                .unwrap_or("")
                .split(',')
                .filter(|option| CONTROLLERS.contains(option))
                .map(str::to_owned)
                .collect();
            match kind {
                "cgroup"
                    if controllers.is_empty()
                        || hierarchies.iter().any(|known| known.controllers == controllers) => {}
                "cgroup" => hierarchies.push(Hierarchy { controllers, mount: mount.into() }),
                "cgroup2" if unified.is_none() => unified = Some(mount.into()),
                _ => {}
            }
        }
        if hierarchies.is_empty() { unified.map(Self::V2) } else { Some(Self::V1(hierarchies)) }
    }

    /// `v1` or `v2`, for people.
    pub(crate) fn version(&self) -> &'static str {
        match self {
            Self::V1(_) => "v1",
            Self::V2(_) => "v2",
        }
    }

    fn mounts(&self) -> Vec<&Path> {
        match self {
            Self::V1(hierarchies) => hierarchies.iter().map(|hierarchy| hierarchy.mount.as_path()).collect(),
            Self::V2(mount) => vec![mount],
        }
    }

    fn directory(&self, controller: &'static str, group: &str) -> Result<PathBuf, CgroupError> {
        let mount = match self {
            Self::V1(hierarchies) => hierarchies
                .iter()
                .find(|hierarchy| hierarchy.controllers.iter().any(|known| known == controller))
                .map(|hierarchy| &hierarchy.mount),
            Self::V2(mount) => Some(mount),
        };
        Ok(mount.ok_or(CgroupError::MissingController(controller))?.join(group.trim_start_matches('/')))
    }

    /// Makes the group, with its parents, in every hierarchy.
    pub(crate) fn create(&self, group: &str) -> Result<(), CgroupError> {
        const TRIES: usize = 20;
        let parts = components(group)?;
        for mount in self.mounts() {
            let mut made = self.create_in(mount, &parts);
            // Whoever removes another root's last group may take an empty parent away in between.
            for _ in 1..TRIES {
                match &made {
                    Err(CgroupError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        made = self.create_in(mount, &parts);
                    }
                    _ => break,
                }
            }
            made?;
        }
        Ok(())
    }

    fn create_in(&self, mount: &Path, parts: &[&str]) -> Result<(), CgroupError> {
        let mut directory = mount.to_owned();
        for part in parts {
            if matches!(self, Self::V2(_)) {
                delegate_controllers(&directory)?;
            }
            let parent = directory.clone();
            directory.push(part);
            match std::fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(at(&directory)(error));
                }
                // Whoever makes another pod at the same time may have made it and not yet filled it.
                _ => inherit_cpuset(&parent, &directory)?,
            }
        }
        Ok(())
    }

    /// Writes limits.
    pub(crate) fn apply(&self, group: &str, resources: &Resources) -> Result<(), CgroupError> {
        match self {
            Self::V1(_) => self.write_all(group, &resources::v1_writes(resources)),
            Self::V2(_) => {
                self.write_all(group, &resources::v2_writes(resources))?;
                let Some(devices) = &resources.devices else { return Ok(()) };
                let directory = self.directory("devices", group)?;
                device_filter::attach(&directory, &device_filter::program(devices)).map_err(at(&directory))
            }
        }
    }

    /// In v1 a limit must not exceed the one of memory and swap together, nor the other way round, so raising wants another order
    /// than lowering: what is refused at first is written again after the rest.
    fn write_all(&self, group: &str, writes: &[Write]) -> Result<(), CgroupError> {
        let mut refused = Vec::new();
        for write in writes {
            let path = self.directory(write.controller, group)?.join(&write.file);
            match std::fs::write(&path, &write.value) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    refused.push((path, &write.value))
                }
                other => other.map_err(at(&path))?,
            }
        }
        refused.into_iter().try_for_each(|(path, value)| std::fs::write(&path, value).map_err(at(&path)))
    }

    /// The files that a process with one thread writes `0` into to enter the group. In v1 that is `tasks`: a thread that moves
    /// itself needs no lock over all forks and exits of the machine, which costs milliseconds through `cgroup.procs`.
    pub(crate) fn entry_files(&self, group: &str) -> Vec<PathBuf> {
        let file = match self {
            Self::V1(_) => "tasks",
            Self::V2(_) => "cgroup.procs",
        };
        let group = group.trim_start_matches('/');
        self.mounts().iter().map(|mount| mount.join(group).join(file)).collect()
    }

    /// The file with the `oom_kill` counter.
    pub(crate) fn oom_counter(&self, group: &str) -> Option<PathBuf> {
        let file = match self {
            Self::V1(_) => "memory.oom_control",
            Self::V2(_) => "memory.events",
        };
        // Without a memory controller there is no limit to be killed for.
        Some(self.directory("memory", group).ok()?.join(file))
    }

    /// What a container mounts below `/sys/fs/cgroup`: a file system, its name there, and its options.
    pub(crate) fn container_mounts(&self) -> Vec<(&'static str, String, Vec<String>)> {
        match self {
            Self::V1(hierarchies) => hierarchies
                .iter()
                .map(|hierarchy| ("cgroup", hierarchy.controllers.join(","), hierarchy.controllers.clone()))
                .collect(),
            Self::V2(_) => vec![("cgroup2", String::new(), Vec::new())],
        }
    }

    /// Kills whatever is in the group. It is empty when this returns, or the kernel takes its time.
    pub(crate) fn kill(&self, group: &str) {
        const ROUNDS: usize = 50;
        for _ in 0..ROUNDS {
            let pids = self.pids(group);
            if pids.is_empty() {
                return;
            }
            for pid in pids {
                // It may have ended since.
                let _ = crate::sys::process::kill(pid, libc::SIGKILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Kills whatever is in the group and in all groups below it.
    pub(crate) fn kill_tree(&self, group: &str) {
        let Some(mount) = self.mounts().into_iter().next() else { return };
        let group = group.trim_end_matches('/');
        // A group that is gone has nothing in it.
        let entries = std::fs::read_dir(mount.join(group.trim_start_matches('/'))).into_iter().flatten();
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            self.kill_tree(&format!("{group}/{}", entry.file_name().to_string_lossy()));
        }
        self.kill(group);
    }

    /// The processes in the group itself.
    pub(crate) fn pids(&self, group: &str) -> Vec<i32> {
        let Some(mount) = self.mounts().into_iter().next() else { return Vec::new() };
        let file = mount.join(group.trim_start_matches('/')).join("cgroup.procs");
        // A group that is gone has no processes.
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).filter(|pid: &i32| *pid > 0).collect()
    }

    /// Removes the group and all groups below it, from every hierarchy. What is gone already is fine.
    pub(crate) fn remove(&self, group: &str) -> Result<(), CgroupError> {
        if components(group)?.is_empty() {
            return Err(CgroupError::Path(group.to_owned()));
        }
        let group = group.trim_start_matches('/');
        self.mounts().iter().try_for_each(|mount| remove_tree(&mount.join(group)))
    }

    /// Removes the group as [`Layout::remove`] does, and the groups that it was in where nothing else is in them.
    pub(crate) fn remove_with_parents(&self, group: &str) -> Result<(), CgroupError> {
        self.remove(group)?;
        let parts = components(group)?;
        for mount in self.mounts() {
            for depth in (1..parts.len()).rev() {
                let parent = mount.join(parts[..depth].join("/"));
                match std::fs::remove_dir(&parent) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    // Others are in it.
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY)) => {
                        break;
                    }
                    outcome => outcome.map_err(at(&parent))?,
                }
            }
        }
        Ok(())
    }

    /// What the group has used.
    pub(crate) fn usage(&self, group: &str) -> Usage {
        let file = |controller, name: &str| {
            let directory = self.directory(controller, group).ok()?; // A missing controller measures nothing.
            std::fs::read_to_string(directory.join(name)).ok() // Nor does a group that is gone.
        };
        match self {
            Self::V1(_) => usage::v1(file),
            Self::V2(_) => usage::v2(file),
        }
    }
}

fn components(group: &str) -> Result<Vec<&str>, CgroupError> {
    let parts: Vec<&str> = group.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(CgroupError::Path(group.to_owned()));
    }
    Ok(parts)
}

/// A new cpuset is empty and takes no process until it is filled. In other hierarchies there is no such file.
fn inherit_cpuset(parent: &Path, child: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let target = child.join(file);
        // In v2 an empty cpuset means the parent's.
        if !target.exists() || child.join("cgroup.controllers").exists() {
            continue;
        }
        if !std::fs::read_to_string(&target).map_err(at(&target))?.trim().is_empty() {
            continue;
        }
        let source = parent.join(file);
        let value = std::fs::read_to_string(&source).map_err(at(&source))?;
        std::fs::write(&target, value.trim()).map_err(at(&target))?;
    }
    Ok(())
}

/// v2 gives children only the controllers that their parent hands on.
fn delegate_controllers(directory: &Path) -> Result<(), CgroupError> {
    let available = directory.join("cgroup.controllers");
    let enabled: Vec<String> = std::fs::read_to_string(&available)
        .map_err(at(&available))?
        .split_whitespace()
        .filter(|controller| ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"].contains(controller))
        .map(|controller| format!("+{controller}"))
        .collect();
    let control = directory.join("cgroup.subtree_control");
    std::fs::write(&control, enabled.join(" ")).map_err(at(&control))
}

fn remove_tree(directory: &Path) -> Result<(), CgroupError> {
    const ROUNDS: usize = 50;
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(directory)(error)),
    };
    // An entry that cannot be read will keep the directory from being removed, which is reported.
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path())?;
    }
    for _ in 0..ROUNDS {
        match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Its last process is dead but not yet gone.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Err(error) => return Err(at(directory)(error)),
        }
    }
    Err(at(directory)(io::Error::from_raw_os_error(libc::EBUSY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_apart() {
        let hybrid = "22 1 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            23 22 0:21 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            24 22 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            25 22 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            26 22 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n";
        let Some(Layout::V1(hierarchies)) = Layout::parse(hybrid) else { panic!("not v1") };
        let names: Vec<String> =
            hierarchies.iter().map(|hierarchy| hierarchy.controllers.join(",")).collect();
        assert_eq!(names, ["cpu,cpuacct", "memory"]);
        let pure = "26 22 0:24 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(Layout::parse(pure), Some(Layout::V2("/sys/fs/cgroup".into())));
        assert_eq!(Layout::parse("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn a_cpuset_that_another_has_just_made_is_filled() {
        let mount = tempfile::tempdir().unwrap();
        let group = mount.path().join("a");
        std::fs::create_dir(&group).unwrap();
        for (directory, cpus) in [(mount.path(), "0-1\n"), (&group, "\n")] {
            std::fs::write(directory.join("cpuset.cpus"), cpus).unwrap();
            std::fs::write(directory.join("cpuset.mems"), "0\n").unwrap();
        }
        let layout = Layout::V1(vec![Hierarchy {
            mount: mount.path().to_owned(),
            controllers: vec!["cpuset".to_owned()],
        }]);
        layout.create("/a/b").unwrap();
        assert_eq!(std::fs::read_to_string(group.join("cpuset.cpus")).unwrap(), "0-1");
        // What is set already stays.
        std::fs::write(group.join("cpuset.cpus"), "1").unwrap();
        layout.create("/a/b").unwrap();
        assert_eq!(std::fs::read_to_string(group.join("cpuset.cpus")).unwrap(), "1");
    }

    #[test]
    fn paths_stay_below_the_mount() {
        assert!(components("/a/../b").is_err());
        assert_eq!(components("/a//b/").unwrap(), ["a", "b"]);
        assert!(Layout::V2("/nowhere".into()).remove("/").is_err());
    }
}
