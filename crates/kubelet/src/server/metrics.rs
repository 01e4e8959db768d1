//! Metrics in Prometheus' text format, under upstream's names.

use super::Server;
use super::answer::{Answer, bytes};
use super::stats::node_usage;
use crate::names;
use nauplius_cri::v1;
use std::fmt::Write;
use std::sync::atomic::Ordering;

pub(super) const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Text that grows by families.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.plain(name, kind, &format!("[STABLE] {help}"));
    }

    /// A family whose name may change.
    pub(super) fn beta(&mut self, name: &str, kind: &str, help: &str) {
        self.plain(name, kind, &format!("[BETA] {help}"));
    }

    /// A family that makes no promise.
    pub(super) fn plain(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // As above.
        let _ = writeln!(self.0, "{name}{braces} {value}");
    }
}

#[allow(clippy::cast_precision_loss)] // A metric is a float.
pub(super) fn float(value: Option<&v1::UInt64Value>) -> f64 {
    value.map_or(0.0, |value| value.value as f64)
}

impl Server {
    pub(super) async fn metrics(&self) -> Answer {
        let list = self.context.runtime.list_containers(v1::ListContainersRequest { filter: None }).await;
        // A runtime that does not answer has nothing running that we know of.
        let containers = list.map(|answer| answer.containers).unwrap_or_default();
        let count = |state: v1::ContainerState| containers.iter().filter(|one| one.state() == state).count();
        let ready = v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxReady.into() };
        let filter = v1::PodSandboxFilter { state: Some(ready), ..v1::PodSandboxFilter::default() };
        let sandboxes =
            self.context.runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }).await;
        let mut page = Page::default();
        page.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
        page.sample("kubelet_node_name", &[("node", &self.context.config.node_name)], 1.0);
        let help = "The number of times lifecycle handlers successfully fell back to http from https.";
        page.plain("kubelet_lifecycle_handler_http_fallbacks_total", "counter", &format!("[ALPHA] {help}"));
        #[allow(clippy::cast_precision_loss)] // A metric is a float.
        let fallbacks = self.context.hook_fallbacks.load(Ordering::Relaxed) as f64;
        page.sample("kubelet_lifecycle_handler_http_fallbacks_total", &[], fallbacks);
        page.family("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox");
        #[allow(clippy::cast_precision_loss)] // Few.
        page.sample(
            "kubelet_running_pods",
            &[],
            sandboxes.map(|answer| answer.items.len()).unwrap_or_default() as f64,
        );
        page.family("kubelet_running_containers", "gauge", "Number of containers currently running");
        for (state, name) in [
            (v1::ContainerState::ContainerCreated, "created"),
            (v1::ContainerState::ContainerExited, "exited"),
            (v1::ContainerState::ContainerRunning, "running"),
        ] {
            #[allow(clippy::cast_precision_loss)] // Few.
            page.sample("kubelet_running_containers", &[("container_state", name)], count(state) as f64);
        }
        bytes(TYPE, page.0.into_bytes())
    }

    pub(super) async fn resource_metrics(&self) -> Answer {
        let request = v1::ListPodSandboxStatsRequest { filter: None };
        let stats = self.context.runtime.list_pod_sandbox_stats(request).await;
        let failed = stats.is_err();
        let stats = stats.map(|answer| answer.stats).unwrap_or_default();
        let mut page = Page::default();
        page.family(
            "container_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the container in core-seconds",
        );
        for (labels, container) in containers(&stats) {
            let nanos = container.cpu.as_ref().and_then(|cpu| cpu.usage_core_nano_seconds.as_ref());
            page.sample("container_cpu_usage_seconds_total", &pairs(&labels), float(nanos) / 1e9);
        }
        page.family(
            "container_memory_working_set_bytes",
            "gauge",
            "Current working set of the container in bytes",
        );
        for (labels, container) in containers(&stats) {
            let set = container.memory.as_ref().and_then(|memory| memory.working_set_bytes.as_ref());
            page.sample("container_memory_working_set_bytes", &pairs(&labels), float(set));
        }
        pods(&mut page, &stats);
        let (cpu_nanos, working_set) = node_usage();
        #[allow(clippy::cast_precision_loss)] // A metric is a float.
        let (cpu, memory) = (cpu_nanos as f64 / 1e9, working_set as f64);
        page.family(
            "node_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the node in core-seconds",
        );
        page.sample("node_cpu_usage_seconds_total", &[], cpu);
        page.family("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes");
        page.sample("node_memory_working_set_bytes", &[], memory);
        page.family(
            "resource_scrape_error",
            "gauge",
            "1 if there was an error while getting container metrics, 0 otherwise",
        );
        page.sample("resource_scrape_error", &[], f64::from(u8::from(failed)));
        bytes(TYPE, page.0.into_bytes())
    }
}

fn pods(page: &mut Page, stats: &[v1::PodSandboxStats]) {
    let labels = |pod: &v1::PodSandboxStats| {
        let labels = pod.attributes.clone().unwrap_or_default().labels;
        [names::POD_NAMESPACE, names::POD_NAME].map(|key| labels.get(key).cloned().unwrap_or_default())
    };
    let nanos = |linux: &v1::LinuxPodSandboxStats| linux.cpu.as_ref()?.usage_core_nano_seconds;
    let set = |linux: &v1::LinuxPodSandboxStats| linux.memory.as_ref()?.working_set_bytes;
    let help = "Cumulative cpu time consumed by the pod in core-seconds";
    page.family("pod_cpu_usage_seconds_total", "counter", help);
    for pod in stats {
        if let Some(value) = pod.linux.as_ref().and_then(nanos) {
            let [namespace, name] = labels(pod);
            let labels = [("namespace", namespace.as_str()), ("pod", name.as_str())];
            page.sample("pod_cpu_usage_seconds_total", &labels, float(Some(&value)) / 1e9);
        }
    }
    page.family("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes");
    for pod in stats {
        if let Some(value) = pod.linux.as_ref().and_then(set) {
            let [namespace, name] = labels(pod);
            let labels = [("namespace", namespace.as_str()), ("pod", name.as_str())];
            page.sample("pod_memory_working_set_bytes", &labels, float(Some(&value)));
        }
    }
}

/// Container, namespace and pod of each container.
fn containers(stats: &[v1::PodSandboxStats]) -> impl Iterator<Item = ([String; 3], &v1::ContainerStats)> {
    let all = stats.iter().filter_map(|pod| pod.linux.as_ref()).flat_map(|linux| &linux.containers);
    all.map(|container| {
        let labels = container.attributes.clone().unwrap_or_default().labels;
        let of = |key: &str| labels.get(key).cloned().unwrap_or_default();
        ([of(names::CONTAINER_NAME), of(names::POD_NAMESPACE), of(names::POD_NAME)], container)
    })
}

fn pairs(labels: &[String; 3]) -> [(&'static str, &str); 3] {
    [("container", &labels[0]), ("namespace", &labels[1]), ("pod", &labels[2])]
}
