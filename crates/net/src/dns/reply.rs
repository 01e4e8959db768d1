//! Writes an answer into a buffer: the client's header and question, then records while there is room. What does not fit is
//! left out whole, and the answer says so.

use super::wire::{A, AAAA, CLASS_IN, HEADER_LEN, Name, OPT, QUESTION_OFFSET, Query, Rcode};
use std::net::IpAddr;

const OPT_LEN: usize = 11;
/// What we can take by UDP.
const OUR_UDP_SIZE: u16 = 1232;
const PLAIN_UDP_SIZE: u16 = 512;

/// A section of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

/// Whose record it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner<'a> {
    /// A name that stands in the answer already, such as the question's.
    At(u16),
    /// Another name.
    Name(&'a str),
}

/// The name asked for.
pub(super) const QUESTION: Owner<'static> = Owner::At(QUESTION_OFFSET);

/// The largest answer that a client by UDP can take.
pub(super) fn udp_limit(query: &Query<'_>) -> usize {
    usize::from(query.edns.map_or(PLAIN_UDP_SIZE, |edns| edns.udp_size.clamp(PLAIN_UDP_SIZE, 4096)))
}

pub(super) struct Reply<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    counts: [u16; 3],
    edns: bool,
    pub authoritative: bool,
    truncated: bool,
}

impl<'a> Reply<'a> {
    /// An answer to `query` of at most `limit` bytes, in `out`, which is emptied.
    pub fn new(query: &Query<'_>, limit: usize, out: &'a mut Vec<u8>) -> Self {
        out.clear();
        out.extend_from_slice(&query.packet[..HEADER_LEN]);
        out.extend_from_slice(query.question());
        let edns = query.edns.is_some();
        let limit = if edns { limit - OPT_LEN } else { limit };
        Self { out, limit, counts: [0; 3], edns, authoritative: false, truncated: false }
    }

    /// Adds a record, if there is room. False: there was none.
    pub fn record(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        kind: u16,
        ttl: u32,
        data: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let start = self.out.len();
        match owner {
            Owner::At(offset) => self.out.extend_from_slice(&(0xc000 | offset).to_be_bytes()),
            Owner::Name(name) => put_name(self.out, name),
        }
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.out.extend_from_slice(&ttl.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0; 2]);
        data(self.out);
        let length = self.out.len() - length_at - 2;
        let Some(length) = u16::try_from(length).ok().filter(|_| self.out.len() <= self.limit) else {
            self.out.truncate(start);
            // Additional records are a courtesy; only a part of the answer itself makes it incomplete.
            self.truncated |= section != Section::Additional;
            return false;
        };
        self.out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        self.counts[section as usize] += 1;
        true
    }

    pub fn address(&mut self, section: Section, owner: Owner<'_>, ttl: u32, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                self.record(section, owner, A, ttl, |data| data.extend_from_slice(&v4.octets()))
            }
            IpAddr::V6(v6) => {
                self.record(section, owner, AAAA, ttl, |data| data.extend_from_slice(&v6.octets()))
            }
        }
    }

    /// Where the next byte will stand: a place to point to.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    pub fn has_answers(&self) -> bool {
        self.counts[0] > 0
    }

    /// Completes the header and the EDNS record.
    pub fn finish(self, rcode: Rcode) {
        self.finish_extended(rcode as u8, 0);
    }

    /// As [`Reply::finish`], with the upper bits of an extended verdict.
    pub fn finish_extended(mut self, rcode: u8, extended: u8) {
        if self.edns {
            self.out.push(0);
            self.out.extend_from_slice(&OPT.to_be_bytes());
            self.out.extend_from_slice(&OUR_UDP_SIZE.to_be_bytes());
            self.out.extend_from_slice(&[extended, 0, 0, 0, 0, 0]);
            self.counts[2] += 1;
        }
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        // Recursion desired is the client's; we always offer recursion.
        self.out[2] = 0x80 | flag(self.authoritative, 4) | flag(self.truncated, 2) | (self.out[2] & 1);
        self.out[3] = 0x80 | (self.out[3] & 0x10) | rcode;
        self.out[4..6].copy_from_slice(&1u16.to_be_bytes());
        for (place, count) in [6, 8, 10].into_iter().zip(self.counts) {
            self.out[place..place + 2].copy_from_slice(&count.to_be_bytes());
        }
    }
}

/// A dotted name whose labels are known to be valid; one that is not ends at the bad label.
pub(super) fn put_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').take_while(|label| !label.is_empty()) {
        let Ok(length @ 1..=63) = u8::try_from(label.len()) else { break };
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
}

pub(super) fn put_wire_name(out: &mut Vec<u8>, name: &Name) {
    out.extend_from_slice(name.bytes());
    out.push(0);
}

/// An answer that is only a verdict on a header that could be read.
pub(super) fn refuse(packet: &[u8], rcode: Rcode, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&packet[..HEADER_LEN.min(packet.len())]);
    out.resize(HEADER_LEN, 0);
    out[2] = 0x80 | (out[2] & 0x79);
    out[3] = 0x80 | rcode as u8;
    out[4..].fill(0);
}
