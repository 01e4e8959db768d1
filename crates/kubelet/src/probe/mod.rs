//! Asks a container how it is: by a command, an HTTP request, a connection or a gRPC call. It decides nothing.

pub mod grpc;
pub mod hook;
pub mod http;
mod location;
mod tls;

use crate::pod::facts;
use crate::pod::probes::{Answer, Due, definition};
use nauplius_base::dial::dial;
use nauplius_base::time;
use nauplius_cri::{Code, RuntimeService, v1};
use nauplius_kinds::api::IntOrString;
use nauplius_kinds::api::core::{Container, Pod};
use std::time::Duration;

/// Longer output of a probe is cut, as upstream does.
pub const OUTPUT_MAX: usize = 10 * 1024;

/// A port by its number or its name in the container.
pub fn port(container: &Container, wanted: &IntOrString) -> Result<u16, String> {
    let number = match wanted {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(text));
            let number = named.map_or_else(|| text.parse(), |port| Ok(port.container_port));
            number.map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))?
        }
    };
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("invalid port number: {number}")),
    }
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
        return match port(container, &action.port) {
            Ok(port) => connect(host, port, limit).await,
            Err(error) => Answer::Unknown(error),
        };
    }
    match &probe.grpc {
        Some(action) => grpc::probe(action, ip, limit).await,
        None => Answer::Unknown(format!("missing probe handler for {}", due.name)),
    }
}

async fn connect(host: &str, port: u16, limit: Duration) -> Answer {
    match time::timeout(limit, dial(host, port, limit)).await {
        Ok(Ok(_)) => Answer::Success,
        Ok(Err(error)) => Answer::Failure(error.to_string()),
        // Only names can take longer than their addresses.
        Err(_) => Answer::Failure(format!("dial tcp: lookup {host}: i/o timeout")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::api::core::ContainerPort;

    #[test]
    fn ports_go_by_number_and_name() {
        let named =
            ContainerPort { name: Some("web".to_owned()), container_port: 8080, ..ContainerPort::default() };
        let container = Container { ports: Some(vec![named]), ..Container::default() };
        let check = |wanted: IntOrString, expected: Result<u16, &str>| {
            assert_eq!(port(&container, &wanted), expected.map_err(str::to_owned));
        };
        check(IntOrString::Int(80), Ok(80));
        check(IntOrString::String("web".to_owned()), Ok(8080));
        check(IntOrString::String("81".to_owned()), Ok(81));
        check(IntOrString::String("api".to_owned()), Err("strconv.Atoi: parsing \"api\": invalid syntax"));
        check(IntOrString::Int(70_000), Err("invalid port number: 70000"));
    }
}
