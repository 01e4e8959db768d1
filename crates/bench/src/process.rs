//! What the server's processes take: CPU time and peak memory, read from /proc, and which process listens on a port.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// What a measurement cost the server.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// CPU seconds, user and system.
    pub cpu_s: f64,
    /// The most resident memory meanwhile, in MiB.
    pub peak_mib: f64,
}

/// Measures processes from its making to its [`Meter::read`].
pub struct Meter {
    pids: Vec<u32>,
    cpu_before_s: f64,
}

impl Meter {
    /// Begins; the kernel's mark of peak memory starts over, where we may do that.
    pub fn start(pids: &[u32]) -> Self {
        for pid in pids {
            // Another user's process: the peak is then that of its whole life.
            let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
        Self { pids: pids.to_vec(), cpu_before_s: cpu_s(pids) }
    }

    /// What processes took since they began.
    pub fn whole_life(pids: &[u32]) -> Option<Cost> {
        Self { pids: pids.to_vec(), cpu_before_s: 0.0 }.read()
    }

    /// What was taken since; `None` when no process is known.
    pub fn read(&self) -> Option<Cost> {
        let peak_kib: u64 = self.pids.iter().map(|pid| status_kib(*pid, "VmHWM:")).sum();
        #[allow(clippy::cast_precision_loss)] // Memory is far below 2^52 KiB.
        let peak_mib = peak_kib as f64 / 1024.0;
        (!self.pids.is_empty()).then(|| Cost { cpu_s: cpu_s(&self.pids) - self.cpu_before_s, peak_mib })
    }
}

fn cpu_s(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).sum()
}

/// User and system time of a `stat` line, in seconds; Linux counts a hundredth of a second on every machine we know.
fn ticks(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / 100.0)
}

/// A line of a process' status; 0 when it has ended.
fn status_kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Resident memory now, in MiB.
pub fn resident_mib(pids: &[u32]) -> f64 {
    let kib: u64 = pids.iter().map(|pid| status_kib(*pid, "VmRSS:")).sum();
    #[allow(clippy::cast_precision_loss)] // Memory is far below 2^52 KiB.
    let mib = kib as f64 / 1024.0;
    mib
}

/// The processes of this machine that listen where `address` leads; none when that is another machine.
pub fn listening_at(address: SocketAddr) -> Vec<u32> {
    if !is_ours(address.ip()) {
        return Vec::new();
    }
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(table).ok()) // Without IPv6 there is no such table.
        .flat_map(|table| listeners(&table, address.port()))
        .collect();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| holds(*pid, &inodes)).collect()
}

fn is_ours(ip: IpAddr) -> bool {
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}

/// The socket inodes that listen on `port` in one of the kernel's tables.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let end = format!(":{port:04X}");
    let lines = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    lines
        .filter(|fields| fields.len() > 9 && fields[1].ends_with(&end) && fields[3] == "0A")
        .map(|fields| fields[9].to_owned())
        .collect()
}

fn holds(pid: u32, inodes: &[String]) -> bool {
    let files = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"));
    files.into_iter().flatten().flatten().any(|file| {
        let target = std::fs::read_link(file.path()).unwrap_or_default(); // Closed meanwhile: not it.
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|own| own == inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_listener_of_a_port() {
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(listening_at(listener.local_addr().unwrap()), [std::process::id()]);
        assert!(listening_at("192.0.2.1:6443".parse().unwrap()).is_empty());
    }

    #[test]
    fn reads_cpu_time_and_memory() {
        let stat = "17 (a b) c) S 1 17 17 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(3.0));
        assert_eq!(ticks("gone"), None);
        let own = [std::process::id()];
        assert!(Meter::start(&own).read().unwrap().peak_mib > 1.0);
        assert!(resident_mib(&own) > 1.0);
        assert_eq!(Meter::start(&[]).read(), None);
    }
}
