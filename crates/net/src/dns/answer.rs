//! A query and a zone to an answer: pure, and the one place that decides what DNS says about the cluster.

use super::reply::{Owner, QUESTION, Reply, Section, put_name};
use super::wire::{A, AAAA, ANY, AXFR, CLASS_IN, CNAME, IXFR, NS, Name, PTR, Query, Rcode, SOA, SRV, TXT};
use super::zone::{Node, Selection, ServiceKind, Zone, reverse_address};
use std::net::IpAddr;

/// The version of the Kubernetes DNS specification that the names follow.
const SPECIFICATION: &[u8] = b"1.1.0";
/// Names in a row that only lead on to another name.
const CHAIN_MAX: usize = 8;

/// What became of a query.
pub(super) enum Answered {
    /// The answer is written.
    Done(Rcode),
    /// It is not about the cluster.
    Elsewhere,
    /// The answer so far leads to this name outside the cluster, whose addresses belong to it.
    LeadsTo(Box<Name>),
}

/// Writes what `zone` says about `query` into `reply`. `turn` makes answers start at another address each time.
pub(super) fn answer(zone: &Zone, query: &Query<'_>, turn: usize, reply: &mut Reply<'_>) -> Answered {
    if query.class != CLASS_IN || matches!(query.kind, AXFR | IXFR) {
        return Answered::Done(Rcode::Refused);
    }
    if let Some(labels) = zone.relative(&query.name) {
        if !zone.is_ready() {
            return Answered::Done(Rcode::ServFail);
        }
        reply.authoritative = true;
        return Answering { zone, kind: query.kind, turn, reply }.in_zone(&labels, QUESTION, CHAIN_MAX);
    }
    reverse(zone, query, reply)
}

fn reverse(zone: &Zone, query: &Query<'_>, reply: &mut Reply<'_>) -> Answered {
    let names = reverse_address(&query.name).map(|address| zone.names_of(address)).unwrap_or_default();
    if query.kind != PTR || names.is_empty() {
        return Answered::Elsewhere;
    }
    reply.authoritative = true;
    for name in names {
        reply.record(Section::Answer, QUESTION, PTR, zone.ttl, |data| put_name(data, name));
    }
    Answered::Done(Rcode::NoError)
}

struct Answering<'a, 'r> {
    zone: &'a Zone,
    kind: u16,
    turn: usize,
    reply: &'a mut Reply<'r>,
}

impl Answering<'_, '_> {
    fn in_zone(&mut self, labels: &[&str], owner: Owner<'_>, chain: usize) -> Answered {
        match self.zone.find(labels) {
            Node::Missing => return self.negative(Rcode::NxDomain),
            Node::Empty => {}
            Node::Apex => self.apex(),
            Node::Version => self.version(),
            Node::NameServer => self.addresses(owner, &self.zone.server_addresses.clone()),
            Node::Pod(address) => self.addresses(owner, &[address]),
            Node::Service(selection) => {
                if let ServiceKind::ExternalName(target) = &selection.service.kind {
                    return self.external(target, owner, chain);
                }
                self.service(&selection, owner);
            }
        }
        if self.reply.has_answers() { Answered::Done(Rcode::NoError) } else { self.negative(Rcode::NoError) }
    }

    fn wants(&self, address: IpAddr) -> bool {
        self.kind == ANY || self.kind == if address.is_ipv4() { A } else { AAAA }
    }

    /// Each address that is asked for, from another one on each time.
    fn addresses(&mut self, owner: Owner<'_>, addresses: &[IpAddr]) {
        let start = if addresses.is_empty() { 0 } else { self.turn % addresses.len() };
        for address in addresses[start..].iter().chain(&addresses[..start]) {
            if self.wants(*address) {
                self.reply.address(Section::Answer, owner, self.zone.ttl, *address);
            }
        }
    }

    fn service(&mut self, selection: &Selection<'_>, owner: Owner<'_>) {
        if self.kind == SRV {
            self.srv(selection);
        } else if let Some(addresses) = selection.cluster_addresses() {
            self.addresses(owner, addresses);
        } else if matches!(self.kind, A | AAAA | ANY) {
            let addresses: Vec<_> =
                selection.endpoints().flat_map(|endpoint| endpoint.addresses.iter().copied()).collect();
            self.addresses(owner, &addresses);
        }
    }

