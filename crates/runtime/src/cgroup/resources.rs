//! Limits of a container and, as pure functions, what must be written to which cgroup file for them in v1 and in v2. It must
//! not touch a file.

use std::collections::BTreeMap;

/// What a container may use. Zero and empty mean "leave as it is".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub cpu_shares: u64,
    pub cpu_quota: i64,
    pub cpu_period: u64,
    pub memory_limit: i64,
    /// Memory and swap together, as v1 counts.
    pub memory_swap_limit: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub pids_limit: i64,
    /// Page size ("2MB") to bytes.
    pub hugepages: BTreeMap<String, u64>,
    /// Raw v2 settings.
    pub unified: BTreeMap<String, String>,
    /// `None` leaves devices alone.
    pub devices: Option<Vec<DeviceRule>>,
}

/// Devices that may be used; everything else may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceRule {
    /// `b`, `c`, or `a` for both.
    pub kind: char,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Of `r`, `w` and `m`.
    pub access: String,
}

impl DeviceRule {
    fn v1(&self) -> String {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        format!("{} {}:{} {}", self.kind, number(self.major), number(self.minor), self.access)
    }

    /// What every container may use: making nodes of any kind, the harmless ones of `/dev`, and terminals.
    pub(crate) fn defaults() -> Vec<Self> {
        let rule = |kind, major, minor, access: &str| Self { kind, major, minor, access: access.to_owned() };
        let mut rules = vec![rule('c', None, None, "m"), rule('b', None, None, "m")];
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
            rules.push(rule('c', Some(major), Some(minor), "rwm"));
        }
        rules.push(rule('c', Some(136), None, "rwm"));
        rules
    }

    /// For privileged containers.
    pub(crate) fn everything() -> Self {
        Self { kind: 'a', major: None, minor: None, access: "rwm".to_owned() }
    }
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// The v1 controller whose hierarchy the file is in.
    pub controller: &'static str,
    pub file: String,
    pub value: String,
}

fn write(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Write {
    Write { controller, file: file.into(), value: value.to_string() }
}

/// What v1 wants, in an order that the kernel accepts.
pub(crate) fn v1_writes(resources: &Resources) -> Vec<Write> {
    let mut writes = Vec::new();
    if resources.cpu_shares != 0 {
        writes.push(write("cpu", "cpu.shares", resources.cpu_shares));
    }
    if resources.cpu_period != 0 {
        writes.push(write("cpu", "cpu.cfs_period_us", resources.cpu_period));
    }
    if resources.cpu_quota != 0 {
        writes.push(write("cpu", "cpu.cfs_quota_us", resources.cpu_quota));
    }
    if resources.memory_limit != 0 {
        writes.push(write("memory", "memory.limit_in_bytes", resources.memory_limit));
    }
    if resources.memory_swap_limit != 0 {
        writes.push(write("memory", "memory.memsw.limit_in_bytes", resources.memory_swap_limit));
    }
    if !resources.cpuset_cpus.is_empty() {
        writes.push(write("cpuset", "cpuset.cpus", &resources.cpuset_cpus));
    }
    if !resources.cpuset_mems.is_empty() {
        writes.push(write("cpuset", "cpuset.mems", &resources.cpuset_mems));
    }
    if resources.pids_limit != 0 {
        writes.push(write("pids", "pids.max", limit_text(resources.pids_limit)));
    }
    for (size, limit) in &resources.hugepages {
        writes.push(write("hugetlb", format!("hugetlb.{size}.limit_in_bytes"), limit));
    }
    if let Some(devices) = &resources.devices {
        writes.push(write("devices", "devices.deny", "a *:* rwm"));
        writes.extend(devices.iter().map(|rule| write("devices", "devices.allow", rule.v1())));
    }
    writes
}

/// What v2 wants. Devices are a program there, see [`super::device_filter`].
pub(crate) fn v2_writes(resources: &Resources) -> Vec<Write> {
    let mut writes = Vec::new();
    if resources.cpu_shares != 0 {
        writes.push(write("cpu", "cpu.weight", weight(resources.cpu_shares)));
    }
    if resources.cpu_quota != 0 || resources.cpu_period != 0 {
        let quota = if resources.cpu_quota > 0 { resources.cpu_quota.to_string() } else { "max".to_owned() };
        let period = if resources.cpu_period == 0 { 100_000 } else { resources.cpu_period };
        writes.push(write("cpu", "cpu.max", format!("{quota} {period}")));
    }
    if resources.memory_limit != 0 {
        writes.push(write("memory", "memory.max", limit_text(resources.memory_limit)));
    }
    if resources.memory_swap_limit != 0 {
        writes.push(write("memory", "memory.swap.max", swap_text(resources)));
    }
    if !resources.cpuset_cpus.is_empty() {
        writes.push(write("cpuset", "cpuset.cpus", &resources.cpuset_cpus));
    }
    if !resources.cpuset_mems.is_empty() {
        writes.push(write("cpuset", "cpuset.mems", &resources.cpuset_mems));
    }
    if resources.pids_limit != 0 {
        writes.push(write("pids", "pids.max", limit_text(resources.pids_limit)));
    }
    for (size, limit) in &resources.hugepages {
        writes.push(write("hugetlb", format!("hugetlb.{size}.max"), limit));
    }
    writes.extend(resources.unified.iter().map(|(file, value)| write("", file.as_str(), value)));
    writes
}

fn limit_text(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// CRI's swap limit counts memory too; v2's counts swap alone.
fn swap_text(resources: &Resources) -> String {
    if resources.memory_swap_limit < 0 {
        return "max".to_owned();
    }
    (resources.memory_swap_limit - resources.memory_limit.max(0)).max(0).to_string()
}

/// v1's shares (2 to 262144) as v2's weight (1 to 10000), by the line that upstream uses.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Resources {
        Resources {
            cpu_shares: 102,
            cpu_quota: 50_000,
            cpu_period: 100_000,
            memory_limit: 64 << 20,
            memory_swap_limit: 96 << 20,
            cpuset_cpus: "0-1".to_owned(),
            cpuset_mems: "0".to_owned(),
            pids_limit: -1,
            hugepages: BTreeMap::from([("2MB".to_owned(), 0)]),
            unified: BTreeMap::from([("memory.high".to_owned(), "1000".to_owned())]),
            devices: Some(vec![DeviceRule {
                kind: 'c',
                major: Some(1),
                minor: None,
                access: "rw".to_owned(),
            }]),
        }
    }

    fn golden(writes: &[Write]) -> String {
        writes.iter().map(|write| format!("{} {}\n", write.file, write.value)).collect()
    }

    #[test]
    fn v1_golden() {
        assert_eq!(golden(&v1_writes(&sample())), include_str!("golden/v1.txt"));
        assert_eq!(v1_writes(&Resources::default()), []);
    }

    #[test]
    fn v2_golden() {
        assert_eq!(golden(&v2_writes(&sample())), include_str!("golden/v2.txt"));
        assert_eq!(v2_writes(&Resources::default()), []);
    }

    #[test]
    fn weights_follow_upstream() {
        for (shares, expected) in [(2, 1), (102, 4), (1024, 39), (262_144, 10_000), (1, 1), (500_000, 10_000)]
        {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn no_quota_means_max() {
        let unlimited = Resources { cpu_quota: -1, ..Resources::default() };
        assert_eq!(golden(&v2_writes(&unlimited)), "cpu.max max 100000\n");
    }
}
