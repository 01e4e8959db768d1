//! Exec, attach and port-forward: the runtime is asked for an endpoint, and the client's upgraded connection is spliced to it.

use super::Server;
use super::answer::{Answer, bytes, full, text};
use super::container::NO_POD;
use super::route::{Query, Target};
use crate::names;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use nauplius_base::task::spawn;
use nauplius_cri::{CriError, v1};
use nauplius_streaming::{ConnectError, forward_upgrade};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// How much of a refusal of the runtime's endpoint is passed on.
const REFUSAL_MAX: usize = 16 * 1024;

/// Which streams a client asks for.
struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Streams {
    fn of(query: &Query) -> Result<Self, String> {
        let tty = query.is_set("tty");
        // A terminal has one output.
        let streams = Self {
            stdin: query.is_set("input"),
            stdout: query.is_set("output"),
            stderr: query.is_set("error") && !tty,
            tty,
        };
        if streams.stdin || streams.stdout || streams.stderr {
            Ok(streams)
        } else {
            Err("you must specify at least 1 of stdin, stdout, stderr".to_owned())
        }
    }
}

fn failed(error: &CriError) -> Answer {
    text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

impl Server {
    pub(super) async fn exec(&self, request: Request<Incoming>, target: &Target, query: &Query) -> Answer {
        let streams = match Streams::of(query) {
            Ok(streams) => streams,
            Err(message) => return text(StatusCode::BAD_REQUEST, &message),
        };
        let container_id = match self.running(target).await {
            Ok(id) => id,
            Err(answer) => return *answer,
        };
        let ask = v1::ExecRequest {
            container_id,
            cmd: query.all("command").map(str::to_owned).collect(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            ..v1::ExecRequest::default()
        };
        match self.context.runtime.exec(ask).await {
            Ok(answer) => splice(request, &answer.url).await,
            Err(error) => failed(&error),
        }
    }

    pub(super) async fn attach(&self, request: Request<Incoming>, target: &Target, query: &Query) -> Answer {
        let streams = match Streams::of(query) {
            Ok(streams) => streams,
            Err(message) => return text(StatusCode::BAD_REQUEST, &message),
        };
        let container_id = match self.running(target).await {
            Ok(id) => id,
            Err(answer) => return *answer,
        };
        let ask = v1::AttachRequest {
            container_id,
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            ..v1::AttachRequest::default()
        };
        match self.context.runtime.attach(ask).await {
            Ok(answer) => splice(request, &answer.url).await,
            Err(error) => failed(&error),
        }
    }

    pub(super) async fn port_forward(
        &self,
        request: Request<Incoming>,
        target: &Target,
        query: &Query,
    ) -> Answer {
        let port = match ports(query) {
            Ok(ports) => ports,
            Err(message) => return text(StatusCode::BAD_REQUEST, &message),
        };
        let pod_sandbox_id = match self.sandbox(target).await {
            Ok(id) => id,
            Err(answer) => return *answer,
        };
        match self.context.runtime.port_forward(v1::PortForwardRequest { pod_sandbox_id, port }).await {
            Ok(answer) => splice(request, &answer.url).await,
            Err(error) => failed(&error),
        }
    }

    /// The id of the pod's sandbox, or the answer that there is none.
    async fn sandbox(&self, target: &Target) -> Result<String, Box<Answer>> {
        let pod = self.pod(target, NO_POD)?;
        if !target.is_of(&pod) {
            return Err(Box::new(text(StatusCode::NOT_FOUND, "pod not found")));
        }
        let observed = self.observed(&pod).await?;
        observed.sandbox().map(|sandbox| sandbox.id.clone()).ok_or_else(|| {
            let message = format!("failed to find sandboxID for pod {}", names::describe(&pod));
            Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, &message))
        })
    }

    pub(super) async fn run(&self, target: &Target, query: &Query) -> Answer {
        let container_id = match self.running(target).await {
            Ok(id) => id,
            Err(answer) => return *answer,
        };
        let words = query.first("cmd").unwrap_or_default();
        let cmd = words.split(' ').map(str::to_owned).collect();
        match self.context.runtime.exec_sync(v1::ExecSyncRequest { container_id, cmd, timeout: 0 }).await {
            Ok(mut answer) if answer.exit_code == 0 => {
                answer.stdout.extend(answer.stderr);
                // Upstream calls it so, whatever it is.
                bytes("application/json", answer.stdout)
            }
            Ok(answer) => {
                let message = format!(
                    "command '{words}' exited with {}: {}",
                    answer.exit_code,
                    String::from_utf8_lossy(&answer.stderr)
                );
                text(StatusCode::INTERNAL_SERVER_ERROR, &message)
            }
            Err(error) => failed(&error),
        }
    }
}

