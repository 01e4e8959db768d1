//! A service's endpoints in slices of at most a hundred, as proxies and DNS read them.

mod pack;

use crate::backends::{self, HEADLESS};
use crate::claim::controller_reference;
use crate::context::{Context, SERVICE, enqueue_all};
use nauplius_base::time::Timestamp;
use nauplius_kinds::api::core::ServicePort;
use nauplius_kinds::api::discovery::{Endpoint, EndpointConditions, EndpointPort};
use nauplius_kinds::{EndpointSlice, Node, Object, Pod, Service, pod};
use nauplius_reconcile::{Action, Controller, EventKind, Informer, Key, Note, Plan, Queue, Snapshot};
use pack::Desired;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const WORKERS: usize = 5;
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: (&str, &str) =
    ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");
const ZONE: &str = "topology.kubernetes.io/zone";

struct EndpointSlices {
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
}

#[derive(Debug, Clone)]
struct View {
    service: Arc<Service>,
    pods: Vec<Arc<Pod>>,
    /// The zones of the pods' nodes.
    zones: BTreeMap<String, String>,
    slices: Vec<Arc<EndpointSlice>>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    backends::enqueue(context, &queue);
    enqueue_all(&context.endpoint_slices, &queue, |slice: &EndpointSlice| {
        service_of(slice).map(|name| Key::new(slice.namespace(), name)).into_iter().collect()
    });
    let controller = EndpointSlices {
        services: context.services.clone(),
        pods: context.pods.clone(),
        nodes: context.nodes.clone(),
        slices: context.endpoint_slices.clone(),
    };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.endpoint_slices));
}

fn service_of(slice: &EndpointSlice) -> Option<&str> {
    let labels = slice.metadata.labels.as_ref()?;
    (labels.get(MANAGED_BY.0)? == MANAGED_BY.1)
        .then(|| labels.get(SERVICE_NAME).map(String::as_str))
        .flatten()
}

fn zones(nodes: &Snapshot<Node>, pods: &[Arc<Pod>]) -> BTreeMap<String, String> {
    let names: BTreeSet<_> = pods.iter().map(|pod| pod::node_name(pod)).collect();
    let zone = |name: &str| nodes.find("", name)?.metadata.labels.as_ref()?.get(ZONE).cloned();
    names.into_iter().filter_map(|name| Some((name.to_owned(), zone(name)?))).collect()
}

impl Controller for EndpointSlices {
    type View = View;
    const NAME: &'static str = "endpointslice-controller";
    const COMPONENT: &'static str = "endpoint-slice-controller";
    const QUEUE: &'static str = "endpoint_slice";

    fn view(&self, key: &Key) -> Option<View> {
        let service = Arc::clone(self.services.snapshot().get(key)?);
        let pods = backends::backends(&self.pods, &service);
        let zones = zones(&self.nodes.snapshot(), &pods);
        let slices = self.slices.snapshot();
        let name = key.to_string();
        let slices = slices.indexed(SERVICE, &name).filter(|slice| service_of(slice).is_some());
        let slices = slices.cloned().collect();
        Some(View { service, pods, zones, slices })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        plan(view)
    }
}

fn plan(view: &View) -> Plan {
    let mut plan = Plan::nothing();
    let service = &view.service;
    if backends::selector(service).is_none() || service.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let types = address_types(service);
    for type_ in &types {
        let slices: Vec<_> =
            view.slices.iter().filter(|slice| slice.address_type == *type_).cloned().collect();
        let desired = desired(view, type_);
        plan.actions.extend(pack::pack(&template(service, type_), desired, &slices));
    }
    let foreign = view.slices.iter().filter(|slice| !types.contains(&slice.address_type.as_str()));
    plan.actions.extend(foreign.map(|slice| Action::delete(&**slice)));
    plan.actions = plan.actions.into_iter().map(|action| noted(service, action)).collect();
    plan
}

fn noted(service: &Service, action: Action) -> Action {
    let message = format!(
        "Error updating Endpoint Slices for Service {}/{}: {{error}}",
        service.namespace(),
        service.name()
    );
    action.on_failure(Note::about(service, EventKind::Warning, "FailedToUpdateEndpointSlices", message))
}

fn address_types(service: &Service) -> Vec<&'static str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    if families.is_empty() {
        return vec!["IPv4"];
    }
    families.iter().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect()
}

/// A slice of the service without endpoints.
fn template(service: &Service, address_type: &str) -> EndpointSlice {
    let mut slice = EndpointSlice { address_type: address_type.to_owned(), ..EndpointSlice::default() };
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.name().to_owned());
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    slice.metadata.labels = Some(labels);
    slice.metadata.namespace = Some(service.namespace().to_owned());
    slice.metadata.generate_name = Some(format!("{}-", service.name()));
    slice.metadata.owner_references = Some(vec![controller_reference(service)]);
    // The first slice is due since the service is there.
    slice.metadata.creation_timestamp = service.metadata.creation_timestamp.clone();
    slice
}

/// The endpoints that must be in slices, by the ports that they have in common.
fn desired(view: &View, address_type: &str) -> Vec<(Vec<EndpointPort>, Vec<Desired>)> {
    let mut groups: Vec<(Vec<EndpointPort>, Vec<Desired>)> = Vec::new();
    for pod in view.pods.iter().filter(|pod| backends::has_endpoint(pod, true)) {
        let Some(endpoint) = endpoint(view, pod, address_type) else { continue };
        let ports: Vec<_> =
            backends::ports(&view.service).iter().filter_map(|port| endpoint_port(pod, port)).collect();
        let desired = Desired { endpoint, changed_at: backends::changed_at(pod) };
        match groups.iter_mut().find(|(known, _)| *known == ports) {
            Some((_, group)) => group.push(desired),
            None => groups.push((ports, vec![desired])),
        }
    }
    for (_, group) in &mut groups {
        group.sort_by(|one, other| pack::identity(&one.endpoint).cmp(&pack::identity(&other.endpoint)));
    }
    groups.sort_by_key(|(ports, _)| format!("{ports:?}"));
    groups
}

fn endpoint_port(pod: &Pod, port: &ServicePort) -> Option<EndpointPort> {
    Some(EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(backends::target_port(pod, port)?),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    })
}

fn endpoint(view: &View, pod: &Pod, address_type: &str) -> Option<Endpoint> {
    let addresses: Vec<_> = pod::ips(pod)
        .into_iter()
        .filter(|ip| ip.contains(':') == (address_type == "IPv6"))
        .map(str::to_owned)
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let (serving, terminating) = (pod::is_ready(pod), pod::is_terminating(pod));
    let ready = backends::publishes_not_ready(&view.service) || (serving && !terminating);
    let conditions =
        EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) };
    Some(Endpoint {
        addresses,
        conditions: Some(conditions),
        hostname: backends::hostname(pod, &view.service),
        node_name: backends::node_name(pod),
        target_ref: Some(backends::reference(pod)),
        zone: view.zones.get(pod::node_name(pod)).cloned(),
        ..Endpoint::default()
    })
}

#[cfg(test)]
mod tests;