    fn srv(&mut self, selection: &Selection<'_>) {
        let service = selection.service;
        let own = format!("{}.{}.svc.{}", service.name, service.namespace, self.zone.domain);
        let mut targets = Vec::new();
        if let Some(addresses) = selection.cluster_addresses() {
            let ports = selection.ports(&service.ports);
            targets.extend(ports.map(|port| (own.clone(), port.port, addresses)));
        } else {
            for endpoint in selection.endpoints() {
                let name = format!("{}.{own}", endpoint.name);
                let ports = selection.ports(&endpoint.ports);
                targets.extend(ports.map(|port| (name.clone(), port.port, endpoint.addresses.as_slice())));
            }
        }
        let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(0).max(1);
        let mut glue: Vec<(&str, usize, &[IpAddr])> = Vec::new();
        for (name, port, addresses) in &targets {
            // The name stands behind the pointer, type, class, time, length, priority, weight and port.
            let name_at = self.reply.position() + 18;
            let written = self.reply.record(Section::Answer, QUESTION, SRV, self.zone.ttl, |data| {
                for number in [0, weight, *port] {
                    data.extend_from_slice(&number.to_be_bytes());
                }
                put_name(data, name);
            });
            if written && glue.last().is_none_or(|(last, ..)| last != name) {
                glue.push((name, name_at, addresses));
            }
        }
        self.glue(&glue);
    }

    /// The addresses of the names that service records name.
    fn glue(&mut self, names: &[(&str, usize, &[IpAddr])]) {
        for (name, at, addresses) in names {
            let owner = match u16::try_from(*at) {
                Ok(offset) if offset < 0x4000 => Owner::At(offset),
                _ => Owner::Name(name),
            };
            for address in *addresses {
                self.reply.address(Section::Additional, owner, self.zone.ttl, *address);
            }
        }
    }

    fn external(&mut self, target: &str, owner: Owner<'_>, chain: usize) -> Answered {
        let target = target.trim_end_matches('.');
        self.reply.record(Section::Answer, owner, CNAME, self.zone.ttl, |data| put_name(data, target));
        let Some(name) = Name::from_text(target).filter(|_| matches!(self.kind, A | AAAA)) else {
            return Answered::Done(Rcode::NoError);
        };
        match self.zone.relative(&name) {
            None => Answered::LeadsTo(Box::new(name)),
            Some(_) if chain == 0 => Answered::Done(Rcode::ServFail),
            Some(labels) => match self.in_zone(&labels, Owner::Name(target), chain - 1) {
                // The name asked for exists, wherever it leads.
                Answered::Done(Rcode::NxDomain) => Answered::Done(Rcode::NoError),
                answered => answered,
            },
        }
    }

    fn apex(&mut self) {
        let domain = self.zone.domain.clone();
        match self.kind {
            SOA => self.soa(Section::Answer),
            NS => {
                let server = format!("ns.dns.{domain}");
                let at = self.reply.position() + 12;
                let server_name = |data: &mut Vec<u8>| put_name(data, &server);
                self.reply.record(Section::Answer, QUESTION, NS, self.zone.ttl, server_name);
                let addresses = self.zone.server_addresses.clone();
                self.glue(&[(&server, at, &addresses)]);
            }
            _ => {}
        }
    }

    fn version(&mut self) {
        if matches!(self.kind, TXT | ANY) {
            self.reply.record(Section::Answer, QUESTION, TXT, self.zone.ttl, |data| {
                data.push(SPECIFICATION.len() as u8);
                data.extend_from_slice(SPECIFICATION);
            });
        }
    }

    fn negative(&mut self, rcode: Rcode) -> Answered {
        self.soa(Section::Authority);
        Answered::Done(rcode)
    }

    fn soa(&mut self, section: Section) {
        let Zone { domain, ttl, serial, .. } = self.zone;
        self.reply.record(section, Owner::Name(domain), SOA, *ttl, |data| {
            put_name(data, &format!("ns.dns.{domain}"));
            put_name(data, &format!("hostmaster.{domain}"));
            for number in [*serial, 7200, 1800, 86_400, *ttl] {
                data.extend_from_slice(&number.to_be_bytes());
            }
        });
    }
}
