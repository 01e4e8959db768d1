//! The zone: every name of the cluster, as an immutable snapshot built from plain records of services and endpoints. It
//! knows no API objects and no messages.

use super::wire::Name;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A port of a service or endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRecord {
    /// Its name; may be empty.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its number.
    pub port: u16,
}

/// What a service's name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// Its own addresses.
    ClusterIp(Vec<IpAddr>),
    /// Its endpoints.
    Headless,
    /// Another name.
    ExternalName(String),
}

/// An endpoint that wants traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRecord {
    /// Its address.
    pub address: IpAddr,
    /// Its own name; the address with dashes when it has none.
    pub hostname: Option<String>,
    /// Its ports; may be empty.
    pub ports: Vec<PortRecord>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What its name leads to.
    pub kind: ServiceKind,
    /// Its ports.
    pub ports: Vec<PortRecord>,
    /// Its endpoints that are ready.
    pub endpoints: Vec<EndpointRecord>,
}

/// What a zone is, besides its services.
#[derive(Debug, Clone)]
pub struct ZoneSpec {
    /// `cluster.local`
    pub domain: String,
    /// How long answers may be kept, in seconds.
    pub ttl: u32,
    /// The DNS service's own addresses: the zone's name server.
    pub server_addresses: Vec<IpAddr>,
}

impl Default for ZoneSpec {
    fn default() -> Self {
        Self { domain: "cluster.local".into(), ttl: 5, server_addresses: Vec::new() }
    }
}

pub(super) struct Endpoint {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<PortRecord>,
}

pub(super) struct Service {
    pub name: String,
    pub namespace: String,
    pub kind: ServiceKind,
    pub ports: Vec<PortRecord>,
    pub endpoints: Vec<Endpoint>,
}

/// Every name of the cluster at one moment.
pub struct Zone {
    pub(super) domain: String,
    pub(super) ttl: u32,
    pub(super) serial: u32,
    pub(super) server_addresses: Vec<IpAddr>,
    labels: Vec<String>,
    namespaces: HashMap<String, HashMap<String, Service>>,
    reverse: HashMap<IpAddr, Vec<String>>,
    ready: bool,
}

/// What a name of the zone is.
pub(super) enum Node<'a> {
    /// There is no such name.
    Missing,
    /// There are only names below it.
    Empty,
    Apex,
    Version,
    NameServer,
    Pod(IpAddr),
    Service(Selection<'a>),
}

/// A service, as far as the name asks for it.
#[derive(Clone, Copy)]
pub(super) struct Selection<'a> {
    pub service: &'a Service,
    pub endpoint: Option<&'a str>,
    pub port: Option<(&'a str, &'a str)>,
}

impl Zone {
    /// A zone that is not known yet: its names fail, and everything else is answered.
    pub fn unready(spec: &ZoneSpec) -> Self {
        Self { ready: false, ..Self::build(spec, 0, [], []) }
    }

    /// The zone of these namespaces and services. `serial` grows with each change.
    pub fn build(
        spec: &ZoneSpec,
        serial: u32,
        namespaces: impl IntoIterator<Item = String>,
        services: impl IntoIterator<Item = ServiceRecord>,
    ) -> Self {
        let domain = spec.domain.trim_end_matches('.').to_ascii_lowercase();
        let mut zone = Self {
            labels: domain.split('.').map(str::to_owned).collect(),
            ttl: spec.ttl,
            serial,
            server_addresses: spec.server_addresses.clone(),
            namespaces: namespaces.into_iter().map(|name| (name, HashMap::new())).collect(),
            reverse: HashMap::new(),
            ready: true,
            domain,
        };
        services.into_iter().for_each(|service| zone.add(service));
        zone.reverse.values_mut().for_each(|names| names.sort());
        zone
    }

    /// Whether it was built from what the API server knows.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    fn add(&mut self, record: ServiceRecord) {
        // A CNAME to an address is none; upstream leaves the name out too.
        if matches!(&record.kind, ServiceKind::ExternalName(target) if target.parse::<IpAddr>().is_ok() || Name::from_text(target).is_none())
        {
            return;
        }
        let own = format!("{}.{}.svc.{}", record.name, record.namespace, self.domain);
        if let ServiceKind::ClusterIp(addresses) = &record.kind {
            for address in addresses {
                self.reverse.entry(*address).or_default().insert(0, own.clone());
            }
        }
        let endpoints = group(record.endpoints);
        for endpoint in &endpoints {
            for address in &endpoint.addresses {
                let names = self.reverse.entry(*address).or_default();
                names.push(format!("{}.{own}", endpoint.name));
            }
        }
        let (name, namespace) = (record.name.clone(), record.namespace.clone());
        let service = Service {
            name: record.name,
            namespace: record.namespace,
            kind: record.kind,
            ports: record.ports,
            endpoints,
        };
        self.namespaces.entry(namespace).or_default().insert(name, service);
    }

    /// The labels of `name` in front of the zone's own; None if it is in another zone.
    pub(super) fn relative<'n>(&self, name: &'n Name) -> Option<Vec<&'n str>> {
        let labels: Option<Vec<&str>> = name.labels().map(|label| std::str::from_utf8(label).ok()).collect();
        let in_zone = || {
            let theirs = name.labels().count();
            let own = self.labels.iter().map(String::as_bytes);
            theirs >= self.labels.len() && own.eq(name.labels().skip(theirs - self.labels.len()))
        };
        match labels {
            Some(mut labels) if in_zone() => {
                labels.truncate(labels.len() - self.labels.len());
                Some(labels)
            }
            // A name that is no text is no name of ours, but it is still in our zone.
            None if in_zone() => Some(vec!["\u{0}"]),
            _ => None,
        }
    }

    /// What stands at these labels in front of the zone's own.
    pub(super) fn find<'a>(&'a self, labels: &[&'a str]) -> Node<'a> {
        match labels {
            [] => Node::Apex,
            ["svc" | "pod" | "dns"] => Node::Empty,
            ["dns-version"] => Node::Version,
            ["ns", "dns"] => Node::NameServer,
            [rest @ .., namespace, kind @ ("svc" | "pod")] => match self.namespaces.get(*namespace) {
                None => Node::Missing,
                Some(_) if rest.is_empty() => Node::Empty,
                Some(_) if *kind == "pod" => pod(rest),
                Some(services) => service(services, rest),
            },
            _ => Node::Missing,
        }
    }

    /// The names of an address.
    pub(super) fn names_of(&self, address: IpAddr) -> &[String] {
        self.reverse.get(&address).map_or(&[], Vec::as_slice)
    }
}

