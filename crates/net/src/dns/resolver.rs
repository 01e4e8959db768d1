//! From a packet to an answer: the zone first, then the cache, then an upstream. Everything that can be answered at once is,
//! without waiting; only forwarding waits.

use super::answer::{Answered, answer};
use super::cache::Cache;
use super::chase;
use super::counters::{Counters, count};
use super::forward::Forwarder;
use super::reply::{Reply, refuse, udp_limit};
use super::wire::{self, Name, Query, Rcode, Unreadable};
use super::zone::Zone;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, watch};

/// The upper bits of BADVERS.
const BAD_VERSION: u8 = 1;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What to do with a query.
pub(super) enum Step {
    /// Send what was written.
    Reply,
    /// Nothing.
    Ignore,
    /// Wait for an upstream: [`Resolver::finish`].
    Wait(Box<Pending>),
}

/// A query that an upstream must answer.
pub(super) struct Pending {
    packet: Vec<u8>,
    transport: Transport,
    /// The answer so far, and the name outside the cluster that it leads to.
    leads_to: Option<(Vec<u8>, Box<Name>)>,
    _permit: OwnedSemaphorePermit,
}

/// Everything that answers are made from. Shared by all sockets.
pub struct Resolver {
    zone: watch::Receiver<Arc<Zone>>,
    forwarder: Forwarder,
    // Held for a lookup or an insertion, never across an await.
    cache: Mutex<Cache>,
    counters: Counters,
    turn: AtomicUsize,
}

