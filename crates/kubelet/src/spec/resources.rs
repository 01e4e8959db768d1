//! Requests and limits as cgroups know them: shares, quotas, bytes, OOM scores, and the class of service. Pure arithmetic.

use crate::pod::facts;
use nauplius_cri::v1::LinuxContainerResources;
use nauplius_kinds::api::Quantity as Text;
use nauplius_kinds::api::core::{Container, Pod, ResourceRequirements};
use nauplius_meta::quantity::Quantity;
use std::collections::BTreeMap;

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const PERIOD_US: i64 = 100_000;
const MIN_QUOTA_US: i64 = 1000;

type List = Option<BTreeMap<String, Text>>;

/// An amount of a list; the API server stores only quantities.
pub fn amount(list: &List, name: &str) -> Option<Quantity> {
    Quantity::parse(&list.as_ref()?.get(name)?.0).ok()
}

fn request(resources: Option<&ResourceRequirements>, name: &str) -> Option<Quantity> {
    let resources = resources?;
    amount(&resources.requests, name).or_else(|| amount(&resources.limits, name))
}

fn limit(resources: Option<&ResourceRequirements>, name: &str) -> Option<Quantity> {
    amount(&resources?.limits, name).filter(|amount| !amount.is_zero())
}

/// `cpu.shares` of so many thousandths of a core.
pub fn shares(milli: i64) -> i64 {
    if milli == 0 { MIN_SHARES } else { (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// `cpu.cfs_quota_us` of so many thousandths of a core, for [`PERIOD_US`]; 0 = without limit.
pub fn quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli.saturating_mul(PERIOD_US) / 1000).max(MIN_QUOTA_US) }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Pod) -> &'static str {
    let spec = facts::spec(pod);
    let pod_level = spec.resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some());
    let all: Vec<Option<&ResourceRequirements>> = match pod_level {
        Some(resources) => vec![Some(resources)],
        None => {
            facts::init_containers(pod).iter().chain(&spec.containers).map(|c| c.resources.as_ref()).collect()
        }
    };
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        for name in ["cpu", "memory"] {
            let limit = limit(resources, name);
            let request = request(resources, name).filter(|amount| !amount.is_zero());
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Who the kernel kills first when the machine has no memory left.
pub fn oom_score_adj(pod: &Pod, container: &Container, machine_memory: i64) -> i64 {
    const CRITICAL: i32 = 2_000_000_000;
    if facts::spec(pod).priority.is_some_and(|priority| priority >= CRITICAL) {
        return -997;
    }
    match qos_class(pod) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let asked = request(container.resources.as_ref(), "memory").map_or(0, |amount| amount.value());
            let score = 1000 - asked.saturating_mul(1000) / machine_memory.max(1);
            score.clamp(3, 999)
        }
    }
}

/// A container's limits.
pub fn container(pod: &Pod, container: &Container, machine_memory: i64) -> LinuxContainerResources {
    let resources = container.resources.as_ref();
    let cpu_limit = limit(resources, "cpu").map_or(0, |amount| amount.milli_value());
    let memory_limit = limit(resources, "memory").map_or(0, |amount| amount.value());
    let pages = resources.and_then(|resources| resources.limits.as_ref()).into_iter().flatten();
    LinuxContainerResources {
        cpu_period: PERIOD_US,
        cpu_quota: quota(cpu_limit),
        cpu_shares: shares(request(resources, "cpu").map_or(0, |amount| amount.milli_value())),
        memory_limit_in_bytes: memory_limit,
        // Swap is off: the limit of both together is the memory's own.
        memory_swap_limit_in_bytes: memory_limit,
        oom_score_adj: oom_score_adj(pod, container, machine_memory),
        hugepage_limits: pages
            .filter_map(|(name, text)| {
                let limit = u64::try_from(Quantity::parse(&text.0).ok()?.value()).ok()?; // Checked by the API server.
                Some(nauplius_cri::v1::HugepageLimit {
                    page_size: page_size(name.strip_prefix("hugepages-")?),
                    limit,
                })
            })
            .collect(),
        ..LinuxContainerResources::default()
    }
}

/// `2Mi` as CRI writes it: `2MB`.
fn page_size(name: &str) -> String {
    name.strip_suffix('i').map_or_else(|| name.to_owned(), |stem| format!("{stem}B"))
}

