//! Addresses of a service network: which are valid, and which free one to take. Pure; who has an address is asked for.
//!
//! As upstream, the lower band of a network is left to addresses that people choose, while there are others.

use crate::server::ServiceNetwork;
use std::net::IpAddr;

const MIN_BAND: u128 = 16;
const MAX_BAND: u128 = 256;
/// The band is this part of the network, within the bounds above.
const BAND_PART: u128 = 16;

/// A network to allocate from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    base: u128,
    /// How many addresses it has, those that cannot be given included.
    size: u128,
    v6: bool,
    prefix: u8,
}

impl Network {
    pub fn new(network: ServiceNetwork) -> Self {
        let (address, bits, v6) = match network.address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32, false),
            IpAddr::V6(address) => (address.to_bits(), 128, true),
        };
        let prefix = network.prefix.min(bits);
        // As upstream, no more than 2^64 addresses of a network are used.
        let size = 1_u128 << (bits - prefix).min(64);
        Self { base: address & !(size - 1), size, v6, prefix }
    }

    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.v6 { "IPv6" } else { "IPv4" }
    }

    fn number(&self, ip: IpAddr) -> Option<u128> {
        let number = match ip {
            IpAddr::V4(ip) if !self.v6 => u128::from(ip.to_bits()),
            IpAddr::V6(ip) if self.v6 => ip.to_bits(),
            _ => return None,
        };
        number.checked_sub(self.base)
    }

    fn address(&self, offset: u128) -> IpAddr {
        let number = self.base + offset;
        if self.v6 {
            IpAddr::from(number.to_be_bytes())
        } else {
            IpAddr::V4(std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)))
        }
    }

    /// Offsets that can be given: not the network itself, and for IPv4 not the broadcast address.
    fn last(&self) -> u128 {
        if self.v6 { self.size - 1 } else { self.size.saturating_sub(2) }
    }

    /// Whether an address can be given.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.number(ip).is_some_and(|offset| (1..=self.last()).contains(&offset))
    }

    fn band(&self) -> u128 {
        if self.size <= MIN_BAND { 0 } else { (self.size / BAND_PART).clamp(MIN_BAND, MAX_BAND) }
    }

    /// A free address: from a random place above the band on, then from the band.
    pub fn pick(&self, random: u64, is_taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let (low, last) = (self.band().max(1), self.last());
        let free = |offset: &u128| !is_taken(self.address(*offset));
        let mut found = None;
        if low <= last {
            let start = low + u128::from(random) % (last - low + 1);
            found = (start..=last).chain(low..start).find(free);
        }
        found.or_else(|| (1..low.min(last + 1)).find(free)).map(|offset| self.address(offset))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.address(0), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn network(text: &str) -> Network {
        let (address, prefix) = text.split_once('/').unwrap();
        Network::new(ServiceNetwork { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() })
    }

    #[test]
    fn bounds() {
        let check = |network_text: &str, ip: &str, expected: bool| {
            assert_eq!(network(network_text).contains(ip.parse().unwrap()), expected, "{network_text} {ip}");
        };
        check("10.96.0.0/12", "10.96.0.1", true);
        check("10.96.0.0/12", "10.96.0.0", false);
        check("10.96.0.0/12", "10.111.255.255", false);
        check("10.96.0.0/12", "10.111.255.254", true);
        check("10.96.0.0/12", "10.112.0.1", false);
        check("10.96.0.0/12", "fd00::1", false);
        check("fd00::/108", "fd00::f:ffff", true);
    }

    #[test]
    fn every_address_is_given_once_and_the_band_last() {
        let network = network("10.0.0.0/26");
        let mut taken = HashSet::new();
        let mut order = Vec::new();
        for random in 0..1_000 {
            let Some(ip) = network.pick(random * 7_919, |ip| taken.contains(&ip)) else { break };
            assert!(taken.insert(ip) && network.contains(ip));
            order.push(ip);
        }
        assert_eq!(order.len(), 62);
        let low: Vec<bool> = order.iter().map(|ip| *ip < IpAddr::from([10, 0, 0, 16])).collect();
        assert!(!low[..47].contains(&true) && !low[47..].contains(&false));
    }
}
