//! Asks a container how it is: by a command, an HTTP request, a connection or a gRPC call. It decides nothing.

pub mod grpc;
pub mod hook;
pub mod http;
mod tls;

use crate::pod::facts;
use crate::pod::probes::{Answer, Due, definition};
use nauplius_base::{errno, time};
use nauplius_cri::{Code, RuntimeService, v1};
use nauplius_kinds::api::IntOrString;
use nauplius_kinds::api::core::{Container, Pod};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// Longer output of a probe is cut, as upstream does.
pub const OUTPUT_MAX: usize = 10 * 1024;

/// A port by its number or its name in the container.
pub fn port(container: &Container, wanted: &IntOrString) -> Result<u16, String> {
    let number = match wanted {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(text));
            named.map(|port| port.container_port).or_else(|| text.parse().ok()) // Neither name nor number: refused below.
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| format!("couldn't find port: {wanted:?}"))
}

/// Runs a probe once.
pub async fn run(runtime: &dyn RuntimeService, pod: &Pod, due: &Due, ip: &str) -> Answer {
    let (Some(probe), Some((container, _))) =
        (definition(pod, &due.name, due.kind), facts::container(pod, &due.name))
    else {
        return Answer::Unknown("the container has no such probe".to_owned());
    };
    let limit = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1));
    if let Some(action) = &probe.exec {
        return exec(runtime, &due.id, action.command.clone().unwrap_or_default(), limit).await;
    }
    if let Some(action) = &probe.http_get {
        return http::probe(container, action, ip, limit).await;
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip);
        return match address(host, port(container, &action.port)) {
            Ok(address) => connect(address, limit).await,
            Err(error) => Answer::Unknown(error),
        };
    }
    match &probe.grpc {
        Some(action) => grpc::probe(action, ip, limit).await,
        None => Answer::Unknown(format!("missing probe handler for {}", due.name)),
    }
}

/// Addresses only: names would need a resolver of the pod's.
pub fn address(host: &str, port: Result<u16, String>) -> Result<SocketAddr, String> {
    let ip: IpAddr = host.parse().map_err(|_| format!("host {host:?} is not an IP address"))?;
    Ok(SocketAddr::new(ip, port?))
}

async fn connect(address: SocketAddr, limit: Duration) -> Answer {
    match time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Answer::Success,
        Ok(Err(error)) => Answer::Failure(format!("dial tcp {address}: connect: {}", errno::words(&error))),
        Err(_) => Answer::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn exec(runtime: &dyn RuntimeService, id: &str, cmd: Vec<String>, limit: Duration) -> Answer {
    let text = cmd.join(" ");
    let timeout = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout };
    match runtime.exec_sync(request).await {
        Ok(answer) if answer.exit_code == 0 => Answer::Success,
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend(answer.stderr);
            output.truncate(OUTPUT_MAX);
            Answer::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.code == Code::DeadlineExceeded => {
            Answer::Failure(format!("command timed out: {text:?} timed out after {}s", limit.as_secs()))
        }
        Err(error) => Answer::Unknown(error.to_string()),
    }
}
