//! The real dataplane: one nftables table per cluster and address family. A change is one transaction that touches only what
//! differs; the first one, and the one after a refusal, replaces the whole table in one transaction.

use super::compile::{self, Objects};
use super::expressions::Version;
use super::ruleset::RuleSet;
use super::service::Protocol;
use super::stale::StaleFlows;
use super::{Dataplane, Error, Observed};
use nauplius_link::conntrack::Conntrack;
use nauplius_link::nft::{Batch, Chain, Element, Family, Nft, Set, Table};
use nauplius_link::{Netns, Result};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Services by nftables.
pub struct NftDataplane {
    nft: Nft,
    conntrack: Conntrack,
    table: Table,
    version: Version,
    applied: Option<RuleSet>,
}

impl NftDataplane {
    /// For the calling thread's network namespace. `table` carries the cluster's name.
    ///
    /// # Errors
    /// The kernel's sockets cannot be opened.
    pub fn open(table: &str, ipv6: bool) -> Result<Self> {
        Ok(Self::new(Nft::open()?, Conntrack::open()?, table, ipv6))
    }

    /// For the network namespace `netns`.
    ///
    /// # Errors
    /// The namespace cannot be entered or the sockets cannot be opened.
    pub fn open_in(netns: &Netns, table: &str, ipv6: bool) -> Result<Self> {
        Ok(Self::new(Nft::open_in(netns)?, Conntrack::open_in(netns)?, table, ipv6))
    }

    fn new(nft: Nft, conntrack: Conntrack, table: &str, ipv6: bool) -> Self {
        let family = if ipv6 { Family::Ip6 } else { Family::Ip };
        let table = Table::new(family, table);
        Self { nft, conntrack, table, version: Version { ipv6 }, applied: None }
    }

    fn replace(&mut self, rules: &RuleSet) -> Result<()> {
        let mut batch = Batch::new(self.table.clone());
        batch.delete_table();
        batch.add_table();
        for set in compile::frame_sets(self.version) {
            batch.add_set(&set);
        }
        let chains = compile::frame_chains(self.version, &rules.network);
        chains.iter().for_each(|(chain, _)| batch.add_chain(chain));
        for (chain, rules) in &chains {
            rules.iter().for_each(|rule| batch.add_rule(&chain.name, rule));
        }
        let objects = compile::objects(self.version, rules, |_| true);
        self.difference(&mut batch, &Objects::default(), &objects);
        Ok(batch.commit(&mut self.nft)?)
    }

    fn update(&mut self, old: &RuleSet, new: &RuleSet) -> Result<()> {
        let changed = compile::changed(old, new);
        let before = compile::objects(self.version, old, |name| changed.contains(name));
        let after = compile::objects(self.version, new, |name| changed.contains(name));
        let mut batch = Batch::new(self.table.clone());
        self.difference(&mut batch, &before, &after);
        Ok(batch.commit(&mut self.nft)?)
    }

    /// The changes that lead from one set of objects to another, in an order in which nothing refers to what is not there.
    fn difference(&self, batch: &mut Batch, before: &Objects, after: &Objects) {
        let new_sets = after.sets.iter().filter(|(name, _)| !before.sets.contains_key(*name));
        new_sets.for_each(|(_, set)| batch.add_set(set));
        let new_chains = after.chains.keys().filter(|name| !before.chains.contains_key(*name));
        new_chains.for_each(|name| batch.add_chain(&Chain::regular(name)));

        let differs = |(name, rules): &(&String, &Vec<_>)| after.chains.get(*name) != Some(*rules);
        before.chains.iter().filter(differs).for_each(|(name, _)| batch.flush_chain(name));
        let sets: BTreeMap<_, _> =
            compile::frame_sets(self.version).into_iter().map(|set| (set.name.clone(), set)).collect();
        for (set, elements) in by_set(&sets, before, after) {
            batch.delete_elements(set, &elements);
        }

        let differs = |(name, rules): &(&String, &Vec<_>)| before.chains.get(*name) != Some(*rules);
        for (name, rules) in after.chains.iter().filter(differs) {
            rules.iter().for_each(|rule| batch.add_rule(name, rule));
        }
        for (set, elements) in by_set(&sets, after, before) {
            batch.add_elements(set, &elements);
        }
        let old_chains = before.chains.keys().filter(|name| !after.chains.contains_key(*name));
        old_chains.for_each(|name| batch.delete_chain(name));
        let old_sets = before.sets.keys().filter(|name| !after.sets.contains_key(*name));
        old_sets.for_each(|name| batch.delete_set(name));
    }

