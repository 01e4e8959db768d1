//! Ports of the node that lead to ports of pods: one nftables table, apart from the services', whose maps are the only memory of
//! who has which port. So a restart has nothing to bring back, and a port is given back by the pod's address alone.
//!
//! Programs on the node reach such a port on loopback too: the bridge may then route packets that come from a loopback address, and a
//! rule of the same table keeps pods from sending to one.

use crate::proxy::Protocol;
use crate::proxy::expressions::{self as exprs, Version};
use nauplius_link::conntrack::{Conntrack, Flow, UDP};
use nauplius_link::nft::{
    Batch, Chain, ChainKind, Element, Expr, Family, FibResult, Field, Hook, Key, ListedElement, MapData,
    MetaKey, NatKind, Nft, Reg, Rule, Set, SetRef, Table, Verdict, fib_flag, route_type,
};
use nauplius_link::sysctl;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

const R0: Reg = Reg::word(0);
/// Ports of one address of the node.
const BY_ADDRESS: &str = "by-address";
/// Ports of all addresses of the node.
const BY_PORT: &str = "by-port";
/// Pods with ports, each twice: a connection of one to itself.
const HAIRPIN: &str = "hairpin";
const TO_PODS: &str = "to-pods";
const V4: Version = Version { ipv6: false };
/// Is there where the kernel tracks SCTP connections.
const SCTP_TRACKING: &str = "/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established";

/// A port of the node that leads to a port of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The node's address; all of them when none is named.
    pub host_ip: Option<IpAddr>,
    /// The node's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
}

impl HostPort {
    /// The address that it is for, when not for all.
    fn address(&self) -> Option<IpAddr> {
        self.host_ip.filter(|address| !address.is_unspecified())
    }

    fn place(&self) -> (&'static str, Key) {
        let number = self.protocol.number();
        match self.address() {
            Some(address) => (BY_ADDRESS, Key::new().ip(address).proto(number).port(self.host_port)),
            None => (BY_PORT, Key::new().proto(number).port(self.host_port)),
        }
    }

    /// Whether a flow was sent to it.
    fn is_of(&self, flow: &Flow) -> bool {
        let to = flow.original.destination;
        flow.protocol == self.protocol.number()
            && to.port() == self.host_port
            && self.address().is_none_or(|address| address == to.ip())
    }
}

/// Why a pod does not get its ports.
#[derive(Debug, thiserror::Error)]
pub enum HostPortError {
    /// The kernel refused.
    #[error(transparent)]
    Link(#[from] nauplius_link::Error),
    /// Another pod has it.
    #[error("host port {port}/{protocol} is taken by the pod at {pod}")]
    Taken {
        /// The port.
        port: u16,
        /// Its protocol.
        protocol: &'static str,
        /// Who has it.
        pod: IpAddr,
    },
    /// SCTP needs a kernel that tracks its connections.
    #[error("host port {0}/SCTP: this kernel does not track SCTP connections (nf_conntrack has no SCTP)")]
    NoSctp(u16),
    /// The pod network of this node is IPv4.
    #[error("host port {0}: its host IP {1} is of another family than the pod")]
    Family(u16, IpAddr),
}

/// Everything that is there, as the kernel tells it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed(Vec<(&'static str, Key, SocketAddr)>);

/// The host ports of one node.
pub struct HostPorts {
    nft: Nft,
    conntrack: Conntrack,
    table: Table,
    bridge: String,
}

impl HostPorts {
    /// For the calling thread's network namespace. `table` carries the cluster's name; `bridge` is the pods' bridge.
    ///
    /// # Errors
    /// The kernel's sockets cannot be opened.
    pub fn open(table: &str, bridge: &str) -> nauplius_link::Result<Self> {
        let table = Table::new(Family::Ip, table);
        Ok(Self { nft: Nft::open()?, conntrack: Conntrack::open()?, table, bridge: bridge.to_owned() })
    }

