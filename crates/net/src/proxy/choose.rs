//! Which endpoints a service port uses on this node. As upstream: ready ones near by if hints say so; if none is ready, those
//! that still serve while they terminate; for the Local policy only this node's.

use super::service::{Endpoint, ServicePort};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The endpoints of a service port, by who may use them. Each list is sorted and without repeats.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chosen {
    /// For the Cluster policy.
    pub cluster: Vec<SocketAddr>,
    /// For the Local policy.
    pub local: Vec<SocketAddr>,
    /// Ready endpoints on this node: what a health check answers with.
    pub local_ready: usize,
    /// Whether there is any endpoint to go to, anywhere.
    pub any: bool,
}

pub(super) fn choose(service: &ServicePort, node: &str, zone: &str) -> Chosen {
    let endpoints = &service.endpoints;
    let near = nearness(endpoints, node, zone);
    let usable = |endpoint: &&Endpoint| near.admits(endpoint, node, zone);
    let local: Vec<_> = endpoints.iter().filter(|endpoint| endpoint.local).collect();
    let cluster = ready_or_serving(endpoints.iter().filter(usable));
    let local_chosen = ready_or_serving(local.iter().copied());
    let any = !cluster.is_empty() || !ready_or_serving(endpoints.iter()).is_empty();
    let local_ready =
        local.iter().filter(|endpoint| endpoint.ready).map(|endpoint| endpoint.ip).collect::<BTreeSet<_>>();
    Chosen { cluster, local: local_chosen, local_ready: local_ready.len(), any }
}

fn ready_or_serving<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone) -> Vec<SocketAddr> {
    let address = |endpoint: &Endpoint| SocketAddr::new(endpoint.ip, endpoint.port);
    let ready: BTreeSet<_> = endpoints.clone().filter(|endpoint| endpoint.ready).map(address).collect();
    if !ready.is_empty() {
        return ready.into_iter().collect();
    }
    let serving = endpoints.filter(|endpoint| endpoint.serving && endpoint.terminating).map(address);
    serving.collect::<BTreeSet<_>>().into_iter().collect()
}

#[derive(Clone, Copy)]
enum Nearness {
    Anywhere,
    Zone,
    Node,
}

impl Nearness {
    fn admits(self, endpoint: &Endpoint, node: &str, zone: &str) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Zone => endpoint.zone_hints.iter().any(|hint| hint == zone),
            Self::Node => endpoint.node_hints.iter().any(|hint| hint == node),
        }
    }
}

/// Hints count only if every ready endpoint has them and one of them names us.
fn nearness(endpoints: &[Endpoint], node: &str, zone: &str) -> Nearness {
    let ready = || endpoints.iter().filter(|endpoint| endpoint.ready);
    if ready().next().is_none() {
        return Nearness::Anywhere;
    }
    if ready().all(|endpoint| !endpoint.node_hints.is_empty())
        && ready().any(|endpoint| Nearness::Node.admits(endpoint, node, zone))
    {
        return Nearness::Node;
    }
    let zoned = !zone.is_empty()
        && ready().all(|endpoint| !endpoint.zone_hints.is_empty())
        && ready().any(|endpoint| Nearness::Zone.admits(endpoint, node, zone));
    if zoned { Nearness::Zone } else { Nearness::Anywhere }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{Protocol, ServiceName};

    /// `1rl`: address 10.0.0.1, ready, local; `s` serving, `t` terminating; `@z` zone hint, `!n` node hint.
    fn endpoint(word: &str) -> Endpoint {
        let last = word.as_bytes()[0] - b'0';
        let flags = word.split(['@', '!']).next().unwrap();
        let hint = |mark| word.split_once(mark).map(|(_, hint)| vec![hint.to_owned()]).unwrap_or_default();
        Endpoint {
            ready: flags.contains('r'),
            serving: flags.contains('s') || flags.contains('r'),
            terminating: flags.contains('t'),
            local: flags.contains('l'),
            zone_hints: hint('@'),
            node_hints: hint('!'),
            ..Endpoint::new([10, 0, 0, last].into(), 80)
        }
    }

    fn check(endpoints: &str, cluster: &str, local: &str, any: bool) {
        let name = ServiceName {
            namespace: "ns".into(),
            name: "svc".into(),
            port_name: String::new(),
            protocol: Protocol::Tcp,
        };
        let mut service = ServicePort::new(name, [10, 96, 0, 1].into(), 80);
        service.endpoints = endpoints.split_whitespace().map(endpoint).collect();
        let chosen = choose(&service, "n", "z");
        let show = |list: &[SocketAddr]| {
            list.iter().map(|address| address.ip().to_string()[7..].to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            (show(&chosen.cluster).as_str(), show(&chosen.local).as_str(), chosen.any),
            (cluster, local, any),
            "{endpoints}"
        );
    }

    #[test]
    fn endpoints_are_chosen_as_upstream_does() {
        check("", "", "", false);
        check("1 2", "", "", false);
        check("1r 2rl 3", "1 2", "2", true);
        check("2r 1r 1r", "1 2", "", true);
        // None ready: those that still serve. One ready anywhere: no terminating one for the Cluster policy.
        check("1st 2stl 3t", "1 2", "2", true);
        check("1r 2stl", "1", "2", true);
        // Not ready and not terminating is never used.
        check("1s 2sl", "", "", false);
        // Hints count if all ready ones have them and one names us.
        check("1r@z 2r@y", "1", "", true);
        check("1r@y 2r@x", "1 2", "", true);
        check("1r@z 2r", "1 2", "", true);
        check("1r!n 2r!m", "1", "", true);
        check("1r@z 2r@y 3st", "1", "", true);
    }
}
