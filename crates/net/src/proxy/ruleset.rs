//! The plan: what this node does with packets to services. A pure function of services, endpoints and the node's place.

use super::choose::{Chosen, choose};
use super::service::{Protocol, ServiceName, ServicePort, TrafficPolicy};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// The node's place in the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// This node.
    pub node: String,
    /// The zone it is in; empty: unknown.
    pub zone: String,
    /// The ranges that all pods of the cluster have their addresses from.
    pub pod_ranges: Vec<IpNet>,
    /// Whether what pods send out of those ranges takes this node's address.
    pub masquerade_egress: bool,
}

impl Network {
    /// Whether `address` is a pod's.
    pub fn is_pod(&self, address: IpAddr) -> bool {
        self.pod_ranges.iter().any(|range| range.contains(&address))
    }
}

/// Where packets of one kind go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// To one of these, by chance.
    Endpoints(Vec<SocketAddr>),
    /// Nowhere: there is no endpoint, and the sender is told.
    Reject,
    /// Nowhere: there are endpoints, but none that this traffic may use; somebody else may answer.
    Drop,
}

/// One service port on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedService {
    /// The service's own addresses.
    pub cluster_ips: Vec<IpAddr>,
    /// External and load balancer addresses.
    pub external_ips: Vec<IpAddr>,
    /// The port on all of them.
    pub port: u16,
    /// The port on this node's addresses.
    pub node_port: Option<u16>,
    /// How long a client sticks to an endpoint.
    pub affinity_seconds: Option<u32>,
    /// For packets to the service's own addresses.
    pub internal: Targets,
    /// For packets from outside to the other addresses and the node port.
    pub external: Targets,
    /// For packets from pods and this node to those: they never leave the cluster's way, whatever the external policy.
    pub short_circuit: Targets,
    /// Whether packets from outside keep their source address.
    pub keep_source: bool,
    /// Load balancer addresses with the only ranges that may use them.
    pub guarded: Option<(Vec<IpAddr>, Vec<IpNet>)>,
}

impl PlannedService {
    /// Whether anything but its own addresses leads to it.
    pub fn is_external(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty()
    }

    /// Every endpoint that any of its packets may go to.
    pub fn endpoints(&self) -> BTreeSet<SocketAddr> {
        let list = |targets: &Targets| match targets {
            Targets::Endpoints(list) => list.clone(),
            Targets::Reject | Targets::Drop => Vec::new(),
        };
        [&self.internal, &self.external, &self.short_circuit].into_iter().flat_map(list).collect()
    }
}

/// What a load balancer's health check hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// Its ready endpoints on this node.
    pub local_endpoints: usize,
}

/// An address or node port that two services want; the one that is first in name order has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who goes without.
    pub service: ServiceName,
    /// The address; None for a node port.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// Everything that this node does with packets to services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleSet {
    /// The node's place in the network.
    pub network: Network,
    /// The service ports.
    pub services: BTreeMap<ServiceName, PlannedService>,
    /// Health checks by port.
    pub health_checks: BTreeMap<u16, HealthCheck>,
    /// What could not be given to everyone who asked.
    pub conflicts: Vec<Conflict>,
}

/// What is taken already.
#[derive(Default)]
struct Claims {
    addresses: BTreeSet<(IpAddr, Protocol, u16)>,
    node_ports: BTreeSet<(Protocol, u16)>,
}

/// The plan for these services on this node. The order of `services` and of their endpoints does not matter.
pub fn plan<'a>(network: Network, services: impl IntoIterator<Item = &'a ServicePort>) -> RuleSet {
    let sorted: BTreeMap<_, _> = services.into_iter().map(|service| (&service.name, service)).collect();
    let mut rules = RuleSet { network, ..RuleSet::default() };
    let mut claims = Claims::default();
    for (name, service) in sorted {
        let chosen = choose(service, &rules.network.node, &rules.network.zone);
        if let Some(port) = service.health_check_node_port {
            let check = HealthCheck {
                namespace: name.namespace.clone(),
                name: name.name.clone(),
                local_endpoints: chosen.local_ready,
            };
            rules.health_checks.insert(port, check);
        }
        let mut planned = planned(service, &chosen);
        rules.conflicts.extend(claims.take(name, &mut planned));
        rules.services.insert(name.clone(), planned);
    }
    rules
}

