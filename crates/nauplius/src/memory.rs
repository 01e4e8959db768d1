//! How much memory the cluster's processes take: proportional set sizes, so that pages they share are counted once.

use crate::control::Memory;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Sums the PSS of the server, of the shims and of the containers, in KiB. A process that ends meanwhile counts nothing.
pub fn measure(server: u32, shims: &[u32], containers: &[u32]) -> Memory {
    let sum = |pids: &[u32]| pids.iter().map(|pid| pss_kib(*pid)).sum();
    Memory { server: pss_kib(server), shims: sum(shims), containers: sum(containers) }
}

/// The cluster's processes besides the server.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// One a pod.
    pub shims: Vec<u32>,
    /// Everything below the shims.
    pub containers: Vec<u32>,
}

/// Finds the shims of the runtime in `runtime_dir` and their descendants.
pub fn processes(runtime_dir: &Path) -> Processes {
    let parents = parents();
    let pids = parents.iter().map(|(pid, _)| *pid);
    let shims: Vec<u32> = pids.filter(|pid| shim_directory(*pid, runtime_dir).is_some()).collect();
    let mut below = shims.clone();
    let mut containers = Vec::new();
    while let Some(parent) = below.pop() {
        let children = parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid);
        let children: Vec<u32> = children.filter(|pid| !shims.contains(pid)).collect();
        containers.extend(&children);
        below.extend(children);
    }
    Processes { shims, containers }
}

/// The shims of the runtime in `runtime_dir`, each with the directory of its sandbox.
pub fn shims(runtime_dir: &Path) -> BTreeMap<u32, PathBuf> {
    let shim = |pid: u32| Some((pid, shim_directory(pid, runtime_dir)?));
    parents().into_iter().filter_map(|(pid, _)| shim(pid)).collect()
}

/// Every process.
pub fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    pids().into_iter().filter_map(|pid| Some((pid, parent_of(pid)?))).collect()
}

/// The field after the state, which follows the parenthesised name.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The sandbox's directory, if the process is a shim of this runtime. One that has ended has no command line any more.
fn shim_directory(pid: u32, runtime_dir: &Path) -> Option<PathBuf> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut arguments = line.split(|byte| *byte == 0);
    let (_, command, directory) = (arguments.next(), arguments.next(), arguments.next());
    let directory = Path::new(std::str::from_utf8(directory?).ok()?);
    (command == Some(b"shim") && directory.starts_with(runtime_dir)).then(|| directory.to_owned())
}

/// The proportional set size of one process in KiB; 0 when it has ended.
pub fn pss_kib(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("smaps_rollup"));
    rollup.map_or(0, |text| parse_pss(&text))
}

fn parse_pss(rollup: &str) -> u64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_ascii_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_rollup() {
        assert_eq!(
            parse_pss("00200000-7ffca8a17000 ---p\nRss:  1140 kB\nPss:   1132 kB\nPss_Dirty: 1 kB\n"),
            1132
        );
        assert_eq!(parse_pss(""), 0);
        assert!(pss_kib(std::process::id()) > 100);
    }
}