    /// Leads the ports to the pod at `pod`, in place of those that it had.
    ///
    /// # Errors
    /// Another pod has one of them, or the kernel refuses; then the pod has none of them.
    pub fn add(&mut self, pod: IpAddr, ports: &[HostPort]) -> Result<(), HostPortError> {
        check(ports, Path::new(SCTP_TRACKING).exists())?;
        let there = self.is_there()?;
        let listed = if there { self.list()? } else { Listed::default() };
        taken(&listed, pod, ports)?;
        let mut batch = Batch::new(self.table.clone());
        if !there {
            frame(&mut batch, &self.bridge);
        }
        listed.take_out(&mut batch, pod);
        put_in(&mut batch, pod, ports);
        batch.commit(&mut self.nft).map_err(nauplius_link::Error::from)?;
        if !there {
            self.route_loopback(true)?;
        }
        // Flows of before go past the rules until they are forgotten; others end by themselves.
        let stale = |flow: &Flow| {
            flow.protocol == UDP
                && ports.iter().any(|port| {
                    port.is_of(flow) && flow.reply.source != SocketAddr::new(pod, port.container_port)
                })
        };
        if ports.iter().any(|port| port.protocol == Protocol::Udp) {
            self.conntrack.delete(false, stale)?;
        }
        Ok(())
    }

    /// Gives a bridge that was made anew the setting that its forerunner had.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mend(&mut self) -> nauplius_link::Result<()> {
        if self.is_there()? { self.route_loopback(true) } else { Ok(()) }
    }

    /// Gives back the ports of the pod at `pod`. With the last port everything goes.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&mut self, pod: IpAddr) -> nauplius_link::Result<()> {
        if !self.is_there()? {
            return Ok(());
        }
        let listed = self.list()?;
        let ours = listed.of(pod).count();
        if ours == 0 {
            return Ok(());
        }
        if ours == listed.0.len() {
            self.route_loopback(false)?;
            self.nft.delete_table(&self.table)?;
        } else {
            let mut batch = Batch::new(self.table.clone());
            listed.take_out(&mut batch, pod);
            batch.commit(&mut self.nft)?;
        }
        let ports: Vec<SocketAddr> = listed.of(pod).map(|(_, _, endpoint)| *endpoint).collect();
        let stale = |flow: &Flow| flow.protocol == UDP && ports.contains(&flow.reply.source);
        self.conntrack.delete(false, stale).map(drop)
    }

    /// Takes everything away; that nothing is there is fine.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete(&mut self) -> nauplius_link::Result<()> {
        self.nft.delete_table(&self.table)
    }

    fn is_there(&mut self) -> nauplius_link::Result<bool> {
        Ok(self.nft.tables()?.contains(&self.table))
    }

    fn list(&mut self) -> nauplius_link::Result<Listed> {
        let mut all = Vec::new();
        for map in [BY_ADDRESS, BY_PORT] {
            let elements = self.nft.elements(&self.table, map)?;
            all.extend(elements.iter().filter_map(|element| read(map, element)));
        }
        Ok(Listed(all))
    }

    fn route_loopback(&self, on: bool) -> nauplius_link::Result<()> {
        let key = format!("net/ipv4/conf/{}/route_localnet", self.bridge);
        match sysctl::write(&key, if on { "1" } else { "0" }) {
            // The bridge is gone, and its setting with it.
            Err(error) if !on && error.is_not_found() => Ok(()),
            other => other,
        }
    }
}

fn check(ports: &[HostPort], tracks_sctp: bool) -> Result<(), HostPortError> {
    for port in ports {
        if port.protocol == Protocol::Sctp && !tracks_sctp {
            return Err(HostPortError::NoSctp(port.host_port));
        }
        if let Some(address) = port.address().filter(IpAddr::is_ipv6) {
            return Err(HostPortError::Family(port.host_port, address));
        }
    }
    Ok(())
}

