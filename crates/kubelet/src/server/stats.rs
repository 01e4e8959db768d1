//! Usage as `/stats/summary` tells it, from what the runtime measures.

use super::Server;
use super::answer::{Answer, json, text};
use crate::names;
use http::StatusCode;
use nauplius_base::time;
use nauplius_cri::{CriError, v1};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

fn stamp(nanos: i64) -> String {
    time::rfc3339_seconds(crate::pod::step::nanos(nanos))
}

fn put(into: &mut Map<String, Value>, key: &str, value: Option<&v1::UInt64Value>) {
    if let Some(value) = value {
        into.insert(key.to_owned(), json!(value.value));
    }
}

fn cpu(usage: &v1::CpuUsage) -> Value {
    let mut out = Map::from_iter([("time".to_owned(), json!(stamp(usage.timestamp)))]);
    put(&mut out, "usageNanoCores", usage.usage_nano_cores.as_ref());
    put(&mut out, "usageCoreNanoSeconds", usage.usage_core_nano_seconds.as_ref());
    Value::Object(out)
}

fn memory(usage: &v1::MemoryUsage) -> Value {
    let mut out = Map::from_iter([("time".to_owned(), json!(stamp(usage.timestamp)))]);
    put(&mut out, "availableBytes", usage.available_bytes.as_ref());
    put(&mut out, "usageBytes", usage.usage_bytes.as_ref());
    put(&mut out, "workingSetBytes", usage.working_set_bytes.as_ref());
    put(&mut out, "rssBytes", usage.rss_bytes.as_ref());
    put(&mut out, "pageFaults", usage.page_faults.as_ref());
    put(&mut out, "majorPageFaults", usage.major_page_faults.as_ref());
    Value::Object(out)
}

fn interface(usage: &v1::NetworkInterfaceUsage) -> Value {
    let mut out = Map::from_iter([("name".to_owned(), json!(usage.name))]);
    put(&mut out, "rxBytes", usage.rx_bytes.as_ref());
    put(&mut out, "rxErrors", usage.rx_errors.as_ref());
    put(&mut out, "txBytes", usage.tx_bytes.as_ref());
    put(&mut out, "txErrors", usage.tx_errors.as_ref());
    Value::Object(out)
}

fn label(labels: &BTreeMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

fn container(stats: &v1::ContainerStats) -> Value {
    let labels = stats.attributes.as_ref().map(|attributes| &attributes.labels);
    let mut out = Map::from_iter([(
        "name".to_owned(),
        json!(labels.map(|labels| label(labels, names::CONTAINER_NAME)).unwrap_or_default()),
    )]);
    if let Some(usage) = &stats.cpu {
        out.insert("cpu".to_owned(), cpu(usage));
    }
    if let Some(usage) = &stats.memory {
        out.insert("memory".to_owned(), memory(usage));
    }
    if let Some(layer) = &stats.writable_layer {
        let mut rootfs = Map::from_iter([("time".to_owned(), json!(stamp(layer.timestamp)))]);
        put(&mut rootfs, "usedBytes", layer.used_bytes.as_ref());
        put(&mut rootfs, "inodesUsed", layer.inodes_used.as_ref());
        out.insert("rootfs".to_owned(), Value::Object(rootfs));
    }
    Value::Object(out)
}

fn pod(stats: &v1::PodSandboxStats) -> Value {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let mut out = Map::from_iter([(
        "podRef".to_owned(),
        json!({
            "name": label(&attributes.labels, names::POD_NAME),
            "namespace": label(&attributes.labels, names::POD_NAMESPACE),
            "uid": label(&attributes.labels, names::POD_UID),
        }),
    )]);
    let Some(linux) = &stats.linux else { return Value::Object(out) };
    out.insert("containers".to_owned(), linux.containers.iter().map(container).collect());
    if let Some(usage) = &linux.cpu {
        out.insert("cpu".to_owned(), cpu(usage));
    }
    if let Some(usage) = &linux.memory {
        out.insert("memory".to_owned(), memory(usage));
    }
    if let Some(usage) = &linux.network {
        let mut network = match usage.default_interface.as_ref().map(interface) {
            Some(Value::Object(default)) => default,
            _ => Map::new(),
        };
        network.insert("time".to_owned(), json!(stamp(usage.timestamp)));
        network.insert("interfaces".to_owned(), usage.interfaces.iter().map(interface).collect());
        out.insert("network".to_owned(), Value::Object(network));
    }
    if let Some(count) = linux.process.as_ref().and_then(|process| process.process_count.as_ref()) {
        out.insert("process_stats".to_owned(), json!({"process_count": count.value}));
    }
    Value::Object(out)
}

/// The node's own usage: seconds of all cores, and bytes that cannot be taken back.
pub(super) fn node_usage() -> (u64, u64) {
    // A machine without /proc has no containers either.
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let words: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // All but idle and waiting, in hundredths of a second.
    let busy: u64 = words
        .iter()
        .enumerate()
        .filter(|(index, _)| !matches!(index, 3 | 4 | 8 | 9))
        .map(|(_, ticks)| ticks)
        .sum();
    let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |key: &str| {
        let line = table.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    (busy * 10_000_000, of("MemTotal").saturating_sub(of("MemAvailable")))
}

/// When the machine came up.
fn boot_time() -> String {
    let table = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("btime "));
    let seconds = line.and_then(|text| text.trim().parse().ok()).unwrap_or(0); // As above.
    time::rfc3339_seconds(time::Timestamp::from_second(seconds).unwrap_or_default())
}

/// Tasks of the machine, and how many there may be.
fn tasks() -> (u64, u64) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let loads = read("/proc/loadavg");
    let used = loads.split_whitespace().nth(3).and_then(|part| part.split_once('/')?.1.parse().ok()); // As above.
    (used.unwrap_or(0), read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0))
}

