//! What the system says of this process, under the names that Prometheus' clients use.

use nauplius_base::metrics::Text;
use nauplius_base::time::Timestamp;
use std::fs;

/// The unit of times in `/proc`, which Linux has fixed for programs.
const TICKS_PER_SECOND: f64 = 100.0;
/// The unit of sizes in `/proc/self/stat`, on the machines that we run on.
const PAGE_BYTES: u64 = 4_096;

pub(super) fn write(text: &mut Text) {
    let fields = stat();
    let field = |number: usize| fields.get(number - 4).copied().unwrap_or(0);
    let mut gauge = |name: &str, kind: &str, help: &str, value: f64| {
        text.family(name, kind, help);
        text.sample(name, &[], value);
    };
    let cpu = (field(14) + field(15)) as f64 / TICKS_PER_SECOND;
    gauge("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", cpu);
    gauge("process_max_fds", "gauge", "Maximum number of open file descriptors.", max_fds());
    gauge("process_open_fds", "gauge", "Number of open file descriptors.", open_fds());
    let resident = (field(24) * PAGE_BYTES) as f64;
    gauge("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident);
    let help = "Start time of the process since unix epoch in seconds.";
    gauge("process_start_time_seconds", "gauge", help, started_s(&fields));
    gauge("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", field(23) as f64);
}

/// The numbers of `/proc/self/stat`, from the fourth field on.
fn stat() -> Vec<u64> {
    // The name in parentheses may hold spaces; numbers follow it, the process' state being the third field.
    let stat = read("/proc/self/stat");
    let numbers = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(1);
    numbers.map(|number| number.parse().unwrap_or(0)).collect()
}

fn started_s(fields: &[u64]) -> f64 {
    boot_time() + fields.get(22 - 4).copied().unwrap_or(0) as f64 / TICKS_PER_SECOND
}

/// When the process started.
pub(crate) fn started() -> Timestamp {
    // Beyond the years that can be told there is no process.
    Timestamp::from_second(started_s(&stat()) as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Where `/proc` is missing, zeros are told.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn max_fds() -> f64 {
    let limits = read("/proc/self/limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

fn open_fds() -> f64 {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64
}

fn boot_time() -> f64 {
    let stat = read("/proc/stat");
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0.0)
}
