//! Connection tracking: listing connections and forgetting some. Needed where UDP flows would go on to an address that is
//! no longer behind a service. Knows tuples, not services.

use crate::error::Result;
use crate::netns::Netns;
use crate::socket::{Socket, Subject};
use crate::wire::{Attributes, Encoder, be16, ip};
use std::net::{IpAddr, SocketAddr};

const SUBSYSTEM: u16 = 1 << 8;
const CT_GET: u16 = 1;
const CT_DELETE: u16 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const NESTED: u16 = 0x8000;

/// UDP's protocol number.
pub const UDP: u8 = 17;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Who sends.
    pub source: SocketAddr,
    /// Who receives.
    pub destination: SocketAddr,
}

/// A tracked connection of a protocol with ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Its layer 4 protocol.
    pub protocol: u8,
    /// As the first packet was sent, before any translation.
    pub original: Tuple,
    /// As answers come in: its source is where the first packet really went.
    pub reply: Tuple,
    // What the kernel told, to name the entry when deleting it.
    identity: Vec<(u16, Vec<u8>)>,
}

/// A connection to the kernel's connection tracking in one network namespace.
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// For the calling thread's namespace.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(Some(rustix::net::netlink::NETFILTER))? })
    }

    /// For the namespace `netns`.
    ///
    /// # Errors
    /// The namespace cannot be entered or the socket cannot be opened.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.run(Self::open)?
    }

    /// The connections of one family for which `wanted` holds.
    ///
    /// # Errors
    /// The kernel refuses or the table kept changing.
    pub fn flows(&mut self, ipv6: bool, wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>> {
        let subject = Subject { request: "list connections", name: "" };
        let read = |payload: &[u8]| parse(payload).filter(&wanted);
        self.socket.dump(subject, SUBSYSTEM | CT_GET, &header(ipv6), |_| {}, read)
    }

    /// Forgets the connections for which `wanted` holds; returns how many.
    ///
    /// # Errors
    /// The kernel refuses. One that ended by itself meanwhile is no error.
    pub fn delete(&mut self, ipv6: bool, wanted: impl Fn(&Flow) -> bool) -> Result<usize> {
        let mut deleted = 0;
        for flow in self.flows(ipv6, wanted)? {
            deleted += usize::from(self.delete_one(ipv6, &flow)?);
        }
        Ok(deleted)
    }

    fn delete_one(&mut self, ipv6: bool, flow: &Flow) -> Result<bool> {
        let name = flow.original.destination.to_string();
        let subject = Subject { request: "delete connection to", name: &name };
        let body = |encoder: &mut Encoder| {
            for (kind, value) in &flow.identity {
                let nested = if *kind == CTA_TUPLE_ORIG { NESTED } else { 0 };
                encoder.put(*kind | nested, value);
            }
        };
        match self.socket.request(subject, SUBSYSTEM | CT_DELETE, 0, &header(ipv6), body) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn header(ipv6: bool) -> [u8; 4] {
    [if ipv6 { 10 } else { 2 }, 0, 0, 0]
}

fn parse(payload: &[u8]) -> Option<Flow> {
    let attributes = Attributes(payload.get(4..)?);
    let (protocol, original) = tuple(attributes.find(CTA_TUPLE_ORIG)?)?;
    let (_, reply) = tuple(attributes.find(CTA_TUPLE_REPLY)?)?;
    let identity = [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE]
        .into_iter()
        .filter_map(|kind| Some((kind, attributes.find(kind)?.to_vec())))
        .collect();
    Some(Flow { protocol, original, reply, identity })
}

fn tuple(data: &[u8]) -> Option<(u8, Tuple)> {
    let attributes = Attributes(data);
    let addresses = Attributes(attributes.find(CTA_TUPLE_IP)?);
    let ports = Attributes(attributes.find(CTA_TUPLE_PROTO)?);
    let address =
        |v4, v6| -> Option<IpAddr> { addresses.find(v4).or_else(|| addresses.find(v6)).and_then(ip) };
    let port = |kind| ports.find(kind).and_then(be16);
    let protocol = *ports.find(1)?.first()?;
    let source = SocketAddr::new(address(1, 3)?, port(2)?);
    let destination = SocketAddr::new(address(2, 4)?, port(3)?);
    Some((protocol, Tuple { source, destination }))
}
