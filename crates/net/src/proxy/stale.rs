//! Which tracked UDP flows must be forgotten after a change: they would go on to an endpoint that is no longer behind their
//! service. TCP needs none of this: its connections end by themselves.

use super::ruleset::{PlannedService, RuleSet};
use super::service::Protocol;
use nauplius_link::conntrack::{Flow, UDP};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

/// Flows to the services that changed, unless they go to one of the endpoints that are there now.
#[derive(Debug, Default)]
pub(super) struct StaleFlows {
    addresses: HashMap<SocketAddr, BTreeSet<SocketAddr>>,
    node_ports: HashMap<u16, BTreeSet<SocketAddr>>,
}

impl StaleFlows {
    /// From one rule set to the next; from nothing when we just started and cannot know what was before.
    pub fn between(old: Option<&RuleSet>, new: &RuleSet) -> Self {
        let mut stale = Self::default();
        let is_udp = |protocol| protocol == Protocol::Udp;
        for (name, service) in new.services.iter().filter(|(name, _)| is_udp(name.protocol)) {
            let before = old.map(|old| old.services.get(name));
            if before.is_none_or(|before| needs_cleaning(before, service)) {
                stale.add(service, &service.endpoints());
            }
        }
        let gone = old.into_iter().flat_map(|old| &old.services);
        for (_, service) in
            gone.filter(|(name, _)| is_udp(name.protocol) && !new.services.contains_key(*name))
        {
            stale.add(service, &BTreeSet::new());
        }
        stale
    }

    fn add(&mut self, service: &PlannedService, endpoints: &BTreeSet<SocketAddr>) {
        for address in service.cluster_ips.iter().chain(&service.external_ips) {
            self.addresses.insert(SocketAddr::new(*address, service.port), endpoints.clone());
        }
        if let Some(port) = service.node_port {
            self.node_ports.insert(port, endpoints.clone());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.node_ports.is_empty()
    }

    pub fn contains(&self, flow: &Flow) -> bool {
        let (to, really) = (flow.original.destination, flow.reply.source);
        if flow.protocol != UDP {
            return false;
        }
        match self.addresses.get(&to) {
            Some(endpoints) => !endpoints.contains(&really),
            // A node port is any of our addresses; a flow that was never translated is somebody else's.
            None => {
                really != to && self.node_ports.get(&to.port()).is_some_and(|list| !list.contains(&really))
            }
        }
    }
}

/// Endpoints went away, or there are some where flows went past the service before.
fn needs_cleaning(before: Option<&PlannedService>, now: &PlannedService) -> bool {
    let (old, new) = (before.map(PlannedService::endpoints).unwrap_or_default(), now.endpoints());
    !old.is_subset(&new) || (old.is_empty() && !new.is_empty())
}
