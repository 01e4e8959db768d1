//! Routes.

use super::Rtnl;
use super::address::{AF_INET, AF_INET6, Scope};
use crate::error::Result;
use crate::socket::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Subject};
use crate::wire::{Attributes, Encoder, ip, ne32};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;

const RTPROT_STATIC: u8 = 4;
const RTNH_F_ONLINK: u32 = 4;
const RTM_F_CLONED: u32 = 0x200;

/// The main routing table.
pub(super) const TABLE_MAIN: u32 = 254;

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteKind {
    /// Sends it on.
    #[default]
    Unicast,
    /// Drops it silently.
    Blackhole,
    /// Drops it and says that the host is unreachable.
    Unreachable,
    /// Another of the kernel's kinds (local, broadcast, ...).
    Other(u8),
}

impl RouteKind {
    fn number(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Other(number) => number,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            1 => Self::Unicast,
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            other => Self::Other(other),
        }
    }
}

/// A route of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to; `0.0.0.0/0` or `::/0` is the default route.
    pub destination: IpNet,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The link to leave by.
    pub link: Option<u32>,
    /// The source address that local senders take.
    pub source: Option<IpAddr>,
    /// How far the destination is.
    pub scope: Scope,
    /// What happens to the packet.
    pub kind: RouteKind,
    /// The metric; lower wins.
    pub priority: Option<u32>,
    /// The routing table; 254 is the main one.
    pub table: u32,
    /// The gateway is taken to be on the link, whatever the addresses say.
    pub on_link: bool,
}

impl Route {
    /// To `destination`, directly on `link`.
    pub fn direct(destination: IpNet, link: u32) -> Self {
        Self {
            destination,
            gateway: None,
            link: Some(link),
            source: None,
            scope: Scope::Link,
            kind: RouteKind::Unicast,
            priority: None,
            table: TABLE_MAIN,
            on_link: false,
        }
    }

    /// To `destination` by `gateway`.
    pub fn via(destination: IpNet, gateway: IpAddr, link: u32) -> Self {
        Self { gateway: Some(gateway), scope: Scope::Global, ..Self::direct(destination, link) }
    }

    /// The default route of `gateway`'s family.
    pub fn default_via(gateway: IpAddr, link: u32) -> Self {
        let everything = match gateway {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
        };
        Self::via(everything, gateway, link)
    }
}

impl Rtnl {
    /// Adds a route.
    ///
    /// # Errors
    /// It is there already, the gateway cannot be reached, or the kernel refuses otherwise.
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        self.put_route("add route", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route)
    }

    /// Adds a route or replaces the one with the same destination, table and priority.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn replace_route(&mut self, route: &Route) -> Result<()> {
        self.put_route("replace route", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route)
    }

    /// Deletes a route. False: it was not there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete_route(&mut self, route: &Route) -> Result<bool> {
        match self.put_route("delete route", RTM_DELROUTE, 0, route) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn put_route(&mut self, request: &'static str, kind: u16, flags: u16, route: &Route) -> Result<()> {
        let name = route.destination.to_string();
        let subject = Subject { request, name: &name };
        self.socket.request(subject, kind, flags, &header(route), |encoder| put(encoder, route))
    }

    /// All routes of this namespace, in every table.
    ///
    /// # Errors
    /// The table kept changing while it was read.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let subject = Subject { request: "list routes", name: "" };
        self.socket.dump(subject, RTM_GETROUTE, &[0; 12], |_| {}, parse)
    }
}

fn put(encoder: &mut Encoder, route: &Route) {
    if route.destination.prefix_len() > 0 {
        encoder.put_ip(RTA_DST, route.destination.network());
    }
    for (kind, address) in [(RTA_GATEWAY, route.gateway), (RTA_PREFSRC, route.source)] {
        if let Some(address) = address {
            encoder.put_ip(kind, address);
        }
    }
    for (kind, number) in
        [(RTA_OIF, route.link), (RTA_PRIORITY, route.priority), (RTA_TABLE, Some(route.table))]
    {
        if let Some(number) = number {
            encoder.put_u32(kind, number);
        }
    }
}

/// `struct rtmsg`.
fn header(route: &Route) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = if route.destination.addr().is_ipv4() { AF_INET } else { AF_INET6 };
    header[1] = route.destination.prefix_len();
    header[5] = RTPROT_STATIC;
    header[6] = route.scope.number();
    header[7] = route.kind.number();
    let flags = if route.on_link { RTNH_F_ONLINK } else { 0 };
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn parse(payload: &[u8]) -> Option<Route> {
    let head = payload.get(..12)?;
    let attributes = Attributes(&payload[12..]);
    let flags = ne32(&head[8..12])?;
    if flags & RTM_F_CLONED != 0 {
        return None;
    }
    let unspecified = match head[0] {
        AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let address = |kind| attributes.find(kind).and_then(ip);
    let number = |kind| attributes.find(kind).and_then(ne32);
    Some(Route {
        destination: IpNet::new(address(RTA_DST).unwrap_or(unspecified), head[1]).ok()?,
        gateway: address(RTA_GATEWAY),
        link: number(RTA_OIF),
        source: address(RTA_PREFSRC),
        scope: Scope::of(head[6]),
        kind: RouteKind::of(head[7]),
        priority: number(RTA_PRIORITY),
        table: number(RTA_TABLE).unwrap_or_else(|| u32::from(head[4])),
        on_link: flags & RTNH_F_ONLINK != 0,
    })
}