/// The file system that holds `path`.
fn disk(path: &std::path::Path, now: &str) -> Value {
    // A disk that cannot be asked is told without figures.
    let Ok(stat) = rustix::fs::statvfs(path) else { return json!({"time": now}) };
    json!({
        "time": now,
        "availableBytes": stat.f_bavail * stat.f_frsize,
        "capacityBytes": stat.f_blocks * stat.f_frsize,
        "usedBytes": (stat.f_blocks - stat.f_bfree) * stat.f_frsize,
        "inodesFree": stat.f_ffree,
        "inodes": stat.f_files,
        "inodesUsed": stat.f_files - stat.f_ffree,
    })
}

/// The file system of a part of the runtime, with what the part takes of it.
fn filesystem(usage: &v1::FilesystemUsage, now: &str) -> Value {
    let mountpoint = usage.fs_id.as_ref().map(|id| id.mountpoint.as_str()).unwrap_or_default();
    let mut told = disk(std::path::Path::new(mountpoint), now);
    for (key, own) in [("usedBytes", &usage.used_bytes), ("inodesUsed", &usage.inodes_used)] {
        told[key] = json!(own.as_ref().map(|own| own.value));
    }
    told
}

impl Server {
    /// What the API knows of the pod, and the disk that it writes to.
    fn complete(&self, pod: &mut Value, disk: &Value) {
        let name = |pod: &Value, key: &str| pod["podRef"][key].as_str().unwrap_or_default().to_owned();
        let pods = self.pods.snapshot();
        let known = pods.find(&name(pod, "namespace"), &name(pod, "name"));
        if let Some(since) = known.and_then(|known| known.status.as_ref()?.start_time.clone()) {
            pod["startTime"] = json!(time::rfc3339_seconds(since.0));
        }
        let of = |container: &Value, key: &str| container["rootfs"][key].as_u64().unwrap_or(0);
        let containers = pod["containers"].as_array().cloned().unwrap_or_default();
        let mut storage = disk.clone();
        for key in ["usedBytes", "inodesUsed"] {
            storage[key] = json!(containers.iter().map(|container| of(container, key)).sum::<u64>());
        }
        pod["ephemeral-storage"] = storage;
    }

    async fn all_stats(&self) -> Result<Vec<v1::PodSandboxStats>, CriError> {
        let answer = self
            .context
            .runtime
            .list_pod_sandbox_stats(v1::ListPodSandboxStatsRequest { filter: None })
            .await?;
        Ok(answer.stats)
    }

    /// The file systems of images and of what containers write, each with what these take of it.
    async fn runtime_filesystems(&self, now: &str) -> Result<Value, CriError> {
        let info = self.context.images.image_fs_info(v1::ImageFsInfoRequest {}).await?;
        let first = |all: &[v1::FilesystemUsage]| all.first().map(|usage| filesystem(usage, now));
        let images = first(&info.image_filesystems).unwrap_or_else(|| json!({"time": now}));
        // A runtime that tells no others keeps both together.
        let containers = first(&info.container_filesystems).unwrap_or_else(|| images.clone());
        Ok(json!({"imageFs": images, "containerFs": containers}))
    }

    pub(super) async fn stats_summary(&self) -> Answer {
        let stats = match self.all_stats().await {
            Ok(stats) => stats,
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        };
        let (cpu_nanos, working_set) = node_usage();
        let now = time::rfc3339_seconds(time::now());
        let disk = disk(&self.context.config.root_dir, &now);
        let runtime = match self.runtime_filesystems(&now).await {
            Ok(runtime) => runtime,
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        };
        let (tasks, tasks_max) = tasks();
        let mut pods: Vec<Value> = stats.iter().map(pod).collect();
        for pod in &mut pods {
            self.complete(pod, &disk);
        }
        json(&json!({
            "node": {
                "nodeName": self.context.config.node_name,
                "startTime": boot_time(),
                "fs": disk,
                "runtime": runtime,
                "rlimit": {"time": now, "maxpid": tasks_max, "curproc": tasks},
                "cpu": {"time": now, "usageCoreNanoSeconds": cpu_nanos},
                "memory": {
                    "time": now,
                    "workingSetBytes": working_set,
                    "usageBytes": working_set,
                    "availableBytes": self.context.facts.memory.cast_unsigned().saturating_sub(working_set),
                },
            },
            "pods": pods,
        }))
    }
}
