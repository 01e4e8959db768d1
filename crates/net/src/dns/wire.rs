//! The DNS message format as far as a server needs it: reading a question and walking over records. Everything here reads outside
//! bytes: nothing panics, every length is checked.

pub(super) const HEADER_LEN: usize = 12;
/// The longest name on the wire.
pub(super) const NAME_MAX: usize = 255;
/// Where the question's name starts: what compressed names in answers point to.
pub(super) const QUESTION_OFFSET: u16 = HEADER_LEN as u16;

pub(super) const A: u16 = 1;
pub(super) const NS: u16 = 2;
pub(super) const CNAME: u16 = 5;
pub(super) const SOA: u16 = 6;
pub(super) const PTR: u16 = 12;
pub(super) const HINFO: u16 = 13;
pub(super) const TXT: u16 = 16;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;
pub(super) const OPT: u16 = 41;
pub(super) const IXFR: u16 = 251;
pub(super) const AXFR: u16 = 252;
pub(super) const ANY: u16 = 255;
pub(super) const CLASS_IN: u16 = 1;

/// An answer's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
}

/// A name in lower case, in wire form without the root's zero byte.
#[derive(Clone)]
pub(super) struct Name {
    bytes: [u8; NAME_MAX],
    len: u8,
}

impl Name {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The labels from left to right.
    pub fn labels(&self) -> Labels<'_> {
        Labels(self.bytes())
    }

    fn push(&mut self, label: &[u8]) -> Option<()> {
        let (start, end) = (usize::from(self.len) + 1, usize::from(self.len) + 1 + label.len());
        // The root's byte counts too.
        if end >= NAME_MAX {
            return None;
        }
        self.bytes[start - 1] = u8::try_from(label.len()).ok()?;
        for (to, from) in self.bytes.get_mut(start..end)?.iter_mut().zip(label) {
            *to = from.to_ascii_lowercase();
        }
        self.len = u8::try_from(end).ok()?;
        Some(())
    }

    fn empty() -> Self {
        Self { bytes: [0; NAME_MAX], len: 0 }
    }

    /// From a dotted name, with or without a dot at the end.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut name = Self::empty();
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            if label.is_empty() || label.len() > 63 {
                return None;
            }
            name.push(label.as_bytes())?;
        }
        Some(name)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

/// Labels of a name that was checked.
#[derive(Clone)]
pub(super) struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some(label)
    }
}

/// What a client can take by EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    pub udp_size: u16,
    pub version: u8,
    pub dnssec_ok: bool,
}

/// A question, with the packet it came in.
pub(super) struct Query<'a> {
    pub packet: &'a [u8],
    pub name: Name,
    pub kind: u16,
    pub class: u16,
    pub edns: Option<Edns>,
    question_end: usize,
}

impl Query<'_> {
    /// The question as it came: its name in the client's spelling.
    pub fn question(&self) -> &[u8] {
        &self.packet[HEADER_LEN..self.question_end]
    }
}

/// What cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// No query at all: silence.
    Ignore,
    /// A query that is wrong: this verdict, with its header.
    Refuse(Rcode),
}

/// Reads a query with one question.
pub(super) fn parse(packet: &[u8]) -> Result<Query<'_>, Unreadable> {
    let header = packet.get(..HEADER_LEN).ok_or(Unreadable::Ignore)?;
    if header[2] & 0x80 != 0 {
        return Err(Unreadable::Ignore);
    }
    if header[2] & 0x78 != 0 {
        return Err(Unreadable::Refuse(Rcode::NotImp));
    }
    question(packet).ok_or(Unreadable::Refuse(Rcode::FormErr))
}

fn question(packet: &[u8]) -> Option<Query<'_>> {
    if u16_at(packet, 4)? != 1 {
        return None;
    }
    let (name, end) = plain_name(packet, HEADER_LEN)?;
    let (kind, class) = (u16_at(packet, end)?, u16_at(packet, end + 2)?);
    let mut query = Query { packet, name, kind, class, edns: None, question_end: end + 4 };
    let mut position = query.question_end;
    for _ in 0..u16_at(packet, 6)?.checked_add(u16_at(packet, 8)?)? {
        position = record(packet, position)?.end;
    }
    for _ in 0..u16_at(packet, 10)? {
        let record = record(packet, position)?;
        if record.kind == OPT {
            let [_, version, flags, _] = record.ttl.to_be_bytes();
            // The second of two OPT records is an error after RFC 6891.
            if query.edns.is_some() {
                return None;
            }
            query.edns = Some(Edns { udp_size: record.class, version, dnssec_ok: flags & 0x80 != 0 });
        }
        position = record.end;
    }
    Some(query)
}

/// An uncompressed name, as in a question, and where it ends.
fn plain_name(packet: &[u8], start: usize) -> Option<(Name, usize)> {
    let mut name = Name::empty();
    let mut position = start;
    loop {
        let length = *packet.get(position)?;
        position += 1;
        match length {
            0 => return Some((name, position)),
            1..=63 => {
                let end = position + usize::from(length);
                name.push(packet.get(position..end)?)?;
                position = end;
            }
            _ => return None,
        }
    }
}