impl Resolver {
    /// Answers from the newest zone that `zone` has, and asks `forwarder` for everything else.
    pub fn new(zone: watch::Receiver<Arc<Zone>>, forwarder: Forwarder) -> Self {
        let (cache, counters, turn) = (Mutex::default(), Counters::default(), AtomicUsize::new(0));
        Self { zone, forwarder, cache, counters, turn }
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where questions are passed on to.
    pub fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// Whether the cluster's names are known.
    pub fn is_ready(&self) -> bool {
        self.zone.borrow().is_ready()
    }

    /// Writes the answer to `packet` into `out`, or says what else is to be done.
    pub(super) fn step(&self, packet: &[u8], transport: Transport, out: &mut Vec<u8>) -> Step {
        count(match transport {
            Transport::Udp => &self.counters.udp_queries,
            Transport::Tcp => &self.counters.tcp_queries,
        });
        let query = match wire::parse(packet) {
            Ok(query) => query,
            Err(unreadable) => return self.unreadable(unreadable, packet, out),
        };
        let limit = limit(&query, transport);
        let mut reply = Reply::new(&query, limit, out);
        if query.edns.is_some_and(|edns| edns.version != 0) {
            reply.finish_extended(0, BAD_VERSION);
            return Step::Reply;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let zone = Arc::clone(&self.zone.borrow());
        match answer(&zone, &query, turn, &mut reply) {
            Answered::Done(rcode) => {
                reply.finish(rcode);
                self.count_verdict(rcode as u8);
                Step::Reply
            }
            Answered::Elsewhere => self.elsewhere(&query, transport, out),
            Answered::LeadsTo(name) => {
                reply.finish(Rcode::NoError);
                self.wait(&query, transport, Some(name), out)
            }
        }
    }

    fn unreadable(&self, unreadable: Unreadable, packet: &[u8], out: &mut Vec<u8>) -> Step {
        count(&self.counters.malformed);
        match unreadable {
            Unreadable::Ignore => Step::Ignore,
            Unreadable::Refuse(rcode) => {
                refuse(packet, rcode, out);
                Step::Reply
            }
        }
    }

    fn elsewhere(&self, query: &Query<'_>, transport: Transport, out: &mut Vec<u8>) -> Step {
        if self.forwarder.is_probe(query) {
            return self.verdict(query, Rcode::Refused, transport, out);
        }
        if self.cached(query, out) {
            self.fit(query, transport, out);
            return Step::Reply;
        }
        self.wait(query, transport, None, out)
    }

    fn cached(&self, query: &Query<'_>, out: &mut Vec<u8>) -> bool {
        let hit = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(query, out);
        count(if hit { &self.counters.cache_hits } else { &self.counters.cache_misses });
        if hit {
            self.count_verdict(out[3] & 0x0f);
        }
        hit
    }

    fn wait(
        &self,
        query: &Query<'_>,
        transport: Transport,
        target: Option<Box<Name>>,
        out: &mut Vec<u8>,
    ) -> Step {
        let Some(permit) = self.forwarder.permit() else {
            count(&self.counters.forward_overflows);
            return self.verdict(query, Rcode::Refused, transport, out);
        };
        let leads_to = target.map(|name| (std::mem::take(out), name));
        Step::Wait(Box::new(Pending { packet: query.packet.to_vec(), transport, leads_to, _permit: permit }))
    }

    fn verdict(&self, query: &Query<'_>, rcode: Rcode, transport: Transport, out: &mut Vec<u8>) -> Step {
        Reply::new(query, limit(query, transport), out).finish(rcode);
        self.count_verdict(rcode as u8);
        Step::Reply
    }

    /// The answer to a query that had to wait.
    pub(super) async fn finish(&self, pending: Box<Pending>) -> Vec<u8> {
        let Pending { packet, transport, leads_to, _permit } = *pending;
        let mut out = Vec::new();
        // It was read once already; it is read again rather than kept, because it borrows from the packet.
        let Ok(query) = wire::parse(&packet) else { return out };
        match leads_to {
            None => match self.forward(&query, transport).await {
                Some(answer) => {
                    out = answer;
                    self.fit(&query, transport, &mut out);
                }
                None => drop(self.verdict(&query, Rcode::ServFail, transport, &mut out)),
            },
            Some((reply, target)) => {
                out = reply;
                self.chase(&query, transport, &target, &mut out).await;
            }
        }
        out
    }

    /// Adds what the name outside leads to; what cannot be learned is left out, the alias itself is true.
    async fn chase(&self, query: &Query<'_>, transport: Transport, target: &Name, out: &mut Vec<u8>) {
        let question = wire::encode_query(0, target, query.kind);
        let Ok(question) = wire::parse(&question) else { return };
        let mut answer = Vec::new();
        if !self.cached(&question, &mut answer) {
            match self.forward(&question, transport).await {
                Some(forwarded) => answer = forwarded,
                None => return,
            }
        }
        if chase::append(out, limit(query, transport), &answer, &question).is_none() {
            tracing::debug!("an upstream's answer about an external name makes no sense");
        }
    }

    async fn forward(&self, query: &Query<'_>, transport: Transport) -> Option<Vec<u8>> {
        count(&self.counters.forwarded);
        match self.forwarder.exchange(query, transport == Transport::Tcp).await {
            Ok(answer) => {
                self.count_verdict(answer[3] & 0x0f);
                self.cache.lock().unwrap_or_else(PoisonError::into_inner).put(query, &answer);
                Some(answer)
            }
            Err(error) => {
                tracing::debug!(%error, "a question could not be passed on");
                count(&self.counters.forward_failures);
                None
            }
        }
    }

    /// Cuts an answer from elsewhere that the client cannot take to its question, with the truncation flag.
    fn fit(&self, query: &Query<'_>, transport: Transport, out: &mut Vec<u8>) {
        let limit = limit(query, transport);
        if out.len() <= limit {
            return;
        }
        let (flags, verdict) = (out[2], out[3]);
        Reply::new(query, limit, out).finish(Rcode::NoError);
        (out[2], out[3]) = (flags | 2, verdict);
    }

    fn count_verdict(&self, rcode: u8) {
        count(match rcode {
            0 => &self.counters.no_error,
            3 => &self.counters.nx_domain,
            2 => &self.counters.server_failure,
            _ => &self.counters.refused,
        });
    }
}

fn limit(query: &Query<'_>, transport: Transport) -> usize {
    match transport {
        Transport::Udp => udp_limit(query),
        Transport::Tcp => usize::from(u16::MAX),
    }
}
