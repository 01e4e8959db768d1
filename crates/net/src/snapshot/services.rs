//! Services and EndpointSlices to service ports, for the dataplane. Pure.

use super::{EXTERNAL_NAME, NONE, Slices, addresses, conditions, port_number};
use crate::proxy::{Endpoint, Protocol, ServiceName, ServicePort, TrafficPolicy};
use nauplius_kinds::api::{core, discovery};
use nauplius_kinds::{EndpointSlice, Object, Service};
use std::net::IpAddr;
use std::sync::Arc;

/// Upstream's default for `ClientIP` affinity.
const AFFINITY_SECONDS: u32 = 10_800;

/// The ports of all services for one address family, on this node.
pub(crate) fn service_ports<'a>(
    services: impl Iterator<Item = &'a Arc<Service>>,
    slices: &Slices,
    node: &str,
    ipv6: bool,
) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    for service in services {
        let key = (service.namespace().to_owned(), service.name().to_owned());
        let behind = slices.get(&key).map(Vec::as_slice).unwrap_or_default();
        ports.extend(ports_of(service, behind, node, ipv6));
    }
    ports
}

fn ports_of(service: &Service, slices: &[Arc<EndpointSlice>], node: &str, ipv6: bool) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let cluster_ips = of_family(cluster_ips(spec), ipv6);
    if spec.type_.as_deref() == Some(EXTERNAL_NAME) || cluster_ips.is_empty() {
        return Vec::new();
    }
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or_default())?;
        let name = ServiceName {
            namespace: service.namespace().to_owned(),
            name: service.name().to_owned(),
            port_name: port.name.clone().unwrap_or_default(),
            protocol,
        };
        Some(ServicePort {
            endpoints: endpoints(&name, slices, node, ipv6),
            name,
            port: port_number(port.port)?,
            cluster_ips: cluster_ips.clone(),
            node_port: port.node_port.and_then(port_number),
            external_ips: of_family(addresses(spec.external_ips.as_ref()), ipv6),
            load_balancer_ips: of_family(load_balancer_ips(service), ipv6),
            source_ranges: source_ranges(spec),
            affinity_seconds: affinity(spec),
            internal_policy: policy(spec.internal_traffic_policy.as_deref()),
            external_policy: policy(spec.external_traffic_policy.as_deref()),
            health_check_node_port: spec.health_check_node_port.and_then(port_number),
        })
    });
    ports.collect()
}

pub(super) fn cluster_ips(spec: &core::ServiceSpec) -> Vec<IpAddr> {
    let all = addresses(spec.cluster_ips.as_ref());
    if !all.is_empty() {
        return all;
    }
    spec.cluster_ip.iter().filter(|word| *word != NONE).filter_map(|word| word.parse().ok()).collect()
}

fn of_family(mut addresses: Vec<IpAddr>, ipv6: bool) -> Vec<IpAddr> {
    addresses.retain(|address| address.is_ipv6() == ipv6);
    addresses
}

/// Addresses of a load balancer that answers for itself are not ours to serve.
fn load_balancer_ips(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let ours = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    ours.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

fn source_ranges(spec: &core::ServiceSpec) -> Vec<ipnet::IpNet> {
    let words = spec.load_balancer_source_ranges.iter().flatten();
    words.filter_map(|word| word.trim().parse().ok()).collect()
}

fn affinity(spec: &core::ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds =
        config.and_then(|config| config.timeout_seconds).and_then(|seconds| u32::try_from(seconds).ok());
    Some(seconds.filter(|seconds| *seconds > 0).unwrap_or(AFFINITY_SECONDS))
}

fn policy(word: Option<&str>) -> TrafficPolicy {
    if word == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

fn endpoints(name: &ServiceName, slices: &[Arc<EndpointSlice>], node: &str, ipv6: bool) -> Vec<Endpoint> {
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    let mut found = Vec::new();
    for slice in slices.iter().filter(|slice| slice.address_type == family) {
        let same = |port: &&discovery::EndpointPort| {
            port.name.as_deref().unwrap_or_default() == name.port_name
                && Protocol::parse(port.protocol.as_deref().unwrap_or_default()) == Some(name.protocol)
        };
        let port = slice.ports.iter().flatten().find(same).and_then(|port| port_number(port.port?));
        let Some(port) = port else { continue };
        found.extend(slice.endpoints.iter().flatten().filter_map(|from| endpoint(from, port, node)));
    }
    found
}

fn endpoint(from: &discovery::Endpoint, port: u16, node: &str) -> Option<Endpoint> {
    let conditions = conditions(from);
    let hints = from.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_ref()).into_iter().flatten();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref()).into_iter().flatten();
    Some(Endpoint {
        // All addresses of one endpoint are the same place; the first one is used, as upstream does.
        ip: from.addresses.first()?.parse().ok()?,
        port,
        ready: conditions.ready,
        serving: conditions.serving,
        terminating: conditions.terminating,
        local: from.node_name.as_deref() == Some(node),
        zone_hints: zones.map(|zone| zone.name.clone()).collect(),
        node_hints: nodes.map(|node| node.name.clone()).collect(),
    })
}
