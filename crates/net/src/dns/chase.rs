//! The rest of an answer that leads out of the cluster: addresses of a name outside, from an upstream's answer, written with full
//! names because theirs are compressed against another message.

use super::reply::put_wire_name;
use super::wire::{self, A, AAAA, CLASS_IN, CNAME, HEADER_LEN, Query};

/// Appends the aliases and addresses of an upstream's answer to `reply`, a finished answer without additional records but
/// EDNS. What does not fit `limit` is left out and the answer says so. None: the upstream's answer makes no sense.
pub(super) fn append(reply: &mut Vec<u8>, limit: usize, upstream: &[u8], query: &Query<'_>) -> Option<()> {
    let response = wire::parse_response(upstream, query)?;
    let had_edns = wire::u16_at(reply, 10)? > 0;
    let edns = if had_edns { reply.split_off(reply.len().checked_sub(11)?) } else { Vec::new() };
    let mut answers = wire::u16_at(reply, 6)?;
    for record in response.answers.iter().filter(|record| record.class == CLASS_IN) {
        let start = reply.len();
        put_wire_name(reply, &wire::any_name(upstream, record.start)?);
        for number in [record.kind, record.class] {
            reply.extend_from_slice(&number.to_be_bytes());
        }
        reply.extend_from_slice(&record.ttl.to_be_bytes());
        match record.kind {
            A | AAAA => put_data(reply, &upstream[record.data..record.end])?,
            CNAME => {
                let mut target = wire::any_name(upstream, record.data)?.bytes().to_vec();
                target.push(0);
                put_data(reply, &target)?;
            }
            _ => {
                reply.truncate(start);
                continue;
            }
        }
        if reply.len() + edns.len() > limit {
            reply.truncate(start);
            reply[2] |= 2;
            break;
        }
        answers += 1;
    }
    reply[6..8].copy_from_slice(&answers.to_be_bytes());
    reply.extend_from_slice(&edns);
    debug_assert!(reply.len() >= HEADER_LEN);
    Some(())
}

fn put_data(reply: &mut Vec<u8>, data: &[u8]) -> Option<()> {
    reply.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
    reply.extend_from_slice(data);
    Some(())
}
