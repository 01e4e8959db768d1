//! What a cgroup has used, parsed from its files. Pure: the files' texts come in through a function.

/// Counters of one group; absent where the machine does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub cpu_ns: Option<u64>,
    pub memory: Option<Memory>,
    pub pids: Option<u64>,
}

/// Bytes and faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub usage: u64,
    /// What could not be reclaimed without swapping: usage less inactive file pages.
    pub working_set: u64,
    pub rss: u64,
    pub swap: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub limit: Option<u64>,
}

type File<'a> = &'a dyn Fn(&'static str, &str) -> Option<String>;

fn number(text: Option<String>) -> Option<u64> {
    text?.trim().parse().ok() // "max" is no number and means no limit.
}

fn field(text: &str, name: &str) -> u64 {
    let mut values = text.lines().filter_map(|line| line.split_once(' ')).filter(|(key, _)| *key == name);
    values.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0) // Kernels lack some fields.
}

/// Values from this on mean "no limit" in v1.
const V1_UNLIMITED: u64 = 1 << 60;

pub(crate) fn v1(file: impl Fn(&'static str, &str) -> Option<String>) -> Usage {
    let file: File<'_> = &file;
    let memory = number(file("memory", "memory.usage_in_bytes")).map(|usage| {
        let stat = file("memory", "memory.stat").unwrap_or_default();
        Memory {
            usage,
            working_set: usage.saturating_sub(field(&stat, "total_inactive_file")),
            rss: field(&stat, "total_rss"),
            swap: field(&stat, "total_swap"),
            page_faults: field(&stat, "total_pgfault"),
            major_page_faults: field(&stat, "total_pgmajfault"),
            limit: number(file("memory", "memory.limit_in_bytes")).filter(|limit| *limit < V1_UNLIMITED),
        }
    });
    Usage {
        cpu_ns: number(file("cpuacct", "cpuacct.usage")),
        memory,
        pids: number(file("pids", "pids.current")),
    }
}

pub(crate) fn v2(file: impl Fn(&'static str, &str) -> Option<String>) -> Usage {
    let file: File<'_> = &file;
    let memory = number(file("memory", "memory.current")).map(|usage| {
        let stat = file("memory", "memory.stat").unwrap_or_default();
        Memory {
            usage,
            working_set: usage.saturating_sub(field(&stat, "inactive_file")),
            rss: field(&stat, "anon"),
            swap: number(file("memory", "memory.swap.current")).unwrap_or(0),
            page_faults: field(&stat, "pgfault"),
            major_page_faults: field(&stat, "pgmajfault"),
            limit: number(file("memory", "memory.max")),
        }
    });
    let cpu_ns = file("cpu", "cpu.stat").map(|stat| field(&stat, "usage_usec") * 1000);
    Usage { cpu_ns, memory, pids: number(file("pids", "pids.current")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let one = v1(|_, name| {
            Some(
                match name {
                    "memory.usage_in_bytes" => "1000\n",
                    "memory.stat" => "cache 1\ntotal_inactive_file 400\ntotal_rss 300\n",
                    "memory.limit_in_bytes" => "9223372036854771712\n",
                    "cpuacct.usage" => "77\n",
                    "pids.current" => "2\n",
                    _ => return None,
                }
                .to_owned(),
            )
        });
        assert_eq!(one.cpu_ns, Some(77));
        assert_eq!(one.pids, Some(2));
        assert_eq!(one.memory, Some(Memory { usage: 1000, working_set: 600, rss: 300, ..Memory::default() }));
        let two = v2(|_, name| {
            Some(
                match name {
                    "memory.current" => "1000\n",
                    "memory.stat" => "anon 300\ninactive_file 400\n",
                    "memory.max" => "max\n",
                    "cpu.stat" => "usage_usec 5\n",
                    _ => return None,
                }
                .to_owned(),
            )
        });
        assert_eq!(two.cpu_ns, Some(5000));
        assert_eq!(two.memory, one.memory);
    }
}
