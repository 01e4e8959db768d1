//! Resizing a pod in place: what its containers are allotted, whether the node has room for what the spec asks now, and which
//! containers do not have yet what they are allotted. Pure; a pod is worked with as it is allotted, not as it asks.

use super::facts;
use super::view::{ContainerState, ContainerView, Limits, Observed};
use crate::spec::resources;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Container, Pod, PodStatus, ResourceRequirements};
use nauplius_kinds::pod::{condition, is_active, requests};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The conditions that tell of a resize.
pub const PENDING: &str = "PodResizePending";
/// As above.
pub const IN_PROGRESS: &str = "PodResizeInProgress";

/// What each container that can be resized is allotted.
pub type Allotted = BTreeMap<String, ResourceRequirements>;

/// Processor in thousandths of a core, and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths.
    pub cpu_m: i64,
    /// Bytes.
    pub memory: i64,
}

/// What the node has for pods, and what the other pods have of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// All of it.
    pub capacity: Amounts,
    /// Of the others.
    pub used: Amounts,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It is what the pod has.
    Nothing,
    /// There is room.
    Fits,
    /// There may be room later: reason and words.
    Pending(&'static str, String),
}

fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    let sidecars = facts::init_containers(pod).iter().filter(|container| facts::is_sidecar(container));
    sidecars.chain(&facts::spec(pod).containers)
}

/// What the spec asks.
pub fn asked(pod: &Pod) -> Allotted {
    resizable(pod)
        .map(|container| (container.name.clone(), container.resources.clone().unwrap_or_default()))
        .collect()
}

/// What a pod has that an earlier life of the kubelet has allotted: what it told the API, else what the spec asks.
pub fn adopted(pod: &Pod) -> Allotted {
    let mut all = asked(pod);
    // Whoever tells of no resize has all that was asked.
    if condition(pod, PENDING).is_none() {
        return all;
    }
    let status = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses));
    for told in status.flatten() {
        if let (Some(own), Some(requests)) = (all.get_mut(&told.name), &told.allocated_resources) {
            own.requests = Some(requests.clone());
            own.limits = told.resources.as_ref().and_then(|resources| resources.limits.clone());
        }
    }
    all
}

/// The pod with what it is allotted in the place of what it asks.
pub fn with(pod: &Arc<Pod>, allotted: &Allotted) -> Arc<Pod> {
    if asked(pod) == *allotted {
        return Arc::clone(pod);
    }
    let mut pod = Pod::clone(pod);
    let spec = pod
        .spec
        .iter_mut()
        .flat_map(|spec| spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()));
    for container in spec {
        if let Some(own) = allotted.get(&container.name) {
            container.resources = Some(own.clone());
        }
    }
    Arc::new(pod)
}

fn amounts(pod: &Pod) -> Amounts {
    let all = requests(pod);
    let of = |name: &str| all.get(name);
    Amounts {
        cpu_m: of("cpu").map_or(0, |amount| amount.milli_value()),
        memory: of("memory").map_or(0, |amount| amount.value()),
    }
}

/// What the other pods of the node are allotted.
pub fn used<'a>(others: impl IntoIterator<Item = &'a Arc<Pod>>, uid: &str) -> Amounts {
    let mut sum = Amounts::default();
    for other in others.into_iter().filter(|other| other.uid() != uid && is_active(other)) {
        let own = amounts(&with(other, &adopted(other)));
        sum.cpu_m = sum.cpu_m.saturating_add(own.cpu_m);
        sum.memory = sum.memory.saturating_add(own.memory);
    }
    sum
}

