//! Filters: whether a pod can run on a node at all, and if not, why, in upstream's words.

use crate::affinity::PodAffinity;
use crate::cluster::{NodeInfo, PodInfo};
use crate::select::node_matches;
use crate::spread::Spread;
use crate::verdict::Reasons;
use crate::volumes::Volumes;
use nauplius_kinds::api::core::{Taint, Toleration};

const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// What was computed once for the pod over the whole cluster.
pub struct Prepared {
    /// Required affinity and anti-affinity between pods.
    pub affinity: PodAffinity,
    /// Hard spreading constraints.
    pub spread: Spread,
    /// What its claims ask of nodes.
    pub volumes: Volumes,
}

/// Every filter in upstream's order; the first that refuses decides.
///
/// # Errors
/// The reasons why the pod cannot run there.
pub fn filter(pod: &PodInfo, node: &NodeInfo, prepared: &Prepared) -> Result<(), Reasons> {
    unschedulable(pod, node)?;
    node_name(pod, node)?;
    taints(pod, node)?;
    node_affinity(pod, node)?;
    ports(pod, node)?;
    resources(pod, node)?;
    prepared.volumes.check_others(pod, node)?;
    prepared.volumes.check(node)?;
    prepared.spread.check(node)?;
    prepared.affinity.check(pod, node)
}

