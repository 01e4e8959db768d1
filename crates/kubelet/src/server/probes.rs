//! How often probes said what, for `/metrics/probes`. Actors count, the server reads; the lock is held for a moment.

use super::Server;
use super::answer::{Answer, bytes};
use super::metrics::{Page, TYPE};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::Pod;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Pod's uid, namespace and name, container, probe and result.
type Key = [String; 6];

/// Counters of all pods.
#[derive(Debug, Default)]
pub struct ProbeCounts(Mutex<BTreeMap<Key, u64>>);

impl ProbeCounts {
    /// Counts one answer: `Readiness`, `successful`.
    pub fn count(&self, pod: &Pod, container: &str, probe: &str, result: &str) {
        let key = [pod.uid(), pod.namespace(), pod.name(), container, probe, result].map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }

    /// A pod is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| key[0] != uid);
    }

    fn page(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut page = Page::default();
        let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
        page.beta("prober_probe_total", "counter", help);
        for ([uid, namespace, pod, container, probe, result], count) in &counts {
            let labels = [
                ("container", container.as_str()),
                ("namespace", namespace),
                ("pod", pod),
                ("pod_uid", uid),
                ("probe_type", probe),
                ("result", result),
            ];
            #[allow(clippy::cast_precision_loss)] // A metric is a float.
            page.sample("prober_probe_total", &labels, *count as f64);
        }
        page.into_text()
    }
}

impl Server {
    pub(super) fn probe_metrics(&self) -> Answer {
        bytes(TYPE, self.context.probe_counts.page().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_until_the_pod_goes() {
        let pod = Pod::decode(br#"{"metadata":{"name":"p","namespace":"n","uid":"u"}}"#).unwrap();
        let counts = ProbeCounts::default();
        counts.count(&pod, "c", "Readiness", "failed");
        counts.count(&pod, "c", "Readiness", "failed");
        let line = "prober_probe_total{container=\"c\",namespace=\"n\",pod=\"p\",pod_uid=\"u\",probe_type=\"Readiness\",result=\"failed\"} 2";
        assert!(counts.page().lines().any(|known| known == line), "{}", counts.page());
        counts.forget("u");
        assert!(!counts.page().contains("pod_uid"));
    }
}