/// A name that may be compressed. Pointers only lead backwards, so this ends.
pub(super) fn any_name(packet: &[u8], start: usize) -> Option<Name> {
    let mut name = Name::empty();
    let mut position = start;
    let mut lowest = start;
    loop {
        let length = *packet.get(position)?;
        match length {
            0 => return Some(name),
            1..=63 => {
                let end = position + 1 + usize::from(length);
                name.push(packet.get(position + 1..end)?)?;
                position = end;
            }
            192..=255 => {
                let target = usize::from(u16_at(packet, position)? & 0x3fff);
                if target >= lowest {
                    return None;
                }
                (position, lowest) = (target, target);
            }
            _ => return None,
        }
    }
}

/// A record in a message, by its places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub start: usize,
    pub kind: u16,
    pub class: u16,
    pub ttl: u32,
    /// Where its time to live stands.
    pub ttl_at: usize,
    /// Where its data starts.
    pub data: usize,
    pub end: usize,
}

pub(super) fn record(packet: &[u8], start: usize) -> Option<Record> {
    let at = skip_name(packet, start)?;
    let length = usize::from(u16_at(packet, at + 8)?);
    let (data, end) = (at + 10, at + 10 + length);
    packet.get(data..end)?;
    let ttl = u32::from_be_bytes(packet.get(at + 4..at + 8)?.try_into().ok()?);
    Some(Record {
        start,
        kind: u16_at(packet, at)?,
        class: u16_at(packet, at + 2)?,
        ttl,
        ttl_at: at + 4,
        data,
        end,
    })
}

fn skip_name(packet: &[u8], start: usize) -> Option<usize> {
    let mut position = start;
    loop {
        match *packet.get(position)? {
            0 => return Some(position + 1),
            length @ 1..=63 => position += 1 + usize::from(length),
            192..=255 => return Some(position + 2),
            _ => return None,
        }
    }
}

pub(super) fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
}

/// The records of an answer from elsewhere, by section; None if it is malformed or answers another question.
pub(super) struct Response {
    pub rcode: u8,
    pub truncated: bool,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

pub(super) fn parse_response(packet: &[u8], query: &Query<'_>) -> Option<Response> {
    let header = packet.get(..HEADER_LEN)?;
    let (name, end) = plain_name(packet, HEADER_LEN)?;
    let same = header[2] & 0x80 != 0
        && header[..2] == query.packet[..2]
        && u16_at(packet, 4)? == 1
        && name == query.name
        && u16_at(packet, end)? == query.kind
        && u16_at(packet, end + 2)? == query.class;
    if !same {
        return None;
    }
    let mut position = end + 4;
    let mut section = |at| -> Option<Vec<Record>> {
        let mut records = Vec::new();
        for _ in 0..u16_at(packet, at)? {
            let record = record(packet, position)?;
            position = record.end;
            records.push(record);
        }
        Some(records)
    };
    Some(Response {
        rcode: header[3] & 0x0f,
        truncated: header[2] & 0x02 != 0,
        answers: section(6)?,
        authority: section(8)?,
        additional: section(10)?,
    })
}

/// A query for one name, as a client without EDNS sends it.
pub(super) fn encode_query(id: u16, name: &Name, kind: u16) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER_LEN + name.bytes().len() + 5);
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(name.bytes());
    packet.push(0);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&CLASS_IN.to_be_bytes());
    packet
}

/// Reads bytes as a query; says whether they were one. For fuzzing.
pub fn fuzz_query(packet: &[u8]) -> bool {
    parse(packet).is_ok_and(|query| !query.question().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pointer_to_itself_is_refused() {
        let mut packet = encode_query(7, &Name::from_text("a.b").unwrap(), A);
        packet.extend_from_slice(&[0xc0, 21]);
        assert!(any_name(&packet, packet.len() - 2).is_none());
        assert!(parse(&packet[..11]).is_err_and(|error| error == Unreadable::Ignore));
        let refused = parse(&packet[..16]).err();
        assert_eq!(refused, Some(Unreadable::Refuse(Rcode::FormErr)));
    }

    #[test]
    fn names_have_their_limits() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(Name::from_text(&longest).unwrap().bytes().len(), 254);
        assert!(Name::from_text(&format!("{longest}a")).is_none());
        assert!(Name::from_text(&"a".repeat(64)).is_none());
        assert!(Name::from_text("a..b").is_none());
    }

    proptest! {
        #[test]
        fn outside_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let query = encode_query(u16::from_be_bytes([bytes.first().copied().unwrap_or(0), 0]), &Name::from_text("x").unwrap(), A);
            let query = parse(&query).unwrap_or_else(|_| unreachable!());
            let _parsed = parse(&bytes);
            let _response = parse_response(&bytes, &query);
            for start in 0..bytes.len() {
                let _name = any_name(&bytes, start);
                let _record = record(&bytes, start);
            }
        }
    }
}
