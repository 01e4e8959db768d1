//! The cgroup of a pod, in which the runtime makes those of its containers: made with the pod's sums, removed with all that is empty
//! below it. It knows hierarchies v1 and v2, and no pods.

use crate::spec::resources::PodLimits;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where controllers are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mounts {
    /// Each v1 hierarchy with its controllers.
    v1: Vec<(Vec<String>, PathBuf)>,
    v2: Option<PathBuf>,
}

fn mounts() -> io::Result<Mounts> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo")?))
}

fn parse(table: &str) -> Mounts {
    let mut mounts = Mounts { v1: Vec::new(), v2: None };
    for line in table.lines() {
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let (Some(point), mut tail) = (head.split(' ').nth(4), tail.split(' ')) else { continue };
        match tail.next() {
            Some("cgroup") => {
                let options = tail.nth(1).unwrap_or_default().split(',').map(str::to_owned).collect();
                mounts.v1.push((options, PathBuf::from(point)));
            }
            Some("cgroup2") if mounts.v2.is_none() => mounts.v2 = Some(PathBuf::from(point)),
            _ => {}
        }
    }
    mounts
}

impl Mounts {
    fn v1(&self, controller: &str) -> Option<&Path> {
        let found =
            self.v1.iter().find(|(controllers, _)| controllers.iter().any(|known| known == controller));
        found.map(|(_, point)| point.as_path())
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.v1.iter().map(|(_, point)| point).chain(&self.v2)
    }
}

/// Makes the group and writes its limits. In other hierarchies the runtime makes it.
///
/// # Errors
/// The system's.
pub fn create(group: &str, limits: &PodLimits) -> io::Result<()> {
    let mounts = mounts()?;
    let relative = group.trim_start_matches('/');
    if mounts.v1.is_empty() {
        let Some(root) = &mounts.v2 else { return Ok(()) };
        return create_v2(root, relative, limits);
    }
    if let Some(point) = mounts.v1("cpu") {
        let directory = point.join(relative);
        make(&directory)?;
        fs::write(directory.join("cpu.shares"), limits.cpu_shares.to_string())?;
        if let Some(quota) = limits.cpu_quota {
            fs::write(directory.join("cpu.cfs_quota_us"), quota.to_string())?;
        }
    }
    if let Some(point) = mounts.v1("memory") {
        let directory = point.join(relative);
        make(&directory)?;
        if let Some(limit) = limits.memory_limit {
            fs::write(directory.join("memory.limit_in_bytes"), limit.to_string())?;
        }
    }
    Ok(())
}

/// Raises the limits of a group that is there to these; what is higher already, or without limit, stays.
///
/// # Errors
/// The system's.
pub fn widen(group: &str, limits: &PodLimits) -> io::Result<()> {
    let mounts = mounts()?;
    let relative = group.trim_start_matches('/');
    let (cpu, memory) = match (mounts.v1.is_empty(), &mounts.v2) {
        (true, Some(root)) => {
            (Some(root.join(relative).join("cpu.max")), Some(root.join(relative).join("memory.max")))
        }
        _ => (
            mounts.v1("cpu").map(|point| point.join(relative).join("cpu.cfs_quota_us")),
            mounts.v1("memory").map(|point| point.join(relative).join("memory.limit_in_bytes")),
        ),
    };
    for (file, limit) in [(cpu, limits.cpu_quota), (memory, limits.memory_limit)] {
        if let (Some(file), Some(limit)) = (file, limit)
            && is_wider(&fs::read_to_string(&file)?, limit)
        {
            fs::write(file, limit.to_string())?;
        }
    }
    Ok(())
}

/// `max`, -1 and what is no number are no limits.
fn is_wider(now: &str, limit: i64) -> bool {
    let now = now.split_whitespace().next().and_then(|word| word.parse::<i64>().ok());
    now.is_some_and(|now| now >= 0 && now < limit)
}

/// Makes a directory with its parents. Whoever removes another cluster's last group may take an empty parent away in between.
fn make(directory: &Path) -> io::Result<()> {
    const TRIES: usize = 20;
    for _ in 1..TRIES {
        match fs::create_dir_all(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
    }
    fs::create_dir_all(directory)
}

fn create_v2(root: &Path, relative: &str, limits: &PodLimits) -> io::Result<()> {
    let mut directory = root.to_owned();
    for part in relative.split('/').filter(|part| !part.is_empty()) {
        for controller in ["+cpu", "+memory", "+pids", "+cpuset", "+io", "+hugetlb"] {
            // A controller that this kernel lacks cannot be handed down; limits that need it fail below.
            let _ = fs::write(directory.join("cgroup.subtree_control"), controller);
        }
        directory.push(part);
        make(&directory)?;
    }
    // As runtimes translate: 2..262144 shares are 1..10000 in weight.
    let weight = 1 + (limits.cpu_shares - 2) * 9999 / 262_142;
    fs::write(directory.join("cpu.weight"), weight.to_string())?;
    if let Some(quota) = limits.cpu_quota {
        fs::write(directory.join("cpu.max"), format!("{quota} 100000"))?;
    }
    if let Some(limit) = limits.memory_limit {
        fs::write(directory.join("memory.max"), limit.to_string())?;
    }
    Ok(())
}

/// Removes the group from every hierarchy, with what is below it. What is gone is fine.
///
/// # Errors
/// When processes are in it still.
pub fn remove(group: &str) -> io::Result<()> {
    let relative = group.trim_start_matches('/');
    if relative.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root group stays"));
    }
    mounts()?.all().try_for_each(|point| remove_tree(&point.join(relative)))
}

/// Makes the groups of the classes: best effort gets what others leave.
///
/// # Errors
/// The system's.
pub fn prepare(root: &str) -> io::Result<()> {
    let root = root.trim_end_matches('/');
    create(&format!("{root}/besteffort"), &PodLimits { cpu_shares: 2, ..PodLimits::default() })
}

/// The uids of the pods that have groups below `root`.
pub fn pods(root: &str) -> BTreeSet<String> {
    // What cannot be listed cannot be swept.
    let Ok(mounts) = mounts() else { return BTreeSet::new() };
    let mut uids = BTreeSet::new();
    for point in mounts.all() {
        for class in ["", "burstable", "besteffort"] {
            let directory = point.join(root.trim_matches('/')).join(class);
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                uids.extend(name.strip_prefix("pod").map(str::to_owned));
            }
        }
    }
    uids
}

/// Removes all pods' cgroups below a kubelet's root; for whoever deletes the cluster.
///
/// # Errors
/// As for one.
pub fn remove_all(root: &str) -> io::Result<()> {
    remove(root)
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_narrower_is_widened() {
        for (now, limit, expected) in [
            ("-1\n", 5, false),
            ("max 100000\n", 5, false),
            ("50000 100000\n", 60_000, true),
            ("50000\n", 50_000, false),
            ("9223372036854771712\n", 64 << 20, false),
        ] {
            assert_eq!(is_wider(now, limit), expected, "{now:?}");
        }
    }

    #[test]
    fn both_layouts_are_read() {
        let table = "31 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                     32 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                     33 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let mounts = parse(table);
        assert_eq!(mounts.v1("cpu"), Some(Path::new("/sys/fs/cgroup/cpu")));
        assert_eq!(mounts.all().count(), 3);
    }
}
