//! The sockets: queries by UDP and TCP on given addresses. Bounded in connections and in the size of a query; an answer that
//! must wait for an upstream waits in a task of its own.

use super::counters::count;
use super::resolver::{Resolver, Step, Transport};
use nauplius_base::task::{self, CancellationToken};
use nauplius_base::time;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// The longest query read; real ones are far shorter.
const QUERY_MAX: usize = 4096;
const TCP_CONNECTIONS_MAX: usize = 256;
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Queries answered in a row before other tasks get their turn.
const BURST: usize = 64;

/// Bound sockets, not answering yet.
pub struct Server {
    sockets: Vec<(Arc<UdpSocket>, TcpListener)>,
}

impl Server {
    /// Binds UDP and TCP on each address. Port 0 takes a free one, the same for both.
    ///
    /// # Errors
    /// An address is not this machine's, or its port is taken.
    pub async fn bind(addresses: &[SocketAddr]) -> io::Result<Self> {
        let mut sockets = Vec::new();
        for address in addresses {
            let udp = UdpSocket::bind(*address).await?;
            let tcp = TcpListener::bind(udp.local_addr()?).await?;
            sockets.push((Arc::new(udp), tcp));
        }
        Ok(Self { sockets })
    }

    /// The addresses it is bound to.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(|(udp, _)| udp.local_addr()).collect()
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// A socket fails for good.
    pub async fn run(self, resolver: Arc<Resolver>, shutdown: CancellationToken) -> io::Result<()> {
        let probing = Arc::clone(&resolver);
        let probe = task::spawn("dns-loop-probe", async move { probing.forwarder().probe().await });
        let connections = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
        let mut tasks = Vec::new();
        for (udp, tcp) in self.sockets {
            tasks.push(task::spawn("dns-udp", serve_udp(udp, Arc::clone(&resolver), shutdown.clone())));
            let (resolver, connections) = (Arc::clone(&resolver), Arc::clone(&connections));
            tasks.push(task::spawn("dns-tcp", serve_tcp(tcp, resolver, connections, shutdown.clone())));
        }
        for task in tasks {
            task.await.map_err(io::Error::other)??;
        }
        probe.abort();
        Ok(())
    }
}

async fn serve_udp(
    socket: Arc<UdpSocket>,
    resolver: Arc<Resolver>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let mut packet = vec![0; QUERY_MAX];
    let mut out = Vec::with_capacity(QUERY_MAX);
    while let Some(ready) = shutdown.run_until_cancelled(socket.readable()).await {
        ready?;
        for _ in 0..BURST {
            match socket.try_recv_from(&mut packet) {
                Ok((length, from)) => answer_udp(&socket, &resolver, &packet[..length], from, &mut out).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An earlier answer could not be delivered: the client went away.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

async fn answer_udp(
    socket: &Arc<UdpSocket>,
    resolver: &Arc<Resolver>,
    packet: &[u8],
    from: SocketAddr,
    out: &mut Vec<u8>,
) {
    match resolver.step(packet, Transport::Udp, out) {
        Step::Ignore => {}
        Step::Reply => send(socket, out, from).await,
        Step::Wait(pending) => {
            let (socket, resolver) = (Arc::clone(socket), Arc::clone(resolver));
            task::spawn("dns-forward", async move {
                let answer = resolver.finish(pending).await;
                send(&socket, &answer, from).await;
            });
        }
    }
}

/// An answer that cannot be sent is lost, as any datagram may be; the client asks again.
async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    let sent = match socket.try_send_to(answer, to) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.send_to(answer, to).await,
        sent => sent,
    };
    if let Err(error) = sent {
        tracing::debug!(%to, %error, "a DNS answer could not be sent");
    }
}

async fn serve_tcp(
    listener: TcpListener,
    resolver: Arc<Resolver>,
    connections: Arc<Semaphore>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or the client went away while it was connecting: others still come.
                tracing::warn!(%error, "a DNS connection could not be accepted");
                time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            count(&resolver.counters().tcp_overflows);
            continue;
        };
        let (resolver, shutdown) = (Arc::clone(&resolver), shutdown.clone());
        task::spawn("dns-connection", async move {
            let _permit = permit;
            // However a connection ends, it ends.
            if let Some(Err(error)) = shutdown.run_until_cancelled(converse(stream, &resolver)).await {
                tracing::debug!(%error, "a DNS connection ended");
            }
        });
    }
    Ok(())
}

async fn converse(mut stream: TcpStream, resolver: &Resolver) -> io::Result<()> {
    let mut out = Vec::new();
    loop {
        let packet = time::timeout(TCP_IDLE, read_query(&mut stream)).await??;
        match resolver.step(&packet, Transport::Tcp, &mut out) {
            Step::Ignore => return Ok(()),
            Step::Reply => {}
            Step::Wait(pending) => out = resolver.finish(pending).await,
        }
        let length = u16::try_from(out.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&out);
        time::timeout(TCP_IDLE, stream.write_all(&framed)).await??;
    }
}

async fn read_query(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUERY_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the query is too long"));
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}
