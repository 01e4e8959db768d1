//! What load balancers ask a node: whether it has endpoints of a service with the Local policy. One small HTTP listener per health
//! check port; any request hears the same.

use crate::proxy::HealthCheck;
use nauplius_base::task::{self, CancellationToken};
use nauplius_base::time;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

const REQUEST_MAX: usize = 8192;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: usize = 32;

struct Listener {
    state: watch::Sender<HealthCheck>,
    shutdown: CancellationToken,
}

/// The listeners; they end with this.
#[derive(Default)]
pub(crate) struct HealthChecks(BTreeMap<u16, Listener>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl HealthChecks {
    /// Brings the listeners to `wanted`. A port that is taken is tried again with the next change.
    pub async fn update(&mut self, wanted: &BTreeMap<u16, HealthCheck>, ipv6: bool) {
        self.0.retain(|port, _| wanted.contains_key(port));
        for (port, check) in wanted {
            if let Some(listener) = self.0.get(port) {
                listener.state.send_replace(check.clone());
                continue;
            }
            match listen(*port, check.clone(), ipv6).await {
                Ok(listener) => drop(self.0.insert(*port, listener)),
                Err(error) => tracing::warn!(port, %error, "a health check port cannot be opened"),
            }
        }
    }
}

async fn listen(port: u16, check: HealthCheck, ipv6: bool) -> io::Result<Listener> {
    let any = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = TcpListener::bind(SocketAddr::new(any, port)).await?;
    let (state, receiver) = watch::channel(check);
    let shutdown = CancellationToken::new();
    task::spawn("health-check", serve(socket, receiver, shutdown.clone()));
    Ok(Listener { state, shutdown })
}

async fn serve(socket: TcpListener, state: watch::Receiver<HealthCheck>, shutdown: CancellationToken) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(accepted) = shutdown.run_until_cancelled(socket.accept()).await {
        let Ok((stream, _)) = accepted else {
            // The client went away, or descriptors are short; others still come.
            time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Above the limit the connection is closed: the load balancer asks again.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
        let answer = render(&state.borrow());
        task::spawn("health-check-connection", async move {
            let _permit = permit;
            if let Ok(Err(error)) = time::timeout(REQUEST_TIMEOUT, converse(stream, &answer)).await {
                tracing::debug!(%error, "a health check connection broke");
            }
        });
    }
}

/// As upstream's proxy answers.
fn render(check: &HealthCheck) -> String {
    let HealthCheck { namespace, name, local_endpoints } = check;
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\"localEndpoints\": {local_endpoints},\n\t\"serviceProxyHealthy\": true\n}}"
    );
    let status = if *local_endpoints > 0 { "200 OK" } else { "503 Service Unavailable" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {local_endpoints}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn converse(mut stream: TcpStream, answer: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut chunk).await?;
        if length == 0 || request.len() + length > REQUEST_MAX {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..length]);
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
