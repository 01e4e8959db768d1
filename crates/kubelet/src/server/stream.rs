//! Exec, attach and port-forward: the runtime is asked for an endpoint, and the client's upgraded connection is spliced to it.

use super::Server;
use super::answer::{Answer, bytes, full, text};
use super::route::{Query, Target};
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
        let pod = match self.pod(target) {
            Ok(pod) => pod,
            Err(answer) => return *answer,
        };
        let observed = match self.observed(&pod).await {
            Ok(observed) => observed,
            Err(answer) => return *answer,
        };
        let Some(sandbox) = observed.sandbox() else {
            return text(StatusCode::NOT_FOUND, &format!("not found ({:?})", crate::names::describe(&pod)));
        };
        let named = query.all("port").flat_map(|value| value.split(','));
        let ports: Result<Vec<i32>, _> = named.filter(|text| !text.is_empty()).map(str::parse).collect();
        let Ok(port) = ports else {
            return text(StatusCode::BAD_REQUEST, "query parameter \"port\" is no number");
        };
        let ask = v1::PortForwardRequest { pod_sandbox_id: sandbox.id.clone(), port };
        match self.context.runtime.port_forward(ask).await {
            Ok(answer) => splice(request, &answer.url).await,
            Err(error) => failed(&error),
        }
    }

    pub(super) async fn run(&self, target: &Target, query: &Query) -> Answer {
        let container_id = match self.running(target).await {
            Ok(id) => id,
            Err(answer) => return *answer,
        };
        let cmd = query.first("cmd").unwrap_or_default().split(' ').map(str::to_owned).collect();
        match self.context.runtime.exec_sync(v1::ExecSyncRequest { container_id, cmd, timeout: 0 }).await {
            Ok(mut answer) if answer.exit_code == 0 => {
                answer.stdout.extend(answer.stderr);
                bytes("text/plain; charset=utf-8", answer.stdout)
            }
            Ok(answer) => {
                let message = format!(
                    "command exited with {}: {}",
                    answer.exit_code,
                    String::from_utf8_lossy(&answer.stderr)
                );
                text(StatusCode::INTERNAL_SERVER_ERROR, &message)
            }
            Err(error) => failed(&error),
        }
    }
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
