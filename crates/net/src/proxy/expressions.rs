//! The few expression sequences that the rules are built from, for either address family. Register 0 and those behind it
//! are scratch.

use ipnet::IpNet;
use nauplius_link::nft::{
    CtKey, Expr, FibResult, Field, Key, MapData, MetaKey, NatKind, Numgen, PayloadBase, Reg, SetRef, Verdict,
    ct_state, fib_flag, nat_flag, route_type,
};
use nauplius_link::nft::{Element, Rule};
use std::net::{IpAddr, SocketAddr};

const R0: Reg = Reg::word(0);

/// The mark of packets whose source is to become this node's address; upstream's bit.
pub(crate) const MASQUERADE_MARK: u32 = 0x4000;

/// An address family, as far as rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub ipv6: bool,
}

impl Version {
    pub fn field(self) -> Field {
        if self.ipv6 { Field::Ipv6 } else { Field::Ipv4 }
    }

    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv6() == self.ipv6
    }

    /// Registers that an address takes.
    fn words(self) -> u32 {
        self.field().len() / 4
    }

    fn address(self, v4_offset: u32, v6_offset: u32, dreg: Reg) -> Expr {
        let offset = if self.ipv6 { v6_offset } else { v4_offset };
        Expr::Payload { base: PayloadBase::Network, offset, len: self.field().len(), dreg }
    }

    pub fn source(self, dreg: Reg) -> Expr {
        self.address(12, 8, dreg)
    }

    pub fn destination(self, dreg: Reg) -> Expr {
        self.address(16, 24, dreg)
    }

    /// Loads destination, protocol and port: the key of maps of addresses.
    pub fn load_service(self) -> [Expr; 3] {
        let after = R0.after(self.words());
        [
            self.destination(R0),
            Expr::Meta { key: MetaKey::L4Proto, dreg: after },
            Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dreg: after.after(1) },
        ]
    }

    /// Goes on if the destination is one of this machine's addresses, but not a loopback one.
    pub fn on_this_node(self) -> Vec<Expr> {
        let mut exprs = vec![Expr::Fib { dreg: R0, result: FibResult::AddressType, flags: fib_flag::DADDR }];
        exprs.push(Expr::equal(R0, route_type::LOCAL.to_ne_bytes()));
        let loopback: IpNet = if self.ipv6 {
            IpAddr::V6(std::net::Ipv6Addr::LOCALHOST).into()
        } else {
            IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8))
        };
        exprs.extend(self.in_range(self.destination(R0), loopback, false));
        exprs
    }

    /// Goes on if the source is one of this machine's addresses.
    pub fn sent_by_this_node(self) -> [Expr; 2] {
        [
            Expr::Fib { dreg: R0, result: FibResult::AddressType, flags: fib_flag::SADDR },
            Expr::equal(R0, route_type::LOCAL.to_ne_bytes()),
        ]
    }

    pub fn source_in(self, range: IpNet, inside: bool) -> Vec<Expr> {
        self.in_range(self.source(R0), range, inside)
    }

    pub fn destination_in(self, range: IpNet) -> Vec<Expr> {
        self.in_range(self.destination(R0), range, true)
    }

    /// Goes on if the destination is not in `range`.
    pub fn outside(self, range: IpNet) -> Vec<Expr> {
        self.in_range(self.destination(R0), range, false)
    }

    /// Goes on if the loaded address is inside (or outside) a range.
    fn in_range(self, load: Expr, range: IpNet, inside: bool) -> Vec<Expr> {
        let (network, mask) = (bytes(range.network()), bytes(range.netmask()));
        let compare = if inside { Expr::equal(R0, network) } else { Expr::not_equal(R0, network) };
        let xor = vec![0; mask.len()];
        vec![load, Expr::Bitwise { sreg: R0, dreg: R0, mask, xor }, compare]
    }

    /// Sends the packet to one of `endpoints`, by chance.
    pub fn to_one_of(self, endpoints: &[SocketAddr]) -> Vec<Expr> {
        let nat = Expr::Nat {
            kind: NatKind::Destination,
            ipv6: self.ipv6,
            address: Some(R0),
            port: Some(R0.after(self.words())),
            flags: 0,
        };
        if let [only] = endpoints {
            let port = only.port().to_be_bytes().to_vec();
            let load_address = Expr::Immediate { dreg: R0, data: bytes(only.ip()) };
            return vec![load_address, Expr::Immediate { dreg: R0.after(self.words()), data: port }, nat];
        }
        let elements = endpoints.iter().zip(0u32..).map(|(endpoint, number)| {
            Element::value(Key::new().number(number), Key::new().ip(endpoint.ip()).port(endpoint.port()))
        });
        let data = MapData::Fields(vec![self.field(), Field::Port]);
        let set = SetRef::Inline { key: vec![Field::Number], data: Some(data), elements: elements.collect() };
        vec![draw(endpoints.len()), Expr::Lookup { set, sreg: R0, dreg: Some(R0), inverted: false }, nat]
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn draw(count: usize) -> Expr {
    let modulus = u32::try_from(count).unwrap_or(u32::MAX);
    Expr::Numgen { dreg: R0, modulus, kind: Numgen::Random, offset: 0 }
}

/// Goes to one of `chains`, by chance.
pub(crate) fn goto_one_of(chains: &[String]) -> Vec<Expr> {
    let elements = chains
        .iter()
        .zip(0u32..)
        .map(|(chain, number)| Element::verdict(Key::new().number(number), Verdict::Goto(chain.clone())))
        .collect();
    let set = SetRef::Inline { key: vec![Field::Number], data: Some(MapData::Verdict), elements };
    vec![draw(chains.len()), Expr::VerdictMap { set, sreg: R0 }]
}

/// Loads protocol and port: the key of maps of node ports.
pub(crate) fn load_node_port() -> [Expr; 2] {
    [
        Expr::Meta { key: MetaKey::L4Proto, dreg: R0 },
        Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dreg: R0.after(1) },
    ]
}