    fn addresses(&mut self, map: &str) -> Result<Vec<(IpAddr, Protocol, u16)>> {
        let elements = self.nft.elements(&self.table, map)?;
        let ipv6 = self.version.ipv6;
        Ok(elements.iter().filter_map(|element| read_address(element.key.bytes(), ipv6)).collect())
    }
}

/// The elements that `one` has and `other` has not, or has otherwise, by the set they are in.
fn by_set<'a>(
    sets: &'a BTreeMap<String, Set>,
    one: &Objects,
    other: &Objects,
) -> Vec<(&'a Set, Vec<Element>)> {
    let mut found: BTreeMap<&str, Vec<Element>> = BTreeMap::new();
    for (place, value) in &one.elements {
        if other.elements.get(place) != Some(value) {
            let element = Element { value: value.clone(), ..Element::new(place.1.clone()) };
            found.entry(place.0).or_default().push(element);
        }
    }
    found.into_iter().filter_map(|(name, elements)| Some((sets.get(name)?, elements))).collect()
}

fn read_address(key: &[u8], ipv6: bool) -> Option<(IpAddr, Protocol, u16)> {
    let (address, rest) = key.split_at_checked(if ipv6 { 16 } else { 4 })?;
    let address = match <[u8; 4]>::try_from(address) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    let (protocol, port) = read_port(rest)?;
    Some((address, protocol, port))
}

fn read_port(key: &[u8]) -> Option<(Protocol, u16)> {
    match key {
        [protocol, _, _, _, high, low, ..] => {
            Some((Protocol::of_number(*protocol)?, u16::from_be_bytes([*high, *low])))
        }
        _ => None,
    }
}

impl Dataplane for NftDataplane {
    fn apply(&mut self, rules: &RuleSet) -> Result<(), Error> {
        let old = self.applied.take();
        let updated = match &old {
            Some(old) if old == rules => Ok(()),
            Some(old) if old.network == rules.network => self.update(old, rules),
            _ => self.replace(rules),
        };
        // Somebody else may have changed the table under us; the whole of it does not depend on what was there.
        updated.or_else(|error| if old.is_some() { self.replace(rules) } else { Err(error) })?;
        let stale = StaleFlows::between(old.as_ref(), rules);
        self.applied = Some(rules.clone());
        if !stale.is_empty() {
            self.conntrack.delete(self.version.ipv6, |flow| stale.contains(flow))?;
        }
        Ok(())
    }

    fn is_whole(&mut self) -> Result<bool, Error> {
        if self.applied.is_none() || self.nft.tables()?.contains(&self.table) {
            return Ok(true);
        }
        self.applied = None;
        Ok(false)
    }

    fn observe(&mut self) -> Result<Observed, Error> {
        if !self.nft.tables()?.contains(&self.table) {
            return Ok(Observed::default());
        }
        let ports = self.nft.elements(&self.table, compile::NODE_PORTS)?;
        Ok(Observed {
            served: self.addresses(compile::SERVICES)?.into_iter().collect(),
            node_ports: ports.iter().filter_map(|element| read_port(element.key.bytes())).collect(),
            refused: self.addresses(compile::REFUSED)?.into_iter().collect(),
        })
    }

    fn remove(&mut self) -> Result<(), Error> {
        self.applied = None;
        Ok(self.nft.delete_table(&self.table)?)
    }
}
