//! Resource usage of containers and sandboxes, measured when asked. It must not keep measuring by itself.

use super::registry::{Container, Sandbox, find};
use super::{Inner, blocking, image_volumes, namespaces, status};
use crate::cgroup::Usage;
use nauplius_base::time;
use nauplius_cri::{CriError, v1};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

impl Inner {
    /// `ContainerStats`.
    pub(crate) async fn container_stats(self: &Arc<Self>, id: &str) -> Result<v1::ContainerStats, CriError> {
        let container = self.container(id)?;
        let inner = Arc::clone(self);
        blocking(move || Ok(inner.measure_container(&container))).await
    }

    /// `ListContainerStats`.
    pub(crate) async fn list_container_stats(
        self: &Arc<Self>,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<Vec<v1::ContainerStats>, CriError> {
        let filter = filter.unwrap_or_default();
        let chosen: Vec<Container> = self.read(|registry| {
            let containers = registry.containers.values().filter(|container| {
                container.state.running()
                    && container.record.id.starts_with(&filter.id)
                    && container.record.sandbox.starts_with(&filter.pod_sandbox_id)
                    && status::selects(&filter.label_selector, &container.config.labels)
            });
            containers.cloned().collect()
        });
        let inner = Arc::clone(self);
        blocking(move || Ok(chosen.iter().map(|container| inner.measure_container(container)).collect()))
            .await
    }

    /// `PodSandboxStats`.
    pub(crate) async fn sandbox_stats(self: &Arc<Self>, id: &str) -> Result<v1::PodSandboxStats, CriError> {
        let sandbox = self.read(|registry| find(&registry.sandboxes, id).cloned());
        let sandbox = sandbox.ok_or_else(|| {
            CriError::not_found(format!("an error occurred when trying to find sandbox {id:?}: not found"))
        })?;
        let inner = Arc::clone(self);
        blocking(move || Ok(inner.measure_sandbox(&sandbox))).await
    }

    /// `ListPodSandboxStats`.
    pub(crate) async fn list_sandbox_stats(
        self: &Arc<Self>,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>, CriError> {
        let filter = filter.unwrap_or_default();
        let chosen: Vec<Sandbox> = self.read(|registry| {
            let sandboxes = registry.sandboxes.values().filter(|sandbox| {
                sandbox.cri_state() == v1::PodSandboxState::SandboxReady
                    && sandbox.record.id.starts_with(&filter.id)
                    && status::selects(&filter.label_selector, &sandbox.config.labels)
            });
            sandboxes.cloned().collect()
        });
        let inner = Arc::clone(self);
        blocking(move || Ok(chosen.iter().map(|sandbox| inner.measure_sandbox(sandbox)).collect())).await
    }

    fn measure_container(&self, container: &Container) -> v1::ContainerStats {
        let record = &container.record;
        let now = time::unix_nanos();
        let usage = self.layout.usage(&record.cgroup);
        let written =
            ["upper", image_volumes::DIRECTORY].map(|name| self.container_dir(&record.id).join(name));
        let [layer, volumes] = written.map(|directory| disk_usage(&directory));
        let (bytes, inodes) = (layer.0 + volumes.0, layer.1 + volumes.1);
        v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: record.id.clone(),
                metadata: container.config.metadata.clone(),
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
            }),
            cpu: self.cpu_of(&record.id, &usage, now),
            memory: memory(&usage, now),
            writable_layer: Some(v1::FilesystemUsage {
                timestamp: now,
                fs_id: Some(v1::FilesystemIdentifier {
                    mountpoint: self.options.state_dir.display().to_string(),
                }),
                used_bytes: value(bytes),
                inodes_used: value(inodes),
            }),
            swap: usage.memory.map(|memory| v1::SwapUsage {
                timestamp: now,
                swap_available_bytes: None,
                swap_usage_bytes: value(memory.swap),
            }),
            io: None,
        }
    }

    /// CPU time, and its rate since the last measurement.
    fn cpu_of(&self, id: &str, usage: &Usage, now: i64) -> Option<v1::CpuUsage> {
        let used = usage.cpu_ns?;
        let before = self.write(|registry| registry.containers.get_mut(id)?.cpu_sample.replace((now, used)));
        let rate = before.filter(|(then, _)| now > *then).map(|(then, before)| {
            let window = u128::from((now - then).unsigned_abs());
            u64::try_from(u128::from(used.saturating_sub(before)) * 1_000_000_000 / window)
                .unwrap_or(u64::MAX)
        });
        Some(v1::CpuUsage {
            timestamp: now,
            usage_core_nano_seconds: value(used),
            usage_nano_cores: rate.and_then(value),
            psi: None,
        })
    }

    fn measure_sandbox(&self, sandbox: &Sandbox) -> v1::PodSandboxStats {
        let now = time::unix_nanos();
        let containers: Vec<Container> = self.read(|registry| {
            let all =
                registry.containers_of(&sandbox.record.id).filter(|container| container.state.running());
            all.cloned().collect()
        });
        let usage = self.layout.usage(&sandbox.record.cgroup_parent);
        let cpu = usage.cpu_ns.map(|used| v1::CpuUsage {
            timestamp: now,
            usage_core_nano_seconds: value(used),
            ..v1::CpuUsage::default()
        });
        v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: sandbox.record.id.clone(),
                metadata: sandbox.config.metadata.clone(),
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu,
                memory: memory(&usage, now),
                network: self.netns(sandbox).and_then(|netns| network(&netns, now)),
                process: usage
                    .pids
                    .map(|pids| v1::ProcessUsage { timestamp: now, process_count: value(pids) }),
                containers: containers.iter().map(|container| self.measure_container(container)).collect(),
                io: None,
            }),
        }
    }
}

