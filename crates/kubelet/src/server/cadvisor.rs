//! Metrics of containers under the names that cAdvisor gave them, from what the runtime measures.

use super::Server;
use super::answer::{Answer, bytes};
use super::metrics::{Page, TYPE, float};
use crate::names;
use nauplius_cri::v1;

type Value = Option<v1::UInt64Value>;
/// Name, kind, help, and the value of a container with what it is multiplied by.
type Family = (&'static str, &'static str, &'static str, fn(&v1::ContainerStats) -> Value, f64);

const CONTAINERS: [Family; 7] = [
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        |stats| stats.cpu.as_ref()?.usage_core_nano_seconds,
        1e-9,
    ),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |stats| stats.memory.as_ref()?.usage_bytes,
        1.0,
    ),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
        |stats| stats.memory.as_ref()?.working_set_bytes,
        1.0,
    ),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |stats| stats.memory.as_ref()?.rss_bytes, 1.0),
    (
        "container_memory_swap",
        "gauge",
        "Container swap usage in bytes.",
        |stats| stats.swap.as_ref()?.swap_usage_bytes,
        1.0,
    ),
    (
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        |stats| stats.writable_layer.as_ref()?.used_bytes,
        1.0,
    ),
    (
        "container_fs_inodes_total",
        "gauge",
        "Number of Inodes",
        |stats| stats.writable_layer.as_ref()?.inodes_used,
        1.0,
    ),
];

/// Name, help and value of an interface.
type Link = (&'static str, &'static str, fn(&v1::NetworkInterfaceUsage) -> Value);

const LINKS: [Link; 4] = [
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", |link| link.rx_bytes),
    (
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        |link| link.rx_errors,
    ),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |link| link.tx_bytes),
    (
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        |link| link.tx_errors,
    ),
];

fn label(labels: &std::collections::BTreeMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

/// The page. `cores` and `memory` are the machine's.
fn page(stats: &[v1::PodSandboxStats], cores: i64, memory: i64) -> String {
    let mut page = Page::default();
    for (name, kind, help, value, factor) in CONTAINERS {
        page.plain(name, kind, help);
        let all = stats.iter().filter_map(|pod| pod.linux.as_ref()).flat_map(|linux| &linux.containers);
        for container in all {
            let Some(value) = value(container) else { continue };
            let attributes = container.attributes.clone().unwrap_or_default();
            let labels = [
                ("container", label(&attributes.labels, names::CONTAINER_NAME)),
                ("id", attributes.id.clone()),
                ("namespace", label(&attributes.labels, names::POD_NAMESPACE)),
                ("pod", label(&attributes.labels, names::POD_NAME)),
            ];
            page.sample(
                name,
                &labels.each_ref().map(|(key, value)| (*key, value.as_str())),
                float(Some(&value)) * factor,
            );
        }
    }
    for (name, help, value) in LINKS {
        page.plain(name, "counter", help);
        for pod in stats {
            let attributes = pod.attributes.clone().unwrap_or_default();
            let network = pod.linux.as_ref().and_then(|linux| linux.network.as_ref());
            let links = network
                .into_iter()
                .flat_map(|network| network.default_interface.iter().chain(&network.interfaces));
            for link in links {
                let Some(value) = value(link) else { continue };
                let labels = [
                    ("interface", link.name.clone()),
                    ("namespace", label(&attributes.labels, names::POD_NAMESPACE)),
                    ("pod", label(&attributes.labels, names::POD_NAME)),
                ];
                page.sample(
                    name,
                    &labels.each_ref().map(|(key, value)| (*key, value.as_str())),
                    float(Some(&value)),
                );
            }
        }
    }
    #[allow(clippy::cast_precision_loss)] // A metric is a float.
    for (name, help, value) in [
        ("machine_cpu_cores", "Number of logical CPU cores.", cores as f64),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", memory as f64),
    ] {
        page.plain(name, "gauge", help);
        page.sample(name, &[], value);
    }
    page.into_text()
}

impl Server {
    pub(super) async fn cadvisor_metrics(&self) -> Answer {
        let request = v1::ListPodSandboxStatsRequest { filter: None };
        // A runtime that does not answer has nothing that it measured.
        let stats = self.context.runtime.list_pod_sandbox_stats(request).await.map(|answer| answer.stats);
        let facts = &self.context.facts;
        bytes(TYPE, page(&stats.unwrap_or_default(), facts.cpus, facts.memory).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_their_pods_links_are_told() {
        let number = |value: u64| Some(v1::UInt64Value { value });
        let labels = [(names::CONTAINER_NAME, "c"), (names::POD_NAMESPACE, "n"), (names::POD_NAME, "p")];
        let labels: std::collections::BTreeMap<String, String> =
            labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let container = v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: "i".to_owned(),
                labels: labels.clone(),
                ..Default::default()
            }),
            cpu: Some(v1::CpuUsage { usage_core_nano_seconds: number(1_500_000_000), ..Default::default() }),
            ..Default::default()
        };
        let link =
            v1::NetworkInterfaceUsage { name: "eth0".to_owned(), rx_bytes: number(7), ..Default::default() };
        let pod = v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes { labels, ..Default::default() }),
            linux: Some(v1::LinuxPodSandboxStats {
                containers: vec![container],
                network: Some(v1::NetworkUsage { default_interface: Some(link), ..Default::default() }),
                ..Default::default()
            }),
        };
        let text = page(&[pod], 4, 1024);
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"c\",id=\"i\",namespace=\"n\",pod=\"p\"} 1.5",
            "container_network_receive_bytes_total{interface=\"eth0\",namespace=\"n\",pod=\"p\"} 7",
            "machine_cpu_cores 4",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
        assert!(!text.contains("container_memory_rss{"), "what was not measured is not told");
    }
}
