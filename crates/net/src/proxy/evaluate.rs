//! A packet evaluator over a rule set: the dataplane as a pure function. The oracle of tests, and the fake where there is no
//! kernel to ask.

use super::ruleset::{PlannedService, RuleSet, Targets};
use super::service::{Protocol, ServiceName};
use super::{Dataplane, Error, Observed};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The first packet of a connection, as it reaches this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub source: IpAddr,
    /// Where it is sent to.
    pub destination: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
}

/// Somewhere that a packet may go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// Whether the endpoint sees this node's address as its source.
    pub masqueraded: bool,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It goes to one of these.
    Translated(BTreeSet<Target>),
    /// Its sender is told that nobody is there.
    Rejected,
    /// It vanishes.
    Dropped,
    /// It is no service's; it goes where it is sent to.
    Passed {
        /// Whether it leaves with this node's address.
        masqueraded: bool,
    },
}

/// A rule set that packets can be tried on, on a node with these addresses.
#[derive(Debug, Clone, Default)]
pub struct Evaluator {
    rules: RuleSet,
    node_addresses: BTreeSet<IpAddr>,
}

impl Evaluator {
    /// With no rules yet.
    pub fn new(node_addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { rules: RuleSet::default(), node_addresses: node_addresses.into_iter().collect() }
    }

    /// What becomes of `packet`.
    pub fn evaluate(&self, packet: &Packet) -> Outcome {
        let address = packet.destination.ip();
        if let Some(service) = self.find(packet, |service| service.cluster_ips.contains(&address)) {
            let masquerade = !self.rules.network.is_pod(packet.source);
            return outcome(&service.internal, packet, masquerade);
        }
        if let Some(service) = self.find(packet, |service| service.external_ips.contains(&address)) {
            return if guarded(service, packet) { Outcome::Dropped } else { self.external(service, packet) };
        }
        let node_port = |(name, service): &(&ServiceName, &PlannedService)| {
            name.protocol == packet.protocol && service.node_port == Some(packet.destination.port())
        };
        let on_node = self.node_addresses.contains(&address) && !address.is_loopback();
        if let Some((_, service)) = self.rules.services.iter().find(node_port).filter(|_| on_node) {
            return self.external(service, packet);
        }
        if self.rules.services.values().any(|service| service.cluster_ips.contains(&address)) {
            return Outcome::Rejected;
        }
        let network = &self.rules.network;
        let leaves = network.is_pod(packet.source)
            && !network.is_pod(address)
            && !self.node_addresses.contains(&address);
        Outcome::Passed { masqueraded: network.masquerade_egress && leaves }
    }

    fn find(&self, packet: &Packet, has: impl Fn(&PlannedService) -> bool) -> Option<&PlannedService> {
        let same = |(name, service): &(&ServiceName, &PlannedService)| {
            name.protocol == packet.protocol && service.port == packet.destination.port() && has(service)
        };
        self.rules.services.iter().find(same).map(|(_, service)| service)
    }

    fn external(&self, service: &PlannedService, packet: &Packet) -> Outcome {
        if !service.keep_source {
            return outcome(&service.external, packet, true);
        }
        let own = self.node_addresses.contains(&packet.source);
        if own || self.rules.network.is_pod(packet.source) {
            return outcome(&service.short_circuit, packet, own);
        }
        outcome(&service.external, packet, false)
    }
}

fn guarded(service: &PlannedService, packet: &Packet) -> bool {
    service.guarded.as_ref().is_some_and(|(addresses, ranges)| {
        addresses.contains(&packet.destination.ip())
            && !ranges.iter().any(|range| range.contains(&packet.source))
    })
}

fn outcome(targets: &Targets, packet: &Packet, masquerade: bool) -> Outcome {
    match targets {
        Targets::Reject => Outcome::Rejected,
        Targets::Drop => Outcome::Dropped,
        Targets::Endpoints(endpoints) => Outcome::Translated(
            endpoints
                .iter()
                .map(|endpoint| Target {
                    endpoint: *endpoint,
                    // A pod that reaches itself must see another source, or it would answer itself directly.
                    masqueraded: masquerade || endpoint.ip() == packet.source,
                })
                .collect(),
        ),
    }
}

impl Dataplane for Evaluator {
    fn apply(&mut self, rules: &RuleSet) -> Result<(), Error> {
        self.rules = rules.clone();
        Ok(())
    }

    fn is_whole(&mut self) -> Result<bool, Error> {
        Ok(true)
    }

    fn observe(&mut self) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        for (name, service) in &self.rules.services {
            let mut add = |addresses: &[IpAddr], targets: &Targets, routed: bool| {
                let keys = addresses.iter().map(|address| (*address, name.protocol, service.port));
                if routed {
                    observed.served.extend(keys.clone());
                }
                if !matches!(targets, Targets::Endpoints(_)) {
                    observed.refused.extend(keys);
                }
            };
            add(&service.cluster_ips, &service.internal, matches!(service.internal, Targets::Endpoints(_)));
            let external = !matches!(service.short_circuit, Targets::Reject);
            add(&service.external_ips, &service.external, external);
            if external {
                observed.node_ports.extend(service.node_port.map(|port| (name.protocol, port)));
            }
        }
        Ok(observed)
    }

    fn remove(&mut self) -> Result<(), Error> {
        self.rules = RuleSet::default();
        Ok(())
    }
}