fn memory(usage: &Usage, now: i64) -> Option<v1::MemoryUsage> {
    let memory = usage.memory?;
    Some(v1::MemoryUsage {
        timestamp: now,
        working_set_bytes: value(memory.working_set),
        available_bytes: memory.limit.and_then(|limit| value(limit.saturating_sub(memory.working_set))),
        usage_bytes: value(memory.usage),
        rss_bytes: value(memory.rss),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        psi: None,
    })
}

fn network(netns: &Path, now: i64) -> Option<v1::NetworkUsage> {
    let read =
        namespaces::inside_network(Some(netns), || std::fs::read_to_string("/proc/thread-self/net/dev"));
    // A sandbox that is being stopped has no network to measure.
    let mut interfaces = interfaces(&read.ok()?);
    let index = interfaces.iter().position(|interface| interface.name == "eth0");
    let default_interface = index.map(|index| interfaces.remove(index));
    Some(v1::NetworkUsage { timestamp: now, default_interface, interfaces })
}

/// `/proc/net/dev` without loopback.
fn interfaces(text: &str) -> Vec<v1::NetworkInterfaceUsage> {
    let parse = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let fields: Vec<u64> = rest.split_whitespace().map_while(|field| field.parse().ok()).collect();
        let field = |index: usize| fields.get(index).copied().and_then(value);
        Some(v1::NetworkInterfaceUsage {
            name: name.trim().to_owned(),
            rx_bytes: field(0),
            rx_errors: field(2),
            tx_bytes: field(8),
            tx_errors: field(10),
        })
    };
    text.lines().filter_map(parse).filter(|interface| interface.name != "lo").collect()
}

/// Bytes and inodes below a directory. What vanishes while it is counted does not count.
pub(crate) fn disk_usage(directory: &Path) -> (u64, u64) {
    const BLOCK: u64 = 512;
    let (mut bytes, mut inodes) = (0, 0);
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * BLOCK;
            inodes += 1;
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 1 2 0 0 0 0 0 30 1 4 0 0 0 0 0\n";
        let found = interfaces(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].rx_bytes, found[0].rx_errors), (value(10), value(2)));
        assert_eq!((found[0].tx_bytes, found[0].tx_errors), (value(30), value(4)));
    }
}
