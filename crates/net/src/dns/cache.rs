//! Answers from elsewhere, kept for a short while. Bounded by entries and bytes: it has two generations, and when the young one is
//! full the old one is forgotten; what is used comes back into the young one.

use super::wire::{self, HEADER_LEN, Query, Rcode};
use nauplius_base::time::{Instant, monotonic};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Entries of one generation.
const ENTRIES_MAX: usize = 1024;
/// Longer answers are not kept.
const ANSWER_MAX: usize = 2048;
/// No answer is kept longer, whatever its time to live.
const TTL_MAX_S: u32 = 30;

/// Name in lower case, type, class, and whether EDNS and DNSSEC were asked for.
type Key = (Box<[u8]>, u16, u16, u8);

struct Entry {
    packet: Vec<u8>,
    ttl_places: Vec<u16>,
    stored: Instant,
    lifetime: Duration,
}

#[derive(Default)]
pub(super) struct Cache {
    young: HashMap<Key, Arc<Entry>>,
    old: HashMap<Key, Arc<Entry>>,
}

fn key(query: &Query<'_>) -> Key {
    let edns = query.edns.map_or(0, |edns| 1 + u8::from(edns.dnssec_ok));
    let checking = query.packet.get(3).map_or(0, |flags| flags & 0x10);
    (query.name.bytes().into(), query.kind, query.class, edns | checking)
}

impl Cache {
    /// Writes the answer into `out`, with what is left of its time. False: there is none.
    pub fn get(&mut self, query: &Query<'_>, out: &mut Vec<u8>) -> bool {
        let key = key(query);
        let Some(entry) = self.young.get(&key).or_else(|| self.old.get(&key)).map(Arc::clone) else {
            return false;
        };
        let age = monotonic().duration_since(entry.stored);
        if age >= entry.lifetime {
            self.young.remove(&key);
            self.old.remove(&key);
            return false;
        }
        entry.write(query, age, out);
        if self.old.remove(&key).is_some() {
            self.insert(key, entry);
        }
        true
    }

    /// Keeps an upstream's answer to `query`, if it is one to keep.
    pub fn put(&mut self, query: &Query<'_>, packet: &[u8]) {
        if let Some(entry) = entry(query, packet) {
            self.insert(key(query), Arc::new(entry));
        }
    }

    fn insert(&mut self, key: Key, entry: Arc<Entry>) {
        if self.young.len() >= ENTRIES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}

impl Entry {
    fn write(&self, query: &Query<'_>, age: Duration, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.packet);
        out[..2].copy_from_slice(&query.packet[..2]);
        out[2] = (out[2] & !1) | (query.packet[2] & 1);
        // The same question, maybe spelled otherwise.
        let question = query.question();
        out[HEADER_LEN..HEADER_LEN + question.len()].copy_from_slice(question);
        let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        for place in &self.ttl_places {
            let place = usize::from(*place);
            let Some(ttl) = out.get_mut(place..place + 4) else { continue };
            let left = u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]).saturating_sub(age);
            ttl.copy_from_slice(&left.to_be_bytes());
        }
    }
}

fn entry(query: &Query<'_>, packet: &[u8]) -> Option<Entry> {
    let response = wire::parse_response(packet, query)?;
    let verdict_is_lasting = [Rcode::NoError as u8, Rcode::NxDomain as u8].contains(&response.rcode);
    if response.truncated || !verdict_is_lasting || packet.len() > ANSWER_MAX {
        return None;
    }
    let all = [&response.answers, &response.authority, &response.additional].into_iter().flatten();
    let lasting: Vec<_> = all.filter(|record| record.kind != wire::OPT).collect();
    // Without any record there is nothing that says how long it holds.
    let ttl = lasting.iter().map(|record| record.ttl).min()?.min(TTL_MAX_S);
    let ttl_places =
        lasting.iter().map(|record| u16::try_from(record.ttl_at)).collect::<Result<_, _>>().ok()?;
    let lifetime = Duration::from_secs(u64::from(ttl));
    (ttl > 0).then(|| Entry { packet: packet.to_vec(), ttl_places, stored: monotonic(), lifetime })
}