/// Whether the node can give what the pod asks.
pub fn judge(pod: &Pod, allotted: &Allotted, room: &Room) -> Judgement {
    if asked(pod) == *allotted {
        return Judgement::Nothing;
    }
    let wanted = amounts(pod);
    let table = [
        ("memory", wanted.memory, room.capacity.memory, room.used.memory),
        ("cpu", wanted.cpu_m, room.capacity.cpu_m, room.used.cpu_m),
    ];
    for (name, wanted, capacity, _) in table {
        if wanted > capacity {
            let message = format!(
                "Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}"
            );
            return Judgement::Pending("Infeasible", message);
        }
    }
    for (name, wanted, capacity, used) in table {
        if wanted > capacity - used {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Judgement::Pending("Deferred", message);
        }
    }
    Judgement::Fits
}

/// What the runtime is to give a container.
pub fn limits(pod: &Pod, container: &Container, machine_memory: i64) -> Limits {
    let all = resources::container(pod, container, machine_memory);
    Limits { cpu_shares: all.cpu_shares, cpu_quota: all.cpu_quota, memory: all.memory_limit_in_bytes }
}

/// Whether a running container has other limits than it is allotted. What a runtime does not tell is as it should be.
fn differs(pod: &Pod, container: &Container, view: &ContainerView, machine_memory: i64) -> bool {
    let wanted = limits(pod, container, machine_memory);
    view.state == ContainerState::Running && view.limits.is_some_and(|has| has != wanted)
}

/// The running containers that do not have what they are allotted.
pub fn due<'a>(
    pod: &'a Pod,
    observed: &'a Observed,
    machine_memory: i64,
) -> Vec<(&'a Container, &'a ContainerView)> {
    resizable(pod)
        .filter_map(|container| Some((container, observed.current(&container.name)?)))
        .filter(|(container, view)| differs(pod, container, view, machine_memory))
        .collect()
}

/// Whether the container must be started anew to get what differs.
pub fn restarts(pod: &Pod, container: &Container, view: &ContainerView, machine_memory: i64) -> bool {
    let (wanted, has) = (limits(pod, container, machine_memory), view.limits.unwrap_or_default());
    let policy = |name: &str| {
        let policies = container.resize_policy.iter().flatten();
        policies
            .into_iter()
            .any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer")
    };
    let cpu = (wanted.cpu_shares, wanted.cpu_quota) != (has.cpu_shares, has.cpu_quota);
    (cpu && policy("cpu")) || (wanted.memory != has.memory && policy("memory"))
}

/// What an event tells of a resize, as upstream writes it.
pub fn told(pod: &Pod, error: Option<&str>) -> String {
    let list = |containers: &[Container]| {
        let one = |container: &Container| {
            let resources = container.resources.clone().unwrap_or_default();
            let amounts = |list: &Option<BTreeMap<String, nauplius_kinds::api::Quantity>>| {
                list.iter()
                    .flatten()
                    .map(|(name, text)| (name.clone(), text.0.clone()))
                    .collect::<BTreeMap<_, _>>()
            };
            let mut tree = json!({"name": container.name, "resources": {}});
            for (key, list) in [("limits", &resources.limits), ("requests", &resources.requests)] {
                if list.is_some() {
                    tree["resources"][key] = json!(amounts(list));
                }
            }
            tree
        };
        containers.iter().map(one).collect::<Vec<_>>()
    };
    let mut tree =
        json!({"containers": list(&facts::spec(pod).containers), "generation": pod.meta().generation});
    if let Some(error) = error {
        tree["error"] = json!(error);
    }
    tree.to_string()
}