/// Whether the pod could run there if others made room: no pod that goes changes a taint, a label, what a node has in all or where a volume is.
pub fn may_make_room(pod: &PodInfo, node: &NodeInfo, volumes: &Volumes) -> bool {
    let fits = unschedulable(pod, node)
        .and_then(|()| node_name(pod, node))
        .and_then(|()| taints(pod, node))
        .and_then(|()| node_affinity(pod, node))
        .and_then(|()| volumes.check(node));
    fits.is_ok() && pod.requests.fit(&node.allocatable)
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Reasons> {
    Err(vec![reason.into()])
}

fn tolerations(pod: &PodInfo) -> &[Toleration] {
    pod.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

fn unschedulable(pod: &PodInfo, node: &NodeInfo) -> Result<(), Reasons> {
    let is_marked = node.node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    let taint =
        Taint { key: UNSCHEDULABLE_TAINT.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    if is_marked && !is_tolerated(&taint, tolerations(pod)) {
        return refuse("node(s) were unschedulable");
    }
    Ok(())
}

fn node_name(pod: &PodInfo, node: &NodeInfo) -> Result<(), Reasons> {
    let wanted = pod.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    if wanted.is_empty() || wanted == node.name() {
        return Ok(());
    }
    refuse("node(s) didn't match the requested node name")
}

/// Whether one of the tolerations covers the taint.
pub fn is_tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| nauplius_kinds::toleration::tolerates(toleration, taint))
}

fn taints(pod: &PodInfo, node: &NodeInfo) -> Result<(), Reasons> {
    let taints = node.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let hard = taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    let untolerated = hard.into_iter().find(|taint| !is_tolerated(taint, tolerations(pod)));
    match untolerated {
        None => Ok(()),
        Some(_) => refuse("node(s) had untolerated taint(s)".to_owned()),
    }
}

fn node_affinity(pod: &PodInfo, node: &NodeInfo) -> Result<(), Reasons> {
    if pod.pod.spec.as_ref().is_none_or(|spec| node_matches(spec, node)) {
        return Ok(());
    }
    refuse("node(s) didn't match Pod's node affinity/selector")
}

fn ports(pod: &PodInfo, node: &NodeInfo) -> Result<(), Reasons> {
    let taken = || node.pods.iter().flat_map(|other| &other.ports);
    if pod.ports.iter().any(|port| taken().any(|other| port.conflicts(other))) {
        return refuse("node(s) didn't have free ports for the requested pod ports");
    }
    Ok(())
}

fn resources(pod: &PodInfo, node: &NodeInfo) -> Result<(), Reasons> {
    let mut reasons = Reasons::new();
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.pods_max {
        reasons.push("Too many pods".to_owned());
    }
    let (wants, has, used) = (&pod.requests, &node.allocatable, &node.requested);
    let mut check = |name: &str, wants: i64, has: i64, used: i64| {
        if wants > 0 && wants > has - used {
            reasons.push(format!("Insufficient {name}"));
        }
    };
    check("cpu", wants.milli_cpu, has.milli_cpu, used.milli_cpu);
    check("memory", wants.memory, has.memory, used.memory);
    check("ephemeral-storage", wants.ephemeral_storage, has.ephemeral_storage, used.ephemeral_storage);
    for (name, amount) in &wants.others {
        let of = |amounts: &std::collections::BTreeMap<String, i64>| amounts.get(name).copied().unwrap_or(0);
        check(name, *amount, of(&has.others), of(&used.others));
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{node, pod, simple_node, simple_pod};
    use serde_json::json;
    use std::sync::Arc;

    fn prepared() -> Prepared {
        Prepared { affinity: PodAffinity::default(), spread: Spread::default(), volumes: Volumes::default() }
    }

    fn check(pod_json: &serde_json::Value, node_json: &serde_json::Value, expected: &[&str]) {
        let mut pod_json = pod_json.clone();
        pod_json["metadata"] = json!({"name": "p", "namespace": "d"});
        let pod = PodInfo::new(pod(&pod_json));
        let mut node_json = node_json.clone();
        node_json["metadata"] = json!({"name": "a"});
        if node_json["status"].is_null() {
            node_json["status"] = json!({"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}});
        }
        let reasons = filter(&pod, &NodeInfo::new(node(&node_json)), &prepared()).err().unwrap_or_default();
        assert_eq!(reasons, expected, "{pod_json} on {node_json}");
    }

    #[test]
    fn refuses_in_upstreams_words() {
        let plain = json!({"spec": {"containers": []}});
        check(&plain, &json!({}), &[]);
        check(&plain, &json!({"spec": {"unschedulable": true}}), &["node(s) were unschedulable"]);
        let tainted = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
        check(&plain, &tainted, &["node(s) had untolerated taint(s)"]);
        let tolerant =
            json!({"spec": {"containers": [], "tolerations": [{"key": "k", "operator": "Exists"}]}});
        check(&tolerant, &tainted, &[]);
        let selective = json!({"spec": {"containers": [], "nodeSelector": {"disk": "ssd"}}});
        check(&selective, &json!({}), &["node(s) didn't match Pod's node affinity/selector"]);
        let hungry = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {
            "cpu": "2", "memory": "2Gi", "example.com/gpu": "1"}}}]}});
        let short = ["Insufficient cpu", "Insufficient memory", "Insufficient example.com/gpu"];
        check(&hungry, &json!({}), &short);
    }

    #[test]
    fn others_that_go_make_room_but_change_no_node() {
        let node = json!({"metadata": {"name": "a"}, "status": {"allocatable": {"cpu": "1", "pods": "10"}}});
        let mut cordoned = node.clone();
        cordoned["spec"]["unschedulable"] = json!(true);
        let [node, cordoned] =
            [node, cordoned].map(|json| NodeInfo::new(crate::cluster::testing::node(&json)));
        let asking = |cpu: &str| PodInfo::new(simple_pod("p", cpu, None));
        let none = Volumes::default();
        assert!(may_make_room(&asking("1"), &node, &none));
        assert!(!may_make_room(&asking("2"), &node, &none));
        assert!(!may_make_room(&asking("1"), &cordoned, &none));
    }

    #[test]
    fn counts_pods_and_ports() {
        let mut info = NodeInfo::new(simple_node("a", "4"));
        let with_port = |name: &str, ip: &str| {
            let port = json!({"containerPort": 80, "hostPort": 80, "hostIP": ip, "protocol": "TCP"});
            Arc::new(PodInfo::new(pod(&json!({
                "metadata": {"name": name, "namespace": "d", "uid": name},
                "spec": {"containers": [{"name": "c", "ports": [port]}]},
            }))))
        };
        info.add(with_port("one", "10.0.0.1"));
        assert!(filter(&with_port("two", "10.0.0.2"), &info, &prepared()).is_ok());
        let taken = filter(&with_port("all", ""), &info, &prepared()).unwrap_err();
        assert_eq!(taken, ["node(s) didn't have free ports for the requested pod ports"]);
        for name in ["x", "y"] {
            info.add(Arc::new(PodInfo::new(simple_pod(name, "1m", None))));
        }
        let full = filter(&PodInfo::new(simple_pod("z", "1m", None)), &info, &prepared()).unwrap_err();
        assert_eq!(full, ["Too many pods"]);
    }
}
