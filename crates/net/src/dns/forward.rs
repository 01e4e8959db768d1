//! Passing questions on to the host's resolvers. Bounded in how many are under way; an upstream that turns out to be ourselves is
//! not asked again.

use super::wire::{self, HINFO, Name, Query};
use nauplius_base::{id, time};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Questions under way at once, as CoreDNS's default configuration has it.
const IN_FLIGHT_MAX: usize = 1000;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// Tries over all upstreams; a client waits five seconds.
const ATTEMPTS: usize = 2;
const UDP_ANSWER_MAX: usize = 4096;

struct Upstream {
    address: SocketAddr,
    /// A name that only we ask it for: if we are asked for it, our questions come back to us.
    probe: Name,
    looped: AtomicBool,
}

/// The host's resolvers.
pub struct Forwarder {
    upstreams: Vec<Upstream>,
    in_flight: Arc<Semaphore>,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    #[error("there is no upstream resolver")]
    NoUpstream,
    #[error("no upstream answered in time")]
    Timeout,
    #[error("the upstream's answer is malformed")]
    Malformed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Forwarder {
    /// To these resolvers; none means that questions about names outside the cluster fail.
    pub fn new(upstreams: Vec<SocketAddr>) -> Self {
        let upstreams = upstreams.into_iter().filter_map(|address| {
            let probe = Name::from_text(&format!("{}.{}", id::random_u64(), id::random_u64()))?;
            Some(Upstream { address, probe, looped: AtomicBool::new(false) })
        });
        Self { upstreams: upstreams.collect(), in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)) }
    }

    /// Resolvers that lead back to us.
    pub fn looped(&self) -> Vec<SocketAddr> {
        let looped = self.upstreams.iter().filter(|upstream| upstream.looped.load(Ordering::Relaxed));
        looped.map(|upstream| upstream.address).collect()
    }

    /// A place among the questions under way, if there is one.
    pub(super) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.in_flight).try_acquire_owned().ok()
    }

    /// Whether this query is our own probe; then the upstream it went to is not asked again.
    pub(super) fn is_probe(&self, query: &Query<'_>) -> bool {
        let came_back = |upstream: &&Upstream| query.kind == HINFO && upstream.probe == query.name;
        let Some(upstream) = self.upstreams.iter().find(came_back) else { return false };
        if !upstream.looped.swap(true, Ordering::Relaxed) {
            tracing::warn!(upstream = %upstream.address, "a resolver leads back to cluster DNS and is left out");
        }
        true
    }

    /// Asks every upstream for its probe. Whatever they answer is right; only the question coming back to us tells.
    pub(super) async fn probe(&self) {
        for upstream in &self.upstreams {
            let packet = wire::encode_query(random_id(), &upstream.probe, HINFO);
            if let Err(error) = self.ask(upstream.address, &packet, false).await {
                tracing::debug!(upstream = %upstream.address, %error, "a resolver did not answer the loop probe");
            }
        }
    }

    /// The answer to `query`, by the transport that the client used, so that it fits the client.
    pub(super) async fn exchange(&self, query: &Query<'_>, tcp: bool) -> Result<Vec<u8>, ForwardError> {
        let usable: Vec<_> =
            self.upstreams.iter().filter(|upstream| !upstream.looped.load(Ordering::Relaxed)).collect();
        if usable.is_empty() {
            return Err(ForwardError::NoUpstream);
        }
        let mut packet = query.packet.to_vec();
        packet[..2].copy_from_slice(&random_id().to_be_bytes());
        let start = id::below(usable.len() as u64) as usize;
        let mut last = ForwardError::NoUpstream;
        for attempt in 0..ATTEMPTS.max(usable.len()).min(3) {
            let upstream = usable[(start + attempt) % usable.len()];
            match self.ask(upstream.address, &packet, tcp).await {
                Ok(mut answer) => {
                    answer[..2].copy_from_slice(&query.packet[..2]);
                    return Ok(answer);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask(&self, upstream: SocketAddr, packet: &[u8], tcp: bool) -> Result<Vec<u8>, ForwardError> {
        let Ok(query) = wire::parse(packet) else { return Err(ForwardError::Malformed) };
        let asking = async {
            if tcp { ask_tcp(upstream, packet).await } else { ask_udp(upstream, packet, &query).await }
        };
        let answer = time::timeout(ATTEMPT_TIMEOUT, asking).await.map_err(|_| ForwardError::Timeout)??;
        match wire::parse_response(&answer, &query) {
            Some(_) => Ok(answer),
            None => Err(ForwardError::Malformed),
        }
    }
}

fn random_id() -> u16 {
    (id::random_u64() & 0xffff) as u16
}

/// From a port of its own, which is as hard to guess as the number; answers to something else are passed over.
async fn ask_udp(upstream: SocketAddr, packet: &[u8], query: &Query<'_>) -> Result<Vec<u8>, ForwardError> {
    let any = if upstream.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let local: SocketAddr = any.parse().map_err(io::Error::other)?;
    let socket = UdpSocket::bind(local).await?;
    socket.connect(upstream).await?;
    socket.send(packet).await?;
    let mut answer = vec![0; UDP_ANSWER_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        if wire::parse_response(&answer[..length], query).is_some() {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, packet: &[u8]) -> Result<Vec<u8>, ForwardError> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(packet.len()).map_err(|_| ForwardError::Malformed)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(packet);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
