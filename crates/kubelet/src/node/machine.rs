//! What the machine is and has, read from its own files. No API, no runtime.

use crate::error::KubeletError;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What does not change while the kubelet runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Cores.
    pub cpus: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of the file system that holds the kubelet's files.
    pub storage: i64,
    /// Bytes by page size, as `hugepages-2Mi`.
    pub hugepages: BTreeMap<String, i64>,
    /// `amd64`
    pub architecture: String,
    /// As `uname -r`.
    pub kernel: String,
    /// `Debian GNU/Linux 12 (bookworm)`
    pub os_image: String,
    /// Of `/etc/machine-id`.
    pub machine_id: String,
    /// Of the firmware.
    pub system_uuid: String,
    /// Anew at each boot.
    pub boot_id: String,
}

fn read(path: &str) -> Result<String, KubeletError> {
    fs::read_to_string(path).map_err(|source| KubeletError::Machine { path: PathBuf::from(path), source })
}

/// The trimmed text of a file that some machines do not have.
fn optional(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// `MemTotal: 123 kB` in bytes.
fn meminfo(table: &str, key: &str) -> i64 {
    let line = table.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<i64>().ok()).unwrap_or(0) * 1024
}

fn pretty_name(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Go's name of what we were built for.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `hugepages-2048kB` as the API writes it: `hugepages-2Mi`.
fn page_name(kilobytes: i64) -> String {
    match kilobytes {
        kb if kb % (1 << 20) == 0 => format!("hugepages-{}Gi", kb >> 20),
        kb if kb % (1 << 10) == 0 => format!("hugepages-{}Mi", kb >> 10),
        kb => format!("hugepages-{kb}Ki"),
    }
}

fn hugepages() -> BTreeMap<String, i64> {
    let mut sizes = BTreeMap::new();
    // A kernel without huge pages has no such directory.
    for entry in fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = name.strip_prefix("hugepages-").and_then(|name| name.strip_suffix("kB"));
        let Some(kilobytes) = size.and_then(|size| size.parse::<i64>().ok()) else { continue };
        let count: i64 =
            optional(&entry.path().join("nr_hugepages").display().to_string()).parse().unwrap_or(0);
        sizes.insert(page_name(kilobytes), count * kilobytes * 1024);
    }
    sizes
}

/// Reads the machine.
///
/// # Errors
/// When `/proc` does not tell.
pub fn machine(root: &Path) -> Result<Machine, KubeletError> {
    let cpus = read("/proc/cpuinfo")?.lines().filter(|line| line.starts_with("processor")).count();
    let machine_id = optional("/etc/machine-id");
    let boot_id = optional("/proc/sys/kernel/random/boot_id");
    let uuid = optional("/sys/class/dmi/id/product_uuid");
    Ok(Machine {
        cpus: i64::try_from(cpus.max(1)).unwrap_or(1),
        memory: meminfo(&read("/proc/meminfo")?, "MemTotal"),
        storage: storage(root)?,
        hugepages: hugepages(),
        architecture: architecture().to_owned(),
        kernel: optional("/proc/sys/kernel/osrelease"),
        os_image: pretty_name(&optional("/etc/os-release")),
        system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
        machine_id: if machine_id.is_empty() { boot_id.replace('-', "") } else { machine_id },
        boot_id,
    })
}

/// Bytes of the file system.
fn storage(root: &Path) -> Result<i64, KubeletError> {
    let stat = rustix::fs::statvfs(root)
        .map_err(|error| KubeletError::Machine { path: root.to_owned(), source: error.into() })?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_understood() {
        assert_eq!(meminfo("MemFree: 1 kB\nMemTotal:       24684000 kB\n", "MemTotal"), 24_684_000 * 1024);
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(
            (page_name(2048).as_str(), page_name(1 << 20).as_str()),
            ("hugepages-2Mi", "hugepages-1Gi")
        );
        let machine = machine(Path::new("/")).unwrap();
        assert!(
            machine.cpus > 0 && machine.memory > 0 && machine.storage > 0 && !machine.machine_id.is_empty()
        );
    }
}