/// What the API was told of the resources of a container.
pub fn known<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ResourceRequirements> {
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.into_iter().find(|status| status.name == name)?.resources.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::{running, sandbox};

    const MEMORY: i64 = 4 << 30;

    fn pod_of(cpu: &str, memory: &str, policy: &str) -> Arc<Pod> {
        let json = format!(
            r#"{{"metadata":{{"name":"p","uid":"u","generation":2}},"spec":{{"containers":[{{"name":"a",{policy}
            "resources":{{"requests":{{"cpu":"{cpu}","memory":"{memory}"}},"limits":{{"cpu":"{cpu}","memory":"{memory}"}}}}}}]}}}}"#
        );
        Arc::new(Pod::decode(json.as_bytes()).unwrap())
    }

    #[test]
    fn a_wish_fits_waits_or_cannot_be() {
        let (old, room) = (
            pod_of("1", "64Mi", ""),
            Room {
                capacity: Amounts { cpu_m: 4000, memory: 1 << 30 },
                used: Amounts { cpu_m: 2000, memory: 0 },
            },
        );
        let allotted = asked(&old);
        for (cpu, memory, expected) in [
            ("1", "64Mi", Judgement::Nothing),
            ("2", "64Mi", Judgement::Fits),
            ("500m", "32Mi", Judgement::Fits),
            (
                "3",
                "64Mi",
                Judgement::Pending(
                    "Deferred",
                    "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000"
                        .to_owned(),
                ),
            ),
            (
                "5",
                "64Mi",
                Judgement::Pending(
                    "Infeasible",
                    "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000".to_owned(),
                ),
            ),
            (
                "5",
                "2Gi",
                Judgement::Pending(
                    "Infeasible",
                    "Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824"
                        .to_owned(),
                ),
            ),
        ] {
            assert_eq!(judge(&pod_of(cpu, memory, ""), &allotted, &room), expected, "{cpu} {memory}");
        }
    }

    #[test]
    fn a_pod_is_worked_with_as_it_is_allotted() {
        let (old, new) = (pod_of("1", "64Mi", ""), pod_of("2", "64Mi", ""));
        let held = with(&new, &asked(&old));
        assert_eq!(asked(&held), asked(&old));
        assert_eq!(held.meta().generation, new.meta().generation);
        assert!(Arc::ptr_eq(&with(&new, &asked(&new)), &new));
        assert_eq!(used([&old, &new], "other"), Amounts { cpu_m: 2000 + 1000, memory: 128 << 20 });
        assert_eq!(used([&old], "u"), Amounts::default());
    }

    #[test]
    fn what_was_told_before_a_restart_is_allotted() {
        let mut pod = Pod::clone(&pod_of("3", "64Mi", ""));
        let status = r#"{"metadata":{},"status":{"conditions":[{"type":"PodResizePending","status":"True"}],"containerStatuses":[
            {"name":"a","image":"i","imageID":"","ready":true,"restartCount":0,"allocatedResources":{"cpu":"1","memory":"64Mi"},
            "resources":{"limits":{"cpu":"1","memory":"64Mi"}}}]}}"#;
        pod.status = Pod::decode(status.as_bytes()).unwrap().status;
        assert_eq!(adopted(&pod), asked(&pod_of("1", "64Mi", "")));
        pod.status.as_mut().unwrap().conditions = None;
        assert_eq!(adopted(&pod), asked(&pod));
    }

    #[test]
    fn containers_get_what_differs() {
        let restart = r#""resizePolicy":[{"resourceName":"memory","restartPolicy":"RestartContainer"}],"#;
        let has = Some(Limits { cpu_shares: 1024, cpu_quota: 100_000, memory: 64 << 20 });
        for (cpu, memory, policy, due_, restarts_) in [
            ("1", "64Mi", restart, false, false),
            ("2", "64Mi", restart, true, false),
            ("1", "96Mi", restart, true, true),
            ("1", "96Mi", "", true, false),
        ] {
            let pod = pod_of(cpu, memory, policy);
            let view = ContainerView { limits: has, ..running("a", 0, 1) };
            let observed = Observed { sandboxes: vec![sandbox(true)], containers: vec![view.clone()] };
            let container = &facts::spec(&pod).containers[0];
            assert_eq!(!due(&pod, &observed, MEMORY).is_empty(), due_, "{cpu} {memory}");
            assert_eq!(restarts(&pod, container, &view, MEMORY), restarts_, "{cpu} {memory}");
        }
        let silent = Observed { sandboxes: vec![sandbox(true)], containers: vec![running("a", 0, 1)] };
        assert!(due(&pod_of("2", "64Mi", ""), &silent, MEMORY).is_empty());
    }
}
