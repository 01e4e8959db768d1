//! How much of each thing is left on the node, read from the machine's files.

use super::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How much is left, and of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Left.
    pub available: i64,
    /// In all.
    pub capacity: i64,
}

/// What is left by signal. What cannot be read is not short.
pub type Observations = BTreeMap<Signal, Left>;

/// Reads everything: `node_root` is on the node's disk, `image_root` where images are.
pub fn observe(node_root: &Path, image_root: Option<&Path>) -> Observations {
    let mut all = Observations::new();
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if let (Some(available), Some(capacity)) = (meminfo(&table, "MemAvailable"), meminfo(&table, "MemTotal"))
    {
        all.insert(Signal::MemoryAvailable, Left { available, capacity });
    }
    disk(node_root, [Signal::NodefsAvailable, Signal::NodefsInodesFree], &mut all);
    // On one disk the node's thresholds speak for images too: there is nothing that one could win and not the other.
    if let Some(images) = image_root.filter(|images| device(images) != device(node_root)) {
        disk(images, [Signal::ImagefsAvailable, Signal::ImagefsInodesFree], &mut all);
    }
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let most = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    if let (Some(used), Ok(capacity)) = (tasks(&loads), most.trim().parse::<i64>()) {
        all.insert(Signal::PidAvailable, Left { available: capacity - used, capacity });
    }
    all
}

fn device(path: &Path) -> Option<u64> {
    // What is not there is on no device.
    fs::metadata(path).ok().map(|metadata| metadata.dev())
}

fn meminfo(table: &str, key: &str) -> Option<i64> {
    let line = table.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<i64>().ok()? * 1024) // No number is no observation.
}

/// Tasks of the machine: `0.1 0.2 0.3 2/345 6789`.
fn tasks(loads: &str) -> Option<i64> {
    loads.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok() // As above.
}

/// Bytes left and in all of the file system that holds `path`.
pub fn space(path: &Path) -> Option<Left> {
    let stat = rustix::fs::statvfs(path).ok()?; // What cannot be asked is not short.
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize).cast_signed();
    Some(Left { available: bytes(stat.f_bavail), capacity: bytes(stat.f_blocks) })
}

fn disk(path: &Path, [bytes, inodes]: [Signal; 2], all: &mut Observations) {
    if let Some(left) = space(path) {
        all.insert(bytes, left);
    }
    // A file system that counts no inodes never runs out of them.
    if let Ok(stat) = rustix::fs::statvfs(path)
        && stat.f_files > 0
    {
        let left = Left { available: stat.f_ffree.cast_signed(), capacity: stat.f_files.cast_signed() };
        all.insert(inodes, left);
    }
}

/// Bytes and inodes below a directory or of a file. What vanishes while it is counted does not count.
pub fn usage(path: &Path) -> (i64, i64) {
    const BLOCK: u64 = 512;
    let (mut bytes, mut inodes) = (0_u64, 0);
    let mut pending = vec![path.to_owned()];
    while let Some(next) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&next) else { continue };
        bytes += metadata.blocks() * BLOCK;
        inodes += 1;
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&next).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    (bytes.cast_signed(), inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read() {
        assert_eq!(meminfo("MemTotal: 9 kB\nMemAvailable:   3 kB\n", "MemAvailable"), Some(3072));
        assert_eq!(tasks("0.00 0.01 0.05 2/345 6789"), Some(345));
        let all = observe(Path::new("/"), None);
        assert!(all[&Signal::MemoryAvailable].available > 0);
        assert!(all[&Signal::NodefsAvailable].capacity >= all[&Signal::NodefsAvailable].available);
        assert!(all[&Signal::PidAvailable].available > 0);
        assert!(!all.contains_key(&Signal::ImagefsAvailable));
    }

    #[test]
    fn what_is_below_a_directory_counts() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("d")).unwrap();
        fs::write(directory.path().join("d/f"), vec![1; 100_000]).unwrap();
        let (bytes, inodes) = usage(directory.path());
        assert!(bytes >= 100_000 && inodes == 3, "{bytes} {inodes}");
    }
}
