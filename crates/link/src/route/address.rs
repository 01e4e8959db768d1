//! Addresses on links.

use super::Rtnl;
use crate::error::Result;
use crate::socket::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Subject};
use crate::wire::{Attributes, Encoder, ip, ne32};
use ipnet::IpNet;
use std::net::IpAddr;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

const IFA_F_SECONDARY: u32 = 0x01;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// How far an address or a route reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Everywhere.
    #[default]
    Global,
    /// This link.
    Link,
    /// This machine.
    Host,
    /// Another value of the kernel's.
    Other(u8),
}

impl Scope {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Global => 0,
            Self::Link => 253,
            Self::Host => 254,
            Self::Other(number) => number,
        }
    }

    pub(super) fn of(number: u8) -> Self {
        match number {
            0 => Self::Global,
            253 => Self::Link,
            254 => Self::Host,
            other => Self::Other(other),
        }
    }
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link.
    pub link: u32,
    /// The address with its prefix length.
    pub address: IpNet,
    /// How far it reaches.
    pub scope: Scope,
    /// Whether the kernel makes a route to the prefix through the link. When listed: true.
    pub prefix_route: bool,
    /// Whether another address of the same prefix came first (a temporary address for IPv6). Ignored when added.
    pub secondary: bool,
}

impl Address {
    /// A global address that brings its prefix route.
    pub fn new(link: u32, address: IpNet) -> Self {
        Self { link, address, scope: Scope::Global, prefix_route: true, secondary: false }
    }
}

impl Rtnl {
    /// Adds an address; IPv6 ones skip duplicate detection, because we hand them out ourselves.
    ///
    /// # Errors
    /// It is there already, or the kernel refuses.
    pub fn add_address(&mut self, address: &Address) -> Result<()> {
        self.put_address("add address", NLM_F_CREATE | NLM_F_EXCL, address)
    }

    /// Adds an address or leaves it as it is.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn replace_address(&mut self, address: &Address) -> Result<()> {
        self.put_address("replace address", NLM_F_CREATE | NLM_F_REPLACE, address)
    }

    fn put_address(&mut self, request: &'static str, flags: u16, address: &Address) -> Result<()> {
        let name = address.address.to_string();
        let header = header(address.link, address);
        self.socket.request(Subject { request, name: &name }, RTM_NEWADDR, flags, &header, |encoder| {
            put(encoder, address.address.addr());
            let prefix_route = if address.prefix_route { 0 } else { IFA_F_NOPREFIXROUTE };
            encoder.put_u32(IFA_FLAGS, IFA_F_NODAD | prefix_route);
        })
    }

    /// Deletes an address. False: it was not there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete_address(&mut self, link: u32, address: IpNet) -> Result<bool> {
        let name = address.to_string();
        let header = header(link, &Address::new(link, address));
        let subject = Subject { request: "delete address", name: &name };
        let outcome =
            self.socket.request(subject, RTM_DELADDR, 0, &header, |encoder| put(encoder, address.addr()));
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All addresses of this namespace.
    ///
    /// # Errors
    /// The table kept changing while it was read.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let subject = Subject { request: "list addresses", name: "" };
        self.socket.dump(subject, RTM_GETADDR, &[0; 8], |_| {}, parse)
    }

    /// The addresses of one link.
    ///
    /// # Errors
    /// The table kept changing while it was read.
    pub fn addresses_of(&mut self, link: u32) -> Result<Vec<Address>> {
        Ok(self.addresses()?.into_iter().filter(|address| address.link == link).collect())
    }
}

fn put(encoder: &mut Encoder, address: IpAddr) {
    encoder.put_ip(IFA_LOCAL, address);
    encoder.put_ip(IFA_ADDRESS, address);
}

/// `struct ifaddrmsg`.
fn header(link: u32, address: &Address) -> [u8; 8] {
    let mut header = [0; 8];
    header[0] = if address.address.addr().is_ipv4() { AF_INET } else { AF_INET6 };
    header[1] = address.address.prefix_len();
    header[3] = address.scope.number();
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header
}

fn parse(payload: &[u8]) -> Option<Address> {
    let head = payload.get(..8)?;
    let attributes = Attributes(&payload[8..]);
    // On a point-to-point link IFA_ADDRESS is the peer's; IPv6 has no IFA_LOCAL otherwise.
    let address = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS)).and_then(ip)?;
    let flags = attributes.find(IFA_FLAGS).and_then(ne32).unwrap_or_else(|| u32::from(head[2]));
    Some(Address {
        link: ne32(&head[4..8])?,
        address: IpNet::new(address, head[1]).ok()?,
        scope: Scope::of(head[3]),
        prefix_route: flags & IFA_F_NOPREFIXROUTE == 0,
        secondary: flags & IFA_F_SECONDARY != 0,
    })
}
