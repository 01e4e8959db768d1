//! The old form of a service's endpoints: one object with all addresses.

use crate::backends::{self, HEADLESS, TRIGGER_TIME};
use crate::context::{Context, enqueue};
use nauplius_base::time::Timestamp;
use nauplius_kinds::api::core::{EndpointAddress, EndpointPort, EndpointSubset, ServicePort};
use nauplius_kinds::{Endpoints, Object, Pod, Service, pod};
use nauplius_reconcile::{Action, Controller, EventKind, Informer, Key, Note, Plan, Queue};
use std::collections::BTreeMap;
use std::sync::Arc;

const WORKERS: usize = 5;
/// More addresses than this are cut off, ready ones last.
const ADDRESSES_MAX: usize = 1000;
const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

struct EndpointsController {
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
}

struct View {
    service: Option<Arc<Service>>,
    pods: Vec<Arc<Pod>>,
    known: Option<Arc<Endpoints>>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    backends::enqueue(context, &queue);
    enqueue(&context.endpoints, &queue, |change| Some(Key::of(&**change.object())));
    let controller = EndpointsController {
        services: context.services.clone(),
        pods: context.pods.clone(),
        endpoints: context.endpoints.clone(),
    };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.endpoints));
}

impl Controller for EndpointsController {
    type View = View;
    const NAME: &'static str = "endpoint-controller";
    const QUEUE: &'static str = "endpoint";

    fn view(&self, key: &Key) -> Option<View> {
        let service = self.services.snapshot().get(key).cloned();
        let known = self.endpoints.snapshot().get(key).cloned();
        if service.is_none() && known.is_none() {
            return None;
        }
        let pods =
            service.as_ref().map(|service| backends::backends(&self.pods, service)).unwrap_or_default();
        Some(View { service, pods, known })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        plan(view)
    }
}

fn plan(view: &View) -> Plan {
    let mut plan = Plan::nothing();
    match (&view.service, &view.known) {
        (None, Some(known)) if is_ours(known) => plan.act(Action::delete(&**known)),
        (Some(service), known) if backends::selector(service).is_some() => {
            plan.actions.extend(write(service, &view.pods, known.as_deref()));
        }
        _ => {}
    }
    plan
}

/// Endpoints that somebody else wrote for a service that is gone are theirs.
fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY.0)).is_some_and(|value| value == MANAGED_BY.1)
}

fn write(service: &Service, pods: &[Arc<Pod>], known: Option<&Endpoints>) -> Option<Action> {
    let mut endpoints = known.cloned().unwrap_or_default();
    endpoints.metadata.name = Some(service.name().to_owned());
    endpoints.metadata.namespace = Some(service.namespace().to_owned());
    endpoints.metadata.labels = Some(labels(service));
    let mut subsets = subsets(service, pods);
    let is_cut = cut(&mut subsets);
    endpoints.subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    if known.is_some_and(|known| {
        known.subsets == endpoints.subsets && known.metadata.labels == endpoints.metadata.labels
    }) {
        return None;
    }
    let annotations = endpoints.metadata.annotations.get_or_insert_default();
    set(annotations, OVER_CAPACITY, is_cut.then(|| "truncated".to_owned()));
    set(annotations, TRIGGER_TIME, trigger(service, pods, known));
    let note = |reason: &'static str, verb: &str| {
        let message = format!("Failed to {verb} {}/{}: {{error}}", service.namespace(), service.name());
        Note::about(&endpoints, EventKind::Warning, reason, message)
    };
    Some(match known {
        None => Action::create(&endpoints)
            .on_failure(note("FailedToCreateEndpoint", "create endpoint for service")),
        Some(_) => Action::update(&endpoints).on_failure(note("FailedToUpdateEndpoint", "update endpoint")),
    })
}