fn planned(service: &ServicePort, chosen: &Chosen) -> PlannedService {
    let targets = |policy| match policy {
        _ if !chosen.any => Targets::Reject,
        TrafficPolicy::Cluster => list_or_drop(&chosen.cluster),
        TrafficPolicy::Local => list_or_drop(&chosen.local),
    };
    let guarded = !service.source_ranges.is_empty() && !service.load_balancer_ips.is_empty();
    PlannedService {
        cluster_ips: service.cluster_ips.clone(),
        external_ips: service.external_ips.iter().chain(&service.load_balancer_ips).copied().collect(),
        port: service.port,
        node_port: service.node_port,
        affinity_seconds: service.affinity_seconds,
        internal: targets(service.internal_policy),
        external: targets(service.external_policy),
        short_circuit: targets(TrafficPolicy::Cluster),
        keep_source: service.external_policy == TrafficPolicy::Local,
        guarded: guarded.then(|| (service.load_balancer_ips.clone(), service.source_ranges.clone())),
    }
}

fn list_or_drop(list: &[SocketAddr]) -> Targets {
    if list.is_empty() { Targets::Drop } else { Targets::Endpoints(list.to_vec()) }
}

impl Claims {
    /// Leaves in `planned` what nobody has yet, and tells what it had to take away.
    fn take(&mut self, name: &ServiceName, planned: &mut PlannedService) -> Vec<Conflict> {
        let (port, protocol) = (planned.port, name.protocol);
        let mut conflicts = Vec::new();
        let mut claim = |address: &IpAddr| {
            let free = self.addresses.insert((*address, protocol, port));
            if !free {
                conflicts.push(Conflict { service: name.clone(), address: Some(*address), port });
            }
            free
        };
        planned.cluster_ips.retain(&mut claim);
        planned.external_ips.retain(&mut claim);
        if let Some((addresses, _)) = &mut planned.guarded {
            addresses.retain(|address| planned.external_ips.contains(address));
        }
        if let Some(port) = planned.node_port.filter(|port| !self.node_ports.insert((protocol, *port))) {
            conflicts.push(Conflict { service: name.clone(), address: None, port });
            planned.node_port = None;
        }
        conflicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Endpoint;
    use proptest::prelude::*;

    fn name(name: &str) -> ServiceName {
        ServiceName {
            namespace: "default".into(),
            name: name.into(),
            port_name: String::new(),
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn the_first_in_name_order_has_a_contested_address() {
        let mut one = ServicePort::new(name("a"), [10, 96, 0, 1].into(), 80);
        let mut two = ServicePort::new(name("b"), [10, 96, 0, 2].into(), 80);
        for service in [&mut one, &mut two] {
            service.external_ips = vec![[192, 0, 2, 9].into()];
            service.node_port = Some(30_080);
        }
        let rules = plan(Network::default(), [&two, &one]);
        assert_eq!(rules.conflicts.len(), 2);
        assert_eq!(rules.services[&name("a")].node_port, Some(30_080));
        assert_eq!(rules.services[&name("b")].node_port, None);
        assert!(rules.services[&name("b")].external_ips.is_empty());
        assert!(!rules.services[&name("b")].is_external());
    }

    #[test]
    fn health_checks_count_ready_endpoints_on_this_node() {
        let mut service = ServicePort::new(name("a"), [10, 96, 0, 1].into(), 80);
        service.health_check_node_port = Some(31_000);
        let local = Endpoint { local: true, ..Endpoint::new([10, 0, 0, 1].into(), 80) };
        let ending = Endpoint { ready: false, terminating: true, ip: [10, 0, 0, 2].into(), ..local.clone() };
        service.endpoints = vec![local, ending, Endpoint::new([10, 0, 0, 3].into(), 80)];
        assert_eq!(plan(Network::default(), [&service]).health_checks[&31_000].local_endpoints, 1);
    }

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        (0u8..4, any::<[bool; 4]>()).prop_map(|(last, [ready, serving, terminating, local])| Endpoint {
            ready: ready && !terminating,
            serving,
            terminating,
            local,
            ..Endpoint::new([10, 0, 0, last].into(), 80)
        })
    }

    proptest! {
        #[test]
        fn order_does_not_matter(endpoints in proptest::collection::vec(endpoint(), 0..6), local: bool) {
            let mut service = ServicePort::new(name("a"), [10, 96, 0, 1].into(), 80);
            service.internal_policy = if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
            service.endpoints = endpoints;
            let forward = plan(Network::default(), [&service]);
            service.endpoints.reverse();
            prop_assert_eq!(forward, plan(Network::default(), [&service]));
        }
    }
}
