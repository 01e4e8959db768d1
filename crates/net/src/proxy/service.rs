//! A port of a service and the endpoints behind it, as the dataplane needs them: plain data, whatever it was read from.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// A layer 4 protocol that services have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// From its number in an IP header.
    pub fn of_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.number() == number)
    }

    /// From the API's word; an absent one is TCP there.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "TCP" | "" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// In lower case, as in names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Which endpoints traffic may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficPolicy {
    /// All.
    #[default]
    Cluster,
    /// Those on this node.
    Local,
}

/// What a port of a service is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// The port's name; empty for an only port without one.
    pub port_name: String,
    /// Its protocol: the same port may be there for several.
    pub protocol: Protocol,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, port_name, protocol } = self;
        write!(formatter, "{namespace}/{name}/{}/{port_name}", protocol.word())
    }
}

/// An address behind a service, with its conditions as in an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// Wants new connections.
    pub ready: bool,
    /// Can take connections, even while it is terminating.
    pub serving: bool,
    /// Is about to end.
    pub terminating: bool,
    /// Is on this node.
    pub local: bool,
    /// Zones that it should serve; empty: no hint.
    pub zone_hints: Vec<String>,
    /// Nodes that it should serve; empty: no hint.
    pub node_hints: Vec<String>,
}

impl Endpoint {
    /// A ready endpoint on another node.
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Self {
            ip,
            port,
            ready: true,
            serving: true,
            terminating: false,
            local: false,
            zone_hints: Vec::new(),
            node_hints: Vec::new(),
        }
    }
}

/// A port of a service with everything that decides where its packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// What it is called.
    pub name: ServiceName,
    /// The service's own addresses.
    pub cluster_ips: Vec<IpAddr>,
    /// The port on them.
    pub port: u16,
    /// The port on every node.
    pub node_port: Option<u16>,
    /// Further addresses, routed here by somebody else.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of a load balancer that leaves them in the packets.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty: everyone.
    pub source_ranges: Vec<IpNet>,
    /// How long a client sticks to an endpoint (`ClientIP` affinity).
    pub affinity_seconds: Option<u32>,
    /// For traffic to the service's own addresses.
    pub internal_policy: TrafficPolicy,
    /// For traffic from outside.
    pub external_policy: TrafficPolicy,
    /// Where a load balancer asks whether this node has endpoints.
    pub health_check_node_port: Option<u16>,
    /// Everything behind it.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    /// A service with one address and nothing else.
    pub fn new(name: ServiceName, cluster_ip: IpAddr, port: u16) -> Self {
        Self {
            name,
            cluster_ips: vec![cluster_ip],
            port,
            node_port: None,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            affinity_seconds: None,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            health_check_node_port: None,
            endpoints: Vec::new(),
        }
    }

    /// Whether traffic from outside can reach it.
    pub fn is_external(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }
}