/// What the pod's own cgroup is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodLimits {
    /// `cpu.shares`.
    pub cpu_shares: i64,
    /// `cpu.cfs_quota_us`; none when a container has no limit.
    pub cpu_quota: Option<i64>,
    /// Bytes; none when a container has no limit.
    pub memory_limit: Option<i64>,
}

/// The sums over the pod, where every container has a limit.
pub fn pod(pod: &Pod) -> PodLimits {
    let spec = facts::spec(pod);
    let sum = |name: &str,
               of: fn(Option<&ResourceRequirements>, &str) -> Option<Quantity>,
               value: fn(&Quantity) -> i64| {
        let each =
            |container: &Container| of(container.resources.as_ref(), name).map(|amount| value(&amount));
        let mut total = Some(0_i64);
        for container in &spec.containers {
            total = total.zip(each(container)).map(|(total, more)| total.saturating_add(more));
        }
        let (mut sidecars, mut most) = (Some(0_i64), Some(0_i64));
        for container in facts::init_containers(pod) {
            let here = sidecars.zip(each(container)).map(|(sum, more)| sum.saturating_add(more));
            most = most.zip(here).map(|(most, here)| most.max(here));
            if facts::is_sidecar(container) {
                sidecars = here;
            }
        }
        let total = total.zip(sidecars).map(|(total, sidecars)| total.saturating_add(sidecars));
        total.zip(most).map(|(total, most)| total.max(most))
    };
    let requested = |resources: Option<&ResourceRequirements>, name: &str| {
        Some(
            request(resources, name)
                .unwrap_or_else(|| Quantity::new(0, nauplius_meta::quantity::Format::DecimalSI)),
        )
    };
    PodLimits {
        cpu_shares: shares(sum("cpu", requested, Quantity::milli_value).unwrap_or(0)),
        cpu_quota: sum("cpu", limit, Quantity::milli_value).map(quota),
        memory_limit: sum("memory", limit, Quantity::value),
    }
}

/// The pod's cgroup below `root`, by class as upstream has it.
pub fn cgroup_parent(root: &str, pod: &Pod) -> String {
    use nauplius_kinds::Object;
    let [guaranteed, burstable, best_effort] = cgroup_parents(root, pod.uid());
    match qos_class(pod) {
        "Guaranteed" => guaranteed,
        "Burstable" => burstable,
        _ => best_effort,
    }
}

/// Where the cgroup of a pod can be whose class is not known any more.
pub fn cgroup_parents(root: &str, uid: &str) -> [String; 3] {
    let root = root.trim_end_matches('/');
    ["", "/burstable", "/besteffort"].map(|class| format!("{root}{class}/pod{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::Object;

    fn pod_of(containers: &str) -> Pod {
        Pod::decode(
            format!(r#"{{"metadata":{{"name":"p","uid":"u"}},"spec":{{"containers":[{containers}]}}}}"#)
                .as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn classes_limits_and_scores() {
        let full = r#"{"name":"a","resources":{"limits":{"cpu":"500m","memory":"64Mi"}}}"#;
        let part = r#"{"name":"b","resources":{"requests":{"memory":"1Gi"}}}"#;
        let none = r#"{"name":"c"}"#;
        for (containers, class, score, parent) in [
            (full.to_owned(), "Guaranteed", -997, "/k/podu"),
            (format!("{part},{none}"), "Burstable", 750, "/k/burstable/podu"),
            (none.to_owned(), "BestEffort", 1000, "/k/besteffort/podu"),
        ] {
            let pod = pod_of(&containers);
            let first = &facts::spec(&pod).containers[0];
            assert_eq!(qos_class(&pod), class);
            assert_eq!(oom_score_adj(&pod, first, 4 << 30), score);
            assert_eq!(cgroup_parent("/k/", &pod), parent);
        }
        let pod_full = pod_of(full);
        let limits = container(&pod_full, &facts::spec(&pod_full).containers[0], 4 << 30);
        assert_eq!(
            (limits.cpu_shares, limits.cpu_quota, limits.memory_limit_in_bytes),
            (512, 50_000, 64 << 20)
        );
        assert_eq!(super::pod(&pod_full).memory_limit, Some(64 << 20));
        assert_eq!(super::pod(&pod_of(&format!("{full},{none}"))).memory_limit, None);
        assert_eq!(super::pod(&pod_of(none)).cpu_shares, 2);
    }
}
