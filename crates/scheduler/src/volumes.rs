//! Volumes that a pod takes by claims: whether each claim can be used at all, and on which nodes. The messages and their order are
//! those of upstream's plugins VolumeRestrictions, VolumeBinding and VolumeZone. Nothing here binds a claim or makes a volume.

use crate::cluster::{NodeInfo, PodInfo};
use crate::select::term_matches;
use crate::verdict::Reasons;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use nauplius_kinds::api::storage::StorageClass;
use std::borrow::Cow;
use std::sync::Arc;

/// Set by whoever binds claims, once a claim and its volume point at each other.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The class of a claim, as it was written before there was a field for it; it still goes first.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DELAYED: &str = "WaitForFirstConsumer";
const EXCLUSIVE: &str = "ReadWriteOncePod";
/// Labels that say where a volume is, and what nodes have in their place by now.
const PLACES: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// A claim that a pod names, with what the caches hold for it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The claim's name.
    pub name: String,
    /// Whether the claim is made for this pod and lives as long.
    pub is_ephemeral: bool,
    /// The claim.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// The volume that it is bound to.
    pub volume: Option<Arc<PersistentVolume>>,
    /// Its class.
    pub class: Option<Arc<StorageClass>>,
}

/// What the claims of one pod ask of nodes.
#[derive(Debug, Default)]
pub struct Volumes {
    bound: Vec<Option<Arc<PersistentVolume>>>,
    is_delayed: bool,
    exclusive: Vec<String>,
}

/// The name of the claim behind a volume, and whether the claim is the pod's own.
fn claim_name<'a>(pod: &Pod, volume: &'a Volume) -> Option<(Cow<'a, str>, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((Cow::Borrowed(&source.claim_name), false));
    }
    volume.ephemeral.as_ref()?;
    Some((Cow::Owned(format!("{}-{}", pod.name(), volume.name)), true))
}

/// The claims that a pod names, in the order of its volumes.
pub fn claim_names(pod: &Pod) -> impl Iterator<Item = (Cow<'_, str>, bool)> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().filter_map(|volume| claim_name(pod, volume))
}

/// The class that a claim asks for; empty for none.
pub fn class_name(claim: &PersistentVolumeClaim) -> &str {
    let old = claim.meta().annotations.as_ref().and_then(|annotations| annotations.get(OLD_CLASS));
    let new = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    old.or(new).map(String::as_str).unwrap_or_default()
}

/// The volume that a claim names; empty for none.
pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let completed =
        claim.meta().annotations.as_ref().is_some_and(|annotations| annotations.contains_key(BIND_COMPLETED));
    completed && !volume_name(claim).is_empty()
}

fn is_exclusive(claim: &PersistentVolumeClaim) -> bool {
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    modes.iter().any(|mode| mode == EXCLUSIVE)
}

/// Why a claim cannot be used by this pod, whatever the node.
fn usable<'a>(pod: &Pod, wanted: &'a Wanted) -> Result<&'a PersistentVolumeClaim, String> {
    let name = &wanted.name;
    let Some(claim) = wanted.claim.as_deref() else {
        return Err(if wanted.is_ephemeral {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
        } else {
            format!("persistentvolumeclaim {name:?} not found")
        });
    };
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Lost") {
        let volume = volume_name(claim);
        return Err(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
        ));
    }
    if claim.meta().deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    if wanted.is_ephemeral && !is_made_for(pod, claim) {
        let (namespace, pod) = (pod.namespace(), pod.name());
        return Err(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
        ));
    }
    Ok(claim)
}

fn is_made_for(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let owners = claim.meta().owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.controller == Some(true) && owner.uid == pod.uid())
}

fn is_delayed(claim: &PersistentVolumeClaim, class: Option<&StorageClass>) -> bool {
    let mode = class.and_then(|class| class.volume_binding_mode.as_deref());
    mode == Some(DELAYED) && volume_name(claim).is_empty()
}