fn set(annotations: &mut BTreeMap<String, String>, key: &str, value: Option<String>) {
    match value {
        Some(value) => annotations.insert(key.to_owned(), value),
        None => annotations.remove(key),
    };
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    labels.remove(HEADLESS);
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// The newest change among the pods, or the service's creation for the first endpoints.
fn trigger(service: &Service, pods: &[Arc<Pod>], known: Option<&Endpoints>) -> Option<String> {
    let changed = pods.iter().filter_map(|pod| backends::changed_at(pod)).max();
    let created = || service.metadata.creation_timestamp.as_ref().map(|time| time.0);
    changed.or_else(|| known.is_none().then(created).flatten()).map(backends::trigger_time)
}

type Ports = Vec<EndpointPort>;

/// Addresses by the ports they have in common, in upstream's canonical order.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publishes = backends::publishes_not_ready(service);
    let mut groups: Vec<(Ports, EndpointSubset)> = Vec::new();
    for pod in pods.iter().filter(|pod| backends::has_endpoint(pod, publishes)) {
        let Some(address) = address(service, pod) else { continue };
        let Some(ports) = ports(service, pod) else { continue };
        let group = match groups.iter().position(|(known, _)| *known == ports) {
            Some(index) => &mut groups[index].1,
            None => {
                groups.push((ports, EndpointSubset::default()));
                let last = groups.len() - 1;
                &mut groups[last].1
            }
        };
        let is_ready = publishes || pod::is_ready(pod);
        let list = if is_ready { &mut group.addresses } else { &mut group.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    let mut subsets: Vec<_> = groups
        .into_iter()
        .map(|(ports, subset)| EndpointSubset {
            ports: Some(ports).filter(|ports| !ports.is_empty()),
            ..subset
        })
        .collect();
    for subset in &mut subsets {
        subset.addresses.iter_mut().for_each(|list| list.sort_by(|one, other| one.ip.cmp(&other.ip)));
        subset
            .not_ready_addresses
            .iter_mut()
            .for_each(|list| list.sort_by(|one, other| one.ip.cmp(&other.ip)));
    }
    subsets.sort_by_key(|subset| format!("{:?}", subset.ports));
    subsets
}

/// `None` where a service with ports finds none of them on the pod.
fn ports(service: &Service, pod: &Pod) -> Option<Ports> {
    let wanted = backends::ports(service);
    let mut ports: Ports = wanted.iter().filter_map(|port| endpoint_port(pod, port)).collect();
    ports.sort_by(|one, other| (&one.name, one.port).cmp(&(&other.name, other.port)));
    if ports.is_empty() && !(wanted.is_empty() && backends::is_headless(service)) {
        None
    } else {
        Some(ports)
    }
}

fn endpoint_port(pod: &Pod, port: &ServicePort) -> Option<EndpointPort> {
    Some(EndpointPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: backends::target_port(pod, port)?,
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    })
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let wants_v6 = families.and_then(|families| families.first()).is_some_and(|family| family == "IPv6");
    let ip = pod::ips(pod).into_iter().find(|ip| ip.contains(':') == wants_v6)?.to_owned();
    Some(EndpointAddress {
        ip,
        hostname: backends::hostname(pod, service),
        node_name: backends::node_name(pod),
        target_ref: Some(backends::reference(pod)),
    })
}

/// Cuts what is beyond the limit, not ready addresses first; whether anything was.
fn cut(subsets: &mut [EndpointSubset]) -> bool {
    let (mut left, mut is_cut) = (ADDRESSES_MAX, false);
    let mut keep = |list: &mut Option<Vec<EndpointAddress>>| {
        if let Some(list) = list {
            is_cut |= list.len() > left;
            list.truncate(left);
            left -= list.len();
        }
    };
    subsets.iter_mut().for_each(|subset| keep(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| keep(&mut subset.not_ready_addresses));
    is_cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, trace};
    use serde_json::{Value, json};

    fn service(extra: Value) -> Arc<Service> {
        let mut service = json!({"metadata": {"name": "s", "namespace": "n", "labels": {"l": "1"}}, "spec": {"clusterIP": "10.96.0.9",
            "selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": "web", "protocol": "TCP"}]}});
        nauplius_meta::patch::merge::apply(&mut service, extra);
        object(service)
    }

    fn pod(name: &str, ip: &str, ready: &str) -> Arc<Pod> {
        object(json!({"metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "a"}},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}}))
    }

    fn written(view: &View) -> Endpoints {
        let plan = plan(view);
        let Some(Action::Write(write)) = plan.actions.first() else { panic!("nothing was written") };
        Endpoints::decode(&write.body).unwrap()
    }

    #[test]
    fn ready_and_unready_addresses_share_their_ports_and_nothing_is_written_twice() {
        let pods =
            vec![pod("b", "10.0.0.2", "True"), pod("a", "10.0.0.1", "True"), pod("c", "10.0.0.3", "False")];
        let mut view = View { service: Some(service(json!({}))), pods, known: None };
        let endpoints = written(&view);
        let subsets = endpoints.subsets.clone().unwrap();
        let ips: Vec<_> = subsets[0].addresses.iter().flatten().map(|address| address.ip.as_str()).collect();
        assert_eq!((subsets.len(), ips), (1, vec!["10.0.0.1", "10.0.0.2"]));
        assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap()[0].ip, "10.0.0.3");
        assert_eq!(subsets[0].ports.as_ref().unwrap()[0].port, 8080);
        assert_eq!(endpoints.metadata.labels.as_ref().unwrap()[MANAGED_BY.0], MANAGED_BY.1);
        view.known = Some(Arc::new(endpoints));
        view.pods.reverse();
        assert_eq!(plan(&view), Plan::nothing());
    }

    #[test]
    fn what_has_no_selector_or_no_service_is_left_or_removed() {
        let bare = service(json!({"spec": {"selector": null}}));
        assert_eq!(plan(&View { service: Some(bare), pods: Vec::new(), known: None }), Plan::nothing());
        let managed = object(
            json!({"metadata": {"name": "s", "namespace": "n", "labels": {MANAGED_BY.0: MANAGED_BY.1}}}),
        );
        let gone = View { service: None, pods: Vec::new(), known: Some(managed) };
        assert_eq!(trace(&plan(&gone)), ["DELETE n/endpoints/s"]);
        let theirs = object(json!({"metadata": {"name": "s", "namespace": "n"}}));
        assert_eq!(plan(&View { service: None, pods: Vec::new(), known: Some(theirs) }), Plan::nothing());
    }

    #[test]
    fn the_surplus_is_cut() {
        let pods = (0..1200)
            .map(|index| pod(&format!("p{index}"), &format!("10.0.{}.{}", index / 250, index % 250), "True"));
        let view = View { service: Some(service(json!({}))), pods: pods.collect(), known: None };
        let endpoints = written(&view);
        assert_eq!(endpoints.subsets.unwrap()[0].addresses.as_ref().unwrap().len(), ADDRESSES_MAX);
        assert_eq!(endpoints.metadata.annotations.unwrap()[OVER_CAPACITY], "truncated");
    }
}
