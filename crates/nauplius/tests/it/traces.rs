//! What a cluster leaves on its machine, as the kernel tells it: processes, mounts, links, tables, cgroups and files.

use crate::cluster::Cluster;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A process: its number and when it started, in the kernel's ticks, so that a reused number is another process.
pub type Process = (u32, u64);

fn numbers() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn read(pid: u32, file: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn started(pid: u32) -> u64 {
    let stat = read(pid, "stat");
    // The name in parentheses may have spaces; the start is the 20th field after it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_ascii_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or_default()
}

/// The processes of containers, by the uid of their pod.
pub fn container_processes(cluster: &Cluster) -> BTreeMap<String, Vec<Process>> {
    let root = format!("/nauplius/{}/", cluster.name);
    let mut found: BTreeMap<String, Vec<Process>> = BTreeMap::new();
    for pid in numbers() {
        let groups = read(pid, "cgroup");
        let Some(group) = groups.lines().find(|line| line.contains(&root)) else { continue };
        let pod = group.split('/').find_map(|part| part.strip_prefix("pod")).unwrap_or("no pod");
        found.entry(pod.to_owned()).or_default().push((pid, started(pid)));
    }
    found
}

fn processes(name: &str) -> Vec<String> {
    let (group, word) = (format!("/nauplius/{name}/"), format!("/{name}/"));
    let ours = |pid: &u32| {
        let line = read(*pid, "cmdline");
        let named =
            line.contains("nauplius") && (line.contains(&word) || line.split('\0').any(|arg| arg == name));
        named || read(*pid, "cgroup").contains(&group)
    };
    let found = numbers().into_iter().filter(|pid| *pid != std::process::id()).filter(ours);
    found.map(|pid| format!("process {pid}: {}", read(pid, "cmdline").replace('\0', " "))).collect()
}

/// Mount points below a directory.
pub fn mounts(below: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(1));
    points.filter(|point| Path::new(point).starts_with(below)).map(|point| format!("mount {point}")).collect()
}

/// The cluster's links: its bridge, and one for each pod.
pub fn links(name: &str) -> Vec<String> {
    let prefix = nauplius_net::bridge::interface_prefix(name);
    let entries = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    let links = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let ours = |link: &String| {
        let rest = link.strip_prefix(&prefix);
        rest.is_some_and(|rest| rest == "0" || rest.starts_with('-'))
    };
    links.filter(ours).map(|link| format!("link {link}")).collect()
}

/// The cluster's nftables tables.
pub fn tables(name: &str) -> Vec<String> {
    let table = format!("nauplius-{name}");
    let tables = nauplius_link::nft::Nft::open().and_then(|mut nft| nft.tables()).unwrap();
    let ours = tables.into_iter().filter(|listed| listed.name == table);
    ours.map(|listed| format!("nftables table {}", listed.name)).collect()
}

/// The cluster's directories in each cgroup hierarchy.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let directories = hierarchies.map(|hierarchy| hierarchy.path().join("nauplius").join(name));
    directories.filter(|directory| directory.exists()).collect()
}

fn files(cluster: &Cluster) -> Vec<String> {
    let run = Path::new("/run/nauplius").join(&cluster.name);
    let lock = Path::new("/run/nauplius").join(format!("{}.lock", cluster.name));
    let left = [cluster.data_dir(), run, lock].into_iter().filter(|directory| directory.exists());
    let mut left: Vec<String> = left.map(|directory| directory.display().to_string()).collect();
    for list in [PathBuf::from("/var/lib/nauplius/clusters.json"), cluster.kubeconfig()] {
        let text = std::fs::read_to_string(&list).unwrap_or_default();
        left.extend(text.contains(&cluster.name).then(|| format!("an entry in {}", list.display())));
    }
    left
}

/// Everything that is left of a cluster, in words.
pub fn of(cluster: &Cluster) -> Vec<String> {
    let name = &cluster.name;
    let groups = cgroups(name).into_iter().map(|path| format!("cgroup {}", path.display()));
    let mut left = processes(name);
    left.extend(mounts(&cluster.data_dir()));
    left.extend(links(name));
    left.extend(tables(name));
    left.extend(groups);
    left.extend(files(cluster));
    left
}
