//! Whether this machine can run a cluster: who we are, what the kernel has, and what is free. Each lack is one line that says what
//! to do.

use crate::failure::{Doing, Failure};
use nauplius_link::Rtnl;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

const MIB: u64 = 1 << 20;

/// Checks everything that a cluster needs before any of it is touched.
///
/// # Errors
/// The first thing that is missing.
pub fn check() -> Result<(), Failure> {
    check_root()?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let has_namespace = |name: &str| Path::new("/proc/self/ns").join(name).exists();
    let lack = lack_of_kernel(&read("/proc/filesystems"), &read("/proc/self/mounts"), has_namespace);
    lack.map_or(Ok(()), |lack| Err(Failure::new(lack)))?;
    check_nftables()
}

/// Only root can make namespaces, mounts and links.
///
/// # Errors
/// When we are somebody else.
pub fn check_root() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new("this needs root, for containers and networks: run it again with sudo"))
}

/// What the kernel lacks, as its own tables tell.
fn lack_of_kernel(filesystems: &str, mounts: &str, has_namespace: impl Fn(&str) -> bool) -> Option<String> {
    let known =
        |name: &str| filesystems.lines().any(|line| line.split_ascii_whitespace().next_back() == Some(name));
    if !known("overlay") {
        return Some(
            "the kernel lacks overlayfs, which container images need: try `modprobe overlay`".to_owned(),
        );
    }
    for (name, option) in [
        ("net", "CONFIG_NET_NS"),
        ("pid", "CONFIG_PID_NS"),
        ("ipc", "CONFIG_IPC_NS"),
        ("uts", "CONFIG_UTS_NS"),
    ] {
        if !has_namespace(name) {
            return Some(format!(
                "the kernel lacks {name} namespaces, which pods need: boot one that was built with {option}"
            ));
        }
    }
    cgroup_mounts(mounts).next().is_none().then(|| {
        "no cgroup hierarchy is mounted: mount one, for example `mount -t cgroup2 none /sys/fs/cgroup`"
            .to_owned()
    })
}

fn check_nftables() -> Result<(), Failure> {
    let tables = nauplius_link::nft::Nft::open().and_then(|mut nft| nft.tables());
    tables.map(drop).map_err(|error| {
        Failure::new(format!(
            "the kernel lacks nftables, which services need ({error}): try `modprobe nf_tables`"
        ))
    })
}

/// Whether a port can be listened on, before a server is started that would fail later.
///
/// # Errors
/// What the system says.
pub fn try_listen(port: u16) -> std::io::Result<()> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).map(drop)
}

/// Why the kubelet's port cannot be listened on. A cluster keeps the one that it has taken.
pub fn kubelet_cannot_listen(port: u16, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(format!(
            "the kubelet's port {port} is in use by another program: stop it, or `nauplius delete` this cluster: a new one takes a free port"
        )),
        _ => Failure::new(format!("the kubelet cannot listen on port {port}: {error}")),
    }
}

/// Why a port cannot be listened on.
pub fn cannot_listen(port: u16, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(format!(
            "port {port} is in use by another program: stop it, or choose another with --port"
        )),
        _ => Failure::new(format!("cannot listen on port {port}: {error}")),
    }
}

/// Whether no program of this machine listens on a port.
pub fn is_free(port: u16) -> bool {
    try_listen(port).is_ok()
}

/// Removes our own top of each cgroup hierarchy, which clusters share, unless something is in it still.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_cgroups(top: &str) -> Result<(), Failure> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").doing("read the table of mounts")?;
    for hierarchy in cgroup_mounts(&mounts) {
        let directory = Path::new(hierarchy).join(top);
        match std::fs::remove_dir(&directory) {
            Ok(()) => {}
            // Busy is what the kernel calls one with children.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ResourceBusy) => {}
            Err(error) => return Err(Failure::io("cannot remove", &directory, &error)),
        }
    }
    Ok(())
}

/// Where cgroup hierarchies are mounted.
fn cgroup_mounts(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        kind.starts_with("cgroup").then_some(place)
    })
}

/// The addresses by which others can reach this machine.
///
/// # Errors
/// The kernel cannot be asked.
pub fn addresses() -> Result<Vec<Ipv4Addr>, Failure> {
    let listed = Rtnl::open().and_then(|mut rtnl| rtnl.addresses()).doing("read this machine's addresses")?;
    let addresses = listed.into_iter().filter_map(|address| match address.address.addr() {
        IpAddr::V4(v4) if !v4.is_loopback() => Some(v4),
        _ => None,
    });
    Ok(addresses.collect())
}

/// Whether the disk of `directory`, which need not exist yet, has room for `needed` bytes.
///
/// # Errors
/// How much there is, and what to do.
pub fn check_space(directory: &Path, needed: u64) -> Result<(), Failure> {
    let existing = directory.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let disk = rustix::fs::statvfs(existing)
        .map_err(|error| Failure::io("cannot look at the disk of", existing, &error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the disk of {} has {} MiB free and the cluster needs {}: free some, or choose another place with --data-dir",
        directory.display(),
        free / MIB,
        needed.div_ceil(MIB)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILESYSTEMS: &str = "nodev\ttmpfs\n\text4\nnodev\toverlay\n";
    const MOUNTS: &str = "proc /proc proc rw 0 0\nnone /sys/fs/cgroup cgroup2 rw 0 0\n";

    #[test]
    fn each_lack_says_what_to_do() {
        let all = |_: &str| true;
        assert_eq!(lack_of_kernel(FILESYSTEMS, MOUNTS, all), None);
        assert_eq!(lack_of_kernel(FILESYSTEMS, "c /sys/fs/cgroup/cpu cgroup rw 0 0", all), None);
        for (filesystems, mounts, lacking, expected) in [
            (
                "\text4\n",
                MOUNTS,
                "",
                "the kernel lacks overlayfs, which container images need: try `modprobe overlay`",
            ),
            (
                FILESYSTEMS,
                "proc /proc proc rw 0 0\n",
                "",
                "no cgroup hierarchy is mounted: mount one, for example `mount -t cgroup2 none /sys/fs/cgroup`",
            ),
            (
                FILESYSTEMS,
                MOUNTS,
                "pid",
                "the kernel lacks pid namespaces, which pods need: boot one that was built with CONFIG_PID_NS",
            ),
        ] {
            let has = |name: &str| name != lacking;
            assert_eq!(lack_of_kernel(filesystems, mounts, has).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_disk_without_room_is_told() {
        let place = tempfile::tempdir().unwrap();
        let below = place.path().join("not/there/yet");
        assert!(check_space(&below, 1).is_ok());
        let refusal = check_space(&below, u64::MAX).unwrap_err().to_string();
        assert!(refusal.contains("MiB free and the cluster needs 17592186044416: free some"), "{refusal}");
    }
}