/// What the claims ask of nodes.
///
/// # Errors
/// Why the pod can run nowhere, whatever the nodes have.
pub fn prepare(pod: &Pod, wanted: &[Wanted]) -> Result<Volumes, String> {
    // A claim that somebody named is looked for before those that are made for the pod.
    if let Some(missing) = wanted.iter().find(|wanted| !wanted.is_ephemeral && wanted.claim.is_none()) {
        usable(pod, missing)?;
    }
    let claims: Vec<_> = wanted.iter().map(|wanted| usable(pod, wanted)).collect::<Result<_, _>>()?;
    let mut volumes = Volumes::default();
    for (wanted, claim) in wanted.iter().zip(claims) {
        if is_exclusive(claim) && !wanted.is_ephemeral {
            volumes.exclusive.push(wanted.name.clone());
        }
        if is_bound(claim) {
            volumes.bound.push(wanted.volume.clone());
        } else if is_delayed(claim, wanted.class.as_deref()) {
            volumes.is_delayed = true;
        } else {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
    }
    Ok(volumes)
}

impl Volumes {
    /// Whether a pod on the node has a claim that only one pod may have; it goes when that pod goes.
    ///
    /// # Errors
    /// The reason why the pod cannot run there now.
    pub fn check_others(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Reasons> {
        let takes = |other: &PodInfo| {
            other.pod.namespace() == pod.pod.namespace()
                && claim_names(&other.pod).any(|(name, _)| self.exclusive.iter().any(|own| *own == name))
        };
        if !self.exclusive.is_empty() && node.pods.iter().any(|other| takes(other)) {
            let reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
            return Err(vec![reason.to_owned()]);
        }
        Ok(())
    }

    /// Whether the volumes can be reached from the node.
    ///
    /// # Errors
    /// The reasons why the pod can never run there.
    pub fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        let mut reasons = Reasons::new();
        if self.bound.iter().flatten().any(|volume| !reaches(volume, node)) {
            reasons.push("node(s) didn't match PersistentVolume's node affinity".to_owned());
        }
        // Nothing binds or makes a volume for a pod's node yet.
        if self.is_delayed {
            reasons.push("node(s) didn't find available persistent volumes to bind".to_owned());
        }
        if self.bound.iter().any(Option::is_none) {
            reasons
                .push("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)".to_owned());
        }
        if reasons.is_empty() && !self.bound.iter().flatten().all(|volume| is_placed_at(volume, node)) {
            reasons.push("node(s) had no available volume zone".to_owned());
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}

/// Whether a volume is in the node's zone and region, as its labels say. A node that says nothing of these is anywhere.
fn is_placed_at(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    if PLACES.iter().all(|(label, _)| node.label(label).is_none()) {
        return true;
    }
    PLACES.iter().all(|(label, now)| {
        let wanted = volume.meta().labels.as_ref().and_then(|labels| labels.get(*label));
        // A list with an empty name in it says nothing.
        let Some(wanted) = wanted.filter(|list| list.split("__").all(|name| !name.trim().is_empty())) else {
            return true;
        };
        let place = node.label(label).or_else(|| node.label(now));
        place.is_some_and(|place| wanted.split("__").any(|name| name.trim() == place))
    })
}

fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{node, pod, simple_node};
    use serde_json::{Value, json};

    fn taking(volume: &Value) -> Arc<Pod> {
        pod(&json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"containers": [], "volumes": [volume]},
        }))
    }

    fn named() -> Arc<Pod> {
        taking(&json!({"name": "v", "persistentVolumeClaim": {"claimName": "x"}}))
    }

    fn wanted(pod: &Pod, claim: Option<&Value>) -> Wanted {
        let (name, is_ephemeral) = claim_names(pod).next().unwrap();
        let claim = claim.map(|claim| {
            let mut claim = claim.clone();
            claim["metadata"]["name"] = json!(name);
            claim["metadata"]["namespace"] = json!("d");
            Arc::new(PersistentVolumeClaim::decode(claim.to_string().as_bytes()).unwrap())
        });
        Wanted { name: name.into_owned(), is_ephemeral, claim, volume: None, class: None }
    }

    fn refused(pod: &Pod, claim: Option<&Value>, expected: &str) {
        assert_eq!(prepare(pod, &[wanted(pod, claim)]).unwrap_err(), expected);
    }

    #[test]
    fn a_claim_that_cannot_be_used_is_told_in_upstreams_words() {
        let pod = named();
        refused(&pod, None, "persistentvolumeclaim \"x\" not found");
        let lost = json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Lost"}});
        refused(
            &pod,
            Some(&lost),
            "persistentvolumeclaim \"x\" bound to non-existent persistentvolume \"pv\"",
        );
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        refused(&pod, Some(&going), "persistentvolumeclaim \"x\" is being deleted");
        refused(&pod, Some(&json!({})), "pod has unbound immediate PersistentVolumeClaims");
        // A claim that names its volume waits for who binds it, whatever its class says.
        let prebound = json!({"spec": {"volumeName": "pv"}});
        refused(&pod, Some(&prebound), "pod has unbound immediate PersistentVolumeClaims");
    }

    #[test]
    fn a_claim_of_the_pods_own_is_waited_for() {
        let pod = taking(&json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}));
        let waiting = "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\"";
        refused(&pod, None, waiting);
        refused(&pod, Some(&json!({})), "PVC d/p-v was not created for pod d/p (pod is not owner)");
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true});
        let own = json!({"metadata": {"ownerReferences": [owner]}});
        refused(&pod, Some(&own), "pod has unbound immediate PersistentVolumeClaims");
    }

    fn bound(modes: &Value) -> Value {
        json!({
            "metadata": {"annotations": {BIND_COMPLETED: "yes"}},
            "spec": {"volumeName": "pv", "accessModes": modes},
        })
    }

    #[test]
    fn a_bound_volume_says_which_nodes_reach_it() {
        let pod = named();
        let mut wanted = wanted(&pod, Some(&bound(&json!([]))));
        let node = NodeInfo::new(simple_node("a", "1"));
        let gone = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
        let check = |wanted: &Wanted| {
            let volumes = prepare(&pod, std::slice::from_ref(wanted)).unwrap();
            volumes.check(&node).err().unwrap_or_default()
        };
        assert_eq!(check(&wanted), [gone]);
        let on = |host: &str| {
            let term = json!({"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]});
            let volume = json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}});
            Some(Arc::new(PersistentVolume::decode(volume.to_string().as_bytes()).unwrap()))
        };
        wanted.volume = on("a");
        assert!(check(&wanted).is_empty());
        wanted.volume = on("b");
        assert_eq!(check(&wanted), ["node(s) didn't match PersistentVolume's node affinity"]);
    }

    #[test]
    fn a_volume_that_is_in_another_zone_is_out_of_reach() {
        let pod = named();
        let mut wanted = wanted(&pod, Some(&bound(&json!([]))));
        let mut check = |of_volume: Value, of_node: Value| {
            let volume = json!({"metadata": {"name": "pv", "labels": of_volume}, "spec": {}});
            wanted.volume = Some(Arc::new(PersistentVolume::decode(volume.to_string().as_bytes()).unwrap()));
            let node = node(&json!({"metadata": {"name": "a", "labels": of_node}}));
            let volumes = prepare(&pod, std::slice::from_ref(&wanted)).unwrap();
            volumes.check(&NodeInfo::new(node)).err().unwrap_or_default()
        };
        let elsewhere = ["node(s) had no available volume zone"];
        let (old, new) = ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone");
        assert!(check(json!({new: "z1__z2"}), json!({new: "z2"})).is_empty());
        assert!(check(json!({old: "z1"}), json!({new: "z1"})).is_empty());
        assert!(check(json!({new: "z1"}), json!({})).is_empty(), "a node without zones");
        assert!(check(json!({new: "z1__"}), json!({new: "z3"})).is_empty(), "no list of zones");
        assert_eq!(check(json!({new: "z1__z2"}), json!({new: "z3"})), elsewhere);
        assert_eq!(check(json!({new: "z1"}), json!({"topology.kubernetes.io/region": "r"})), elsewhere);
    }

    #[test]
    fn a_class_may_wait_for_the_first_pod() {
        let pod = named();
        let mut wanted = wanted(&pod, Some(&json!({"spec": {"storageClassName": "slow"}})));
        let class = json!({"provisioner": "p", "volumeBindingMode": DELAYED});
        wanted.class = Some(Arc::new(StorageClass::decode(class.to_string().as_bytes()).unwrap()));
        let node = NodeInfo::new(simple_node("a", "1"));
        let refused = prepare(&pod, &[wanted]).unwrap().check(&node).unwrap_err();
        assert_eq!(refused, ["node(s) didn't find available persistent volumes to bind"]);
    }

    #[test]
    fn a_claim_for_one_pod_is_refused_to_a_second() {
        let pod = named();
        let volumes = prepare(&pod, &[wanted(&pod, Some(&bound(&json!([EXCLUSIVE]))))]).unwrap();
        let mut node = NodeInfo::new(simple_node("a", "1"));
        let info = PodInfo::new(Arc::clone(&pod));
        assert!(volumes.check_others(&info, &node).is_ok());
        node.add(Arc::new(PodInfo::new(pod)));
        assert_eq!(
            volumes.check_others(&info, &node).unwrap_err(),
            ["node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"]
        );
    }
}
