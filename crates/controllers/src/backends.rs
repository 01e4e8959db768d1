//! What both endpoints controllers ask of a service and its pods. It never knows how endpoints are written down.

use crate::context::Context;
use nauplius_base::time::Timestamp;
use nauplius_kinds::api::IntOrString;
use nauplius_kinds::api::core::{ObjectReference, ServicePort};
use nauplius_kinds::{Object, Pod, Service, pod};
use nauplius_reconcile::{Informer, Key, Queue, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// Puts a service's key into `queue` when it changes, or a pod that it selects does.
pub(crate) fn enqueue(context: &Context, queue: &Queue<Key>) {
    crate::context::enqueue(&context.services, queue, |change| Some(Key::of(&**change.object())));
    let services = context.services.clone();
    crate::context::enqueue_all(&context.pods, queue, move |pod: &Pod| selecting(&services.snapshot(), pod));
}

fn selecting(services: &Snapshot<Service>, pod: &Pod) -> Vec<Key> {
    let selecting = services.in_namespace(pod.namespace()).filter(|service| selects(service, pod));
    selecting.map(|service| Key::of(&**service)).collect()
}

/// The selector of a service whose endpoints are a controller's business.
pub(crate) fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = selector(service) else { return false };
    let labels = pod.metadata.labels.as_ref();
    selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// The pods behind a service, in the order of their names.
pub(crate) fn backends(pods: &Informer<Pod>, service: &Service) -> Vec<Arc<Pod>> {
    let pods = pods.snapshot();
    pods.in_namespace(service.namespace()).filter(|pod| selects(service, pod)).cloned().collect()
}

/// Whether a pod can be an endpoint at all.
pub(crate) fn has_endpoint(pod: &Pod, includes_terminating: bool) -> bool {
    !pod::is_terminal(pod) && !pod::ips(pod).is_empty() && (includes_terminating || !pod::is_terminating(pod))
}

pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

pub(crate) fn is_headless(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    address == "None" || address.is_empty()
}

pub(crate) fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

/// The number that a service's port has on this pod; `None` if the pod has no port of that name.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => named_port(pod, name, port.protocol.as_deref().unwrap_or("TCP")),
    }
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|container| pod::is_sidecar(container));
    let mut ports =
        spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let found = ports.find(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    found.map(|port| port.container_port)
}

/// The name that DNS knows the pod by below the service.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|name| !name.is_empty())?;
    (spec.subdomain.as_deref() == Some(service.name())).then_some(hostname)
}

pub(crate) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some(Pod::KIND.to_owned()),
        namespace: Some(pod.namespace().to_owned()),
        name: Some(pod.name().to_owned()),
        uid: Some(pod.uid().to_owned()),
        ..ObjectReference::default()
    }
}

pub(crate) fn node_name(pod: &Pod) -> Option<String> {
    Some(pod::node_name(pod)).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Since when a pod's readiness is as it is, by which the delay until proxies know is measured.
pub(crate) fn changed_at(pod: &Pod) -> Option<Timestamp> {
    Some(pod::condition(pod, "Ready")?.last_transition_time.as_ref()?.0)
}

pub(crate) fn trigger_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
