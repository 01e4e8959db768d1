//! Whether this machine can run a cluster: who we are, and what the kernel has. Each lack is one line that says what to do.

use crate::failure::Failure;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Checks everything that a cluster needs before any of it is touched.
///
/// # Errors
/// The first thing that is missing.
pub fn check() -> Result<(), Failure> {
    check_root()?;
    check_filesystems()?;
    check_namespaces()?;
    check_cgroups()?;
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

fn check_filesystems() -> Result<(), Failure> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = |name: &str| known.lines().any(|line| line.split_ascii_whitespace().next_back() == Some(name));
    if has("overlay") {
        return Ok(());
    }
    Err(Failure::new("the kernel lacks overlayfs, which container images need: try `modprobe overlay`"))
}

fn check_namespaces() -> Result<(), Failure> {
    for (name, option) in [
        ("net", "CONFIG_NET_NS"),
        ("pid", "CONFIG_PID_NS"),
        ("ipc", "CONFIG_IPC_NS"),
        ("uts", "CONFIG_UTS_NS"),
    ] {
        if !std::path::Path::new("/proc/self/ns").join(name).exists() {
            return Err(Failure::new(format!(
                "the kernel lacks {name} namespaces ({option}), which pods need"
            )));
        }
    }
    Ok(())
}

fn check_cgroups() -> Result<(), Failure> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup"))) {
        return Ok(());
    }
    Err(Failure::new(
        "no cgroup hierarchy is mounted: mount one, for example `mount -t cgroup2 none /sys/fs/cgroup`",
    ))
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
/// Says who may hold the port and how to choose another.
pub fn check_port(port: u16) -> Result<(), Failure> {
    match TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Failure::new(format!(
            "port {port} is in use by another program: stop it, or choose another with --port"
        ))),
        Err(error) => Err(Failure::new(format!("cannot listen on port {port}: {error}"))),
    }
}