fn taken(listed: &Listed, pod: IpAddr, ports: &[HostPort]) -> Result<(), HostPortError> {
    for port in ports {
        let (map, key) = port.place();
        let other = listed.0.iter().find(|(m, k, to)| *m == map && *k == key && to.ip() != pod);
        if let Some((_, _, to)) = other {
            let protocol = match port.protocol {
                Protocol::Tcp => "TCP",
                Protocol::Udp => "UDP",
                Protocol::Sctp => "SCTP",
            };
            return Err(HostPortError::Taken { port: port.host_port, protocol, pod: to.ip() });
        }
    }
    Ok(())
}

impl Listed {
    fn of(&self, pod: IpAddr) -> impl Iterator<Item = &(&'static str, Key, SocketAddr)> {
        self.0.iter().filter(move |(_, _, to)| to.ip() == pod)
    }

    fn take_out(&self, batch: &mut Batch, pod: IpAddr) {
        for set in maps() {
            let own = self.of(pod).filter(|(map, ..)| *map == set.name);
            let elements: Vec<Element> = own.map(|(_, key, _)| Element::new(key.clone())).collect();
            if !elements.is_empty() {
                batch.delete_elements(&set, &elements);
            }
        }
        if self.of(pod).next().is_some() {
            batch.delete_elements(&hairpin(), &[Element::new(Key::new().ip(pod).ip(pod))]);
        }
    }
}

fn put_in(batch: &mut Batch, pod: IpAddr, ports: &[HostPort]) {
    for set in maps() {
        let own = ports.iter().filter(|port| port.place().0 == set.name);
        let to = |port: &HostPort| Key::new().ip(pod).port(port.container_port);
        let elements: Vec<Element> = own.map(|port| Element::value(port.place().1, to(port))).collect();
        if !elements.is_empty() {
            batch.add_elements(&set, &elements);
        }
    }
    batch.add_elements(&hairpin(), &[Element::new(Key::new().ip(pod).ip(pod))]);
}

fn read(map: &'static str, element: &ListedElement) -> Option<(&'static str, Key, SocketAddr)> {
    let value = element.value.as_ref()?.bytes();
    let address: [u8; 4] = value.get(..4)?.try_into().ok()?; // Four bytes are four bytes.
    let port = u16::from_be_bytes([*value.get(4)?, *value.get(5)?]);
    // Every key ends in a port, which the kernel pads and we do not.
    let key = Key::from_bytes(element.key.bytes().split_last_chunk::<2>()?.0);
    Some((map, key, SocketAddr::new(Ipv4Addr::from(address).into(), port)))
}

fn maps() -> [Set; 2] {
    let endpoint = || MapData::Fields(vec![Field::Ipv4, Field::Port]);
    [
        Set::map(BY_ADDRESS, [Field::Ipv4, Field::Proto, Field::Port], endpoint()),
        Set::map(BY_PORT, [Field::Proto, Field::Port], endpoint()),
    ]
}

fn hairpin() -> Set {
    Set::new(HAIRPIN, [Field::Ipv4, Field::Ipv4])
}

/// The table with its maps, still empty, and its chains.
fn frame(batch: &mut Batch, bridge: &str) {
    batch.add_table();
    maps().iter().chain([&hairpin()]).for_each(|set| batch.add_set(set));
    let chains = chains(bridge);
    chains.iter().for_each(|(chain, _)| batch.add_chain(chain));
    for (chain, rules) in &chains {
        rules.iter().for_each(|rule| batch.add_rule(&chain.name, rule));
    }
}

fn loopback() -> ipnet::IpNet {
    ipnet::IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8))
}

fn chains(bridge: &str) -> Vec<(Chain, Vec<Rule>)> {
    let jump = || vec![Rule::new([Expr::jump(TO_PODS)])];
    let nat = |name, hook| Chain::base(name, ChainKind::Nat, hook, -99);
    vec![
        (Chain::regular(TO_PODS), to_pods()),
        (Chain::base("guard", ChainKind::Filter, Hook::Prerouting, -300), vec![guard(bridge)]),
        (nat("nat-prerouting", Hook::Prerouting), jump()),
        (nat("nat-output", Hook::Output), jump()),
        (Chain::base("nat-postrouting", ChainKind::Nat, Hook::Postrouting, 101), postrouting()),
    ]
}