/// The ports that a query names. Only the old WebSocket protocols need them, which say so themselves when there are none.
fn ports(query: &Query) -> Result<Vec<i32>, String> {
    let mut ports = Vec::new();
    for text in query.all("port") {
        if text.is_empty() {
            return Err("query parameter \"port\" cannot be empty".to_owned());
        }
        for port in text.split(',') {
            match port.parse::<u16>() {
                Ok(0) => return Err(format!("port {text:?} must be > 0")),
                Ok(port) => ports.push(i32::from(port)),
                Err(_) => return Err(format!("unable to parse {text:?} as a port: {}", number_error(port))),
            }
        }
    }
    Ok(ports)
}

/// Why Go reads no port from a text.
fn number_error(text: &str) -> String {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let reason = if is_number { "value out of range" } else { "invalid syntax" };
    format!("strconv.ParseUint: parsing {text:?}: {reason}")
}

/// Numeric addresses only, as the runtime's endpoints have.
fn endpoint(url: &str) -> Option<(SocketAddr, Uri)> {
    let uri: Uri = url.parse().ok()?; // Told by the caller.
    let address = uri.authority()?.as_str().parse().ok()?; // As above.
    let path = uri.path_and_query()?.as_str().parse().ok()?; // As above.
    (uri.scheme_str() == Some("http")).then_some((address, path))
}

async fn splice(mut request: Request<Incoming>, url: &str) -> Answer {
    let Some((address, path)) = endpoint(url) else {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("the runtime's endpoint {url:?} cannot be used"),
        );
    };
    let backend = match TcpStream::connect(address).await {
        Ok(backend) => backend,
        Err(error) => {
            return text(StatusCode::INTERNAL_SERVER_ERROR, &format!("error dialing backend: {error}"));
        }
    };
    // Small writes of terminals must not wait; a socket that refuses the option is only slower.
    let _ = backend.set_nodelay(true);
    // The client's credentials are for the kubelet.
    request.headers_mut().remove(http::header::AUTHORIZATION);
    match forward_upgrade(&mut request, backend, path, &address.to_string(), &HeaderMap::new()).await {
        Ok(forwarded) => {
            if let Some(splice) = forwarded.splice {
                spawn("kubelet-splice", async move {
                    if let Err(error) = splice.await {
                        tracing::debug!(%error, "a spliced connection ended");
                    }
                });
            }
            pass(forwarded.response).await
        }
        Err(ConnectError::NotAnUpgrade) => text(StatusCode::BAD_REQUEST, "Upgrade request required"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("error dialing backend: {error}")),
    }
}

async fn pass(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Response::from_parts(parts, full(Vec::new()));
    }
    let body = http_body_util::Limited::new(body, REFUSAL_MAX).collect().await;
    // The status says enough when the body cannot be read or is too long.
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    text(parts.status, &String::from_utf8_lossy(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_go_does() {
        let check = |query: &str, expected: Result<&[i32], &str>| {
            assert_eq!(ports(&Query::parse(query)), expected.map(<[i32]>::to_vec).map_err(str::to_owned));
        };
        check("", Ok(&[]));
        check("port=80,443&port=8080", Ok(&[80, 443, 8080]));
        check("port=", Err("query parameter \"port\" cannot be empty"));
        check("port=0", Err("port \"0\" must be > 0"));
        let syntax =
            "unable to parse \"80,web\" as a port: strconv.ParseUint: parsing \"web\": invalid syntax";
        check("port=80,web", Err(syntax));
        let range =
            "unable to parse \"70000\" as a port: strconv.ParseUint: parsing \"70000\": value out of range";
        check("port=70000", Err(range));
    }

    #[test]
    fn endpoints_are_numeric() {
        let (address, path) = endpoint("http://127.0.0.1:4000/exec/token").unwrap();
        assert_eq!(
            (address.to_string().as_str(), path.to_string().as_str()),
            ("127.0.0.1:4000", "/exec/token")
        );
        assert!(endpoint("http://localhost:1/x").is_none());
        assert!(endpoint("https://127.0.0.1:1/x").is_none());
    }
}
