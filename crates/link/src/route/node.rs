//! Which address this machine is known by: the one its default route leaves with, else the first global one.

use super::routes::TABLE_MAIN;
use super::{Address, Link, Route, Rtnl, Scope};
use crate::error::Result;
use std::net::IpAddr;

/// The way out of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The link it leaves by.
    pub link: Link,
    /// The next hop, unless the link is point to point.
    pub gateway: Option<IpAddr>,
    /// The source address that the route itself names.
    pub source: Option<IpAddr>,
}

impl Rtnl {
    /// The default route with the lowest metric of one family.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn default_route(&mut self, ipv6: bool) -> Result<Option<DefaultRoute>> {
        let routes = self.routes()?;
        let best = routes
            .iter()
            .filter(|route| is_default(route, ipv6))
            .min_by_key(|route| route.priority.unwrap_or(0));
        let Some((route, index)) = best.and_then(|route| Some((route, route.link?))) else {
            return Ok(None);
        };
        let link = self.link_by_index(index)?;
        Ok(link.map(|link| DefaultRoute { link, gateway: route.gateway, source: route.source }))
    }

    /// The address this node is known by: what the default route names or its interface has; without a default route the
    /// first global address of a link that is up. Never a loopback address.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn primary_address(&mut self, ipv6: bool) -> Result<Option<IpAddr>> {
        let route = self.default_route(ipv6)?;
        let (links, addresses) = (self.links()?, self.addresses()?);
        Ok(primary(route.as_ref(), &links, &addresses, ipv6))
    }
}

fn is_default(route: &Route, ipv6: bool) -> bool {
    route.destination.prefix_len() == 0
        && route.destination.addr().is_ipv6() == ipv6
        && route.table == TABLE_MAIN
        && route.kind == super::RouteKind::Unicast
}

fn primary(
    route: Option<&DefaultRoute>,
    links: &[Link],
    addresses: &[Address],
    ipv6: bool,
) -> Option<IpAddr> {
    let global = |address: &&Address| {
        let ip = address.address.addr();
        ip.is_ipv6() == ipv6 && address.scope == Scope::Global && !address.secondary && !ip.is_loopback()
    };
    let first_on = |link: u32| {
        addresses
            .iter()
            .filter(|address| address.link == link)
            .find(global)
            .map(|address| address.address.addr())
    };
    let named = route.and_then(|route| route.source.or_else(|| first_on(route.link.index)));
    named.or_else(|| {
        links.iter().filter(|link| link.up && !link.loopback).find_map(|link| first_on(link.index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, up: bool) -> Link {
        Link {
            index,
            name: format!("eth{index}"),
            alias: String::new(),
            kind: None,
            mac: None,
            mtu: 1500,
            up,
            loopback: index == 1,
            master: None,
            peer: None,
        }
    }

    #[test]
    fn the_default_route_decides_before_the_order_of_links() {
        let links = [link(1, true), link(2, false), link(3, true), link(4, true)];
        let addresses = ["127.0.0.1/8", "10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/24"]
            .iter()
            .zip(1..)
            .map(|(text, index)| Address::new(index, text.parse().unwrap()))
            .collect::<Vec<_>>();
        let check = |route: Option<DefaultRoute>, expected: &str| {
            let got = primary(route.as_ref(), &links, &addresses, false);
            assert_eq!(got.map(|ip| ip.to_string()).as_deref(), Some(expected));
        };
        check(None, "10.0.0.3");
        let by_4 = DefaultRoute { link: link(4, true), gateway: None, source: None };
        check(Some(by_4.clone()), "10.0.0.4");
        check(Some(DefaultRoute { source: "10.9.9.9".parse().ok(), ..by_4 }), "10.9.9.9");
        assert_eq!(primary(None, &links, &addresses, true), None);
    }
}