/// A port of one address goes before the same port of all.
fn to_pods() -> Vec<Rule> {
    let nat = || Expr::Nat {
        kind: NatKind::Destination,
        ipv6: false,
        address: Some(R0),
        port: Some(R0.after(1)),
        flags: 0,
    };
    let found = |map: &str| Expr::Lookup {
        set: SetRef::Named(map.to_owned()),
        sreg: R0,
        dreg: Some(R0),
        inverted: false,
    };
    let mut by_address = V4.load_service().to_vec();
    by_address.extend([found(BY_ADDRESS), nat()]);
    let mut by_port = vec![
        Expr::Fib { dreg: R0, result: FibResult::AddressType, flags: fib_flag::DADDR },
        Expr::equal(R0, route_type::LOCAL.to_ne_bytes()),
    ];
    by_port.extend(exprs::load_node_port());
    by_port.extend([found(BY_PORT), nat()]);
    vec![Rule::new(by_address), Rule::new(by_port)]
}

/// The bridge routes loopback addresses for the node's own sake: what comes in by it may not use that.
fn guard(bridge: &str) -> Rule {
    let mut name = bridge.as_bytes().to_vec();
    name.resize(16, 0);
    let mut rule = vec![Expr::Meta { key: MetaKey::IifName, dreg: R0 }, Expr::equal(R0, name)];
    rule.extend(V4.destination_in(loopback()));
    rule.push(Expr::Verdict(Verdict::Drop));
    Rule::new(rule).comment("pods may not send to the node's loopback")
}

/// Whom a pod could not answer takes the node's address: loopback, and the pod itself.
fn postrouting() -> Vec<Rule> {
    let mut own = V4.source_in(loopback(), true);
    own.extend(V4.outside(loopback()));
    own.push(exprs::masquerade());
    let to_itself =
        vec![V4.source(R0), V4.destination(R0.after(1)), exprs::known_in(HAIRPIN), exprs::masquerade()];
    vec![Rule::new(own), Rule::new(to_itself)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: Protocol, host_ip: Option<&str>, host_port: u16) -> HostPort {
        let host_ip = host_ip.map(|text| text.parse().unwrap());
        HostPort { protocol, host_ip, host_port, container_port: 80 }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let sctp = [port(Protocol::Sctp, None, 9)];
        assert!(matches!(check(&sctp, false), Err(HostPortError::NoSctp(9))));
        assert!(check(&sctp, true).is_ok());
        assert!(check(&[port(Protocol::Tcp, Some("::"), 9)], false).is_ok(), "all addresses are all");
        assert!(matches!(
            check(&[port(Protocol::Tcp, Some("fd00::1"), 9)], false),
            Err(HostPortError::Family(9, _))
        ));
    }

    #[test]
    fn a_port_is_one_pods() {
        let [one, other]: [IpAddr; 2] = [[10, 244, 0, 2].into(), [10, 244, 0, 3].into()];
        let (map, key) = port(Protocol::Tcp, None, 80).place();
        let listed = Listed(vec![(map, key, SocketAddr::new(one, 80))]);
        for (pod, asked, free) in [
            (other, port(Protocol::Tcp, None, 80), false),
            (one, port(Protocol::Tcp, None, 80), true),
            (other, port(Protocol::Udp, None, 80), true),
            (other, port(Protocol::Tcp, Some("192.0.2.1"), 80), true),
            (other, port(Protocol::Tcp, Some("0.0.0.0"), 80), false),
            (other, port(Protocol::Tcp, None, 81), true),
        ] {
            assert_eq!(taken(&listed, pod, std::slice::from_ref(&asked)).is_ok(), free, "{asked:?}");
        }
    }
}
