//! What slices there must be for endpoints, and the writes that lead there: one slice for each set of ports and address family.

use super::{ENDPOINTS_MAX, MANAGED_BY, SERVICE_NAME};
use crate::backends::TRIGGER_TIME;
use crate::claim::controller_reference;
use nauplius_kinds::api::core::{EndpointAddress, EndpointPort as Port};
use nauplius_kinds::api::discovery::{Endpoint, EndpointConditions, EndpointPort};
use nauplius_kinds::{EndpointSlice, Endpoints, Object};
use nauplius_meta::names::parse_ip;
use nauplius_reconcile::Action;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What kubectl notes about what it applied is about the endpoints, not about their mirror.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An endpoint's addresses and the namespace and name of what it stands for: two with the same are one.
type Identity = (Vec<String>, Option<(Option<String>, Option<String>)>);

/// The endpoints of one slice.
pub(super) struct Group {
    address_type: &'static str,
    ports: Vec<EndpointPort>,
    endpoints: BTreeMap<Identity, Endpoint>,
}

/// What endpoints come to.
pub(super) struct Wanted {
    pub groups: Vec<Group>,
    /// Addresses that are none.
    pub invalid: usize,
    /// Addresses that are not mirrored, those that are none included.
    pub skipped: usize,
}

impl Wanted {
    pub fn of(endpoints: &Endpoints) -> Self {
        let mut wanted = Self { groups: Vec::new(), invalid: 0, skipped: 0 };
        for subset in endpoints.subsets.iter().flatten() {
            let ports: Vec<_> = subset.ports.iter().flatten().map(port).collect();
            let ready = subset.addresses.iter().flatten().map(|address| (address, true));
            let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
            let mut room = ENDPOINTS_MAX;
            for (address, is_ready) in ready.chain(unready) {
                let is_taken = room > 0 && wanted.take(&ports, address, is_ready);
                room -= usize::from(is_taken);
                wanted.skipped += usize::from(!is_taken);
            }
        }
        wanted
    }

    /// Whether the address is one.
    fn take(&mut self, ports: &[EndpointPort], address: &EndpointAddress, is_ready: bool) -> bool {
        let Some(ip) = parse_ip(&address.ip).map(|ip| ip.to_canonical()) else {
            self.invalid += 1;
            return false;
        };
        let endpoint = endpoint(ip, address, is_ready);
        let group = self.group(if ip.is_ipv4() { "IPv4" } else { "IPv6" }, ports);
        group.endpoints.insert(identity(&endpoint), endpoint);
        true
    }

    fn group(&mut self, address_type: &'static str, ports: &[EndpointPort]) -> &mut Group {
        let known = |group: &Group| group.address_type == address_type && is_same_ports(&group.ports, ports);
        let index = self.groups.iter().position(known).unwrap_or_else(|| {
            self.groups.push(Group { address_type, ports: ports.to_vec(), endpoints: BTreeMap::new() });
            self.groups.len() - 1
        });
        &mut self.groups[index]
    }
}

/// The order of ports says nothing.
fn is_same_ports(one: &[EndpointPort], other: &[EndpointPort]) -> bool {
    one.len() == other.len() && one.iter().all(|port| other.contains(port))
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(ip: IpAddr, address: &EndpointAddress, is_ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn identity(endpoint: &Endpoint) -> Identity {
    let target = endpoint.target_ref.as_ref().map(|target| (target.namespace.clone(), target.name.clone()));
    (endpoint.addresses.clone(), target)
}

/// Creates, updates and deletes, in this order.
pub(super) fn writes(endpoints: &Endpoints, wanted: &Wanted, slices: &[Arc<EndpointSlice>]) -> Vec<Action> {
    let mut unused: Vec<Arc<EndpointSlice>> = slices.to_vec();
    let (mut updates, mut news) = (Vec::new(), Vec::new());
    for group in &wanted.groups {
        match unused.iter().position(|slice| is_of(slice, group)) {
            Some(index) => updates.extend(update(endpoints, &unused.remove(index), group)),
            None => news.push(group),
        }
    }
    let mut creates = Vec::new();
    for group in news {
        // A slice to delete and one to create are one slice to update; its address family alone cannot change.
        match unused.iter().position(|slice| slice.address_type == group.address_type) {
            Some(index) => updates.extend(update(endpoints, &unused.remove(index), group)),
            None => creates.push(create(endpoints, group)),
        }
    }
    if endpoints.metadata.deletion_timestamp.is_some() {
        creates.clear();
    }
    let deletes = unused.iter().map(|slice| Action::delete(&**slice));
    creates.into_iter().chain(updates).chain(deletes).collect()
}

fn is_of(slice: &EndpointSlice, group: &Group) -> bool {
    slice.address_type == group.address_type
        && is_same_ports(slice.ports.as_deref().unwrap_or_default(), &group.ports)
}

fn create(endpoints: &Endpoints, group: &Group) -> Action {
    let mut slice = EndpointSlice { address_type: group.address_type.to_owned(), ..EndpointSlice::default() };
    slice.metadata.namespace = Some(endpoints.namespace().to_owned());
    slice.metadata.generate_name = Some(format!("{}-", endpoints.name()));
    fill(&mut slice, endpoints, group);
    Action::create(&slice)
}

fn update(endpoints: &Endpoints, known: &EndpointSlice, group: &Group) -> Option<Action> {
    let mut slice = known.clone();
    fill(&mut slice, endpoints, group);
    let is_settled = is_of(known, group)
        && slice.metadata.labels == known.metadata.labels
        && slice.metadata.annotations == known.metadata.annotations
        && slice.metadata.owner_references == known.metadata.owner_references
        && is_same_endpoints(known, &slice);
    (!is_settled).then(|| Action::update(&slice))
}

/// Whether both hold the same endpoints, in whatever order.
fn is_same_endpoints(one: &EndpointSlice, other: &EndpointSlice) -> bool {
    let by_identity = |slice: &EndpointSlice| -> BTreeMap<Identity, Endpoint> {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints.map(|endpoint| (identity(endpoint), endpoint.clone())).collect()
    };
    let count = |slice: &EndpointSlice| slice.endpoints.as_ref().map_or(0, Vec::len);
    count(one) == count(other) && by_identity(one) == by_identity(other)
}

fn fill(slice: &mut EndpointSlice, endpoints: &Endpoints, group: &Group) {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), endpoints.name().to_owned());
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| name != TRIGGER_TIME && name != LAST_APPLIED);
    slice.metadata.labels = Some(labels);
    slice.metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    slice.metadata.owner_references = Some(vec![controller_reference(endpoints)]);
    slice.ports = Some(group.ports.clone()).filter(|ports| !ports.is_empty());
    slice.endpoints = Some(group.endpoints.values().take(ENDPOINTS_MAX).cloned().collect());
}