/// Goes where the named map says, if it knows the loaded key.
pub(crate) fn follow(map: &str) -> Expr {
    Expr::VerdictMap { set: SetRef::Named(map.to_owned()), sreg: R0 }
}

/// Goes on if the named set knows the loaded key.
pub(crate) fn known_in(set: &str) -> Expr {
    Expr::Lookup { set: SetRef::Named(set.to_owned()), sreg: R0, dreg: None, inverted: false }
}

/// Marks the packet for masquerading and goes on.
pub(crate) fn mark() -> [Expr; 3] {
    [
        Expr::Meta { key: MetaKey::Mark, dreg: R0 },
        Expr::Bitwise {
            sreg: R0,
            dreg: R0,
            mask: (!MASQUERADE_MARK).to_ne_bytes().to_vec(),
            xor: MASQUERADE_MARK.to_ne_bytes().to_vec(),
        },
        Expr::MetaSet { key: MetaKey::Mark, sreg: R0 },
    ]
}

pub(crate) fn masquerade() -> Expr {
    Expr::Masquerade { flags: nat_flag::FULLY_RANDOM }
}

/// Takes the mark off a marked packet and masquerades it.
pub(crate) fn masquerade_marked() -> Rule {
    let zero = vec![0; 4];
    Rule::new([
        Expr::Meta { key: MetaKey::Mark, dreg: R0 },
        Expr::Bitwise {
            sreg: R0,
            dreg: R0.after(1),
            mask: MASQUERADE_MARK.to_ne_bytes().to_vec(),
            xor: zero,
        },
        Expr::equal(R0.after(1), MASQUERADE_MARK.to_ne_bytes()),
        Expr::Bitwise {
            sreg: R0,
            dreg: R0,
            mask: vec![0xff; 4],
            xor: MASQUERADE_MARK.to_ne_bytes().to_vec(),
        },
        Expr::MetaSet { key: MetaKey::Mark, sreg: R0 },
        masquerade(),
    ])
}

/// Goes on for the first packet of a connection.
pub(crate) fn is_new() -> [Expr; 3] {
    [
        Expr::Ct { key: CtKey::State, dreg: R0, direction: None },
        Expr::Bitwise { sreg: R0, dreg: R0, mask: ct_state::NEW.to_ne_bytes().to_vec(), xor: vec![0; 4] },
        Expr::not_equal(R0, [0; 4]),
    ]
}