fn pod<'a>(labels: &[&str]) -> Node<'a> {
    let [name] = labels else { return Node::Missing };
    let dotted = name.bytes().filter(|byte| *byte == b'-').count() == 3 && !name.contains("--");
    let address = if dotted { name.replace('-', ".") } else { name.replace('-', ":") };
    address.parse().map_or(Node::Missing, Node::Pod)
}

fn service<'a>(services: &'a HashMap<String, Service>, labels: &[&'a str]) -> Node<'a> {
    let Some((name, rest)) = labels.split_last() else { return Node::Empty };
    let Some(service) = services.get(*name) else { return Node::Missing };
    let bare = |label: &'a str| label.strip_prefix('_').unwrap_or(label);
    let selection = match rest {
        [] => Selection { service, endpoint: None, port: None },
        [endpoint] => Selection { service, endpoint: Some(*endpoint), port: None },
        [port, protocol] => Selection { service, endpoint: None, port: Some((bare(port), bare(protocol))) },
        _ => return Node::Missing,
    };
    if selection.is_empty() { Node::Missing } else { Node::Service(selection) }
}

impl<'a> Selection<'a> {
    fn is_empty(&self) -> bool {
        match &self.service.kind {
            ServiceKind::ExternalName(_) => self.endpoint.is_some(),
            _ if self.endpoint.is_some() => self.endpoints().next().is_none(),
            ServiceKind::Headless => self.endpoints().next().is_none(),
            ServiceKind::ClusterIp(_) => {
                self.ports(&self.service.ports).next().is_none() && self.port.is_some()
            }
        }
    }

    /// The service's own addresses, where the name means them.
    pub fn cluster_addresses(&self) -> Option<&'a [IpAddr]> {
        match &self.service.kind {
            ServiceKind::ClusterIp(addresses) if self.endpoint.is_none() => Some(addresses),
            _ => None,
        }
    }

    /// The endpoints that the name means.
    pub fn endpoints(&self) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
        let Selection { service, endpoint, port } = *self;
        service.endpoints.iter().filter(move |candidate| {
            endpoint.is_none_or(|name| name == candidate.name)
                && (port.is_none() || candidate.ports.iter().any(|candidate| fits(candidate, port)))
        })
    }

    /// The ports that the name means, of these.
    pub fn ports(&self, ports: &'a [PortRecord]) -> impl Iterator<Item = &'a PortRecord> + use<'a> {
        let wanted = self.port;
        ports.iter().filter(move |port| fits(port, wanted))
    }
}

fn fits(port: &PortRecord, wanted: Option<(&str, &str)>) -> bool {
    wanted.is_none_or(|(name, protocol)| {
        port.name.eq_ignore_ascii_case(name) && port.protocol.eq_ignore_ascii_case(protocol)
    })
}

/// Endpoints with the same name are one with several addresses.
fn group(records: Vec<EndpointRecord>) -> Vec<Endpoint> {
    let mut grouped: BTreeMap<String, Endpoint> = BTreeMap::new();
    let mut seen = HashSet::new();
    for record in records {
        let name = record.hostname.map_or_else(|| dashed(record.address), |name| name.to_ascii_lowercase());
        let fresh = seen.insert((name.clone(), record.address));
        let endpoint = grouped.entry(name.clone()).or_insert_with(|| Endpoint {
            name,
            addresses: Vec::new(),
            ports: Vec::new(),
        });
        if fresh {
            endpoint.addresses.push(record.address);
        }
        for port in record.ports {
            if !endpoint.ports.contains(&port) {
                endpoint.ports.push(port);
            }
        }
    }
    grouped.into_values().collect()
}

fn dashed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string().replace('.', "-"),
        IpAddr::V6(v6) => v6.to_string().replace(':', "-"),
    }
}

/// The address in a reverse name.
pub(super) fn reverse_address(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&[u8]> = name.labels().collect();
    match labels.as_slice() {
        [d, c, b, a, b"in-addr", b"arpa"] => {
            let octet = |label: &[u8]| std::str::from_utf8(label).ok()?.parse().ok();
            Some(Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?).into())
        }
        [nibbles @ .., b"ip6", b"arpa"] if nibbles.len() == 32 => {
            let digit = |label: &&[u8]| match label {
                [byte] => char::from(*byte).to_digit(16),
                _ => None,
            };
            let bits = nibbles
                .iter()
                .rev()
                .try_fold(0u128, |bits, label| Some(bits << 4 | u128::from(digit(label)?)));
            Some(Ipv6Addr::from_bits(bits?).into())
        }
        _ => None,
    }
}
