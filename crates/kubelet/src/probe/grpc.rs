//! The gRPC health check, version 1: one call whose two messages are short enough to be written and read here. Words are those of
//! upstream's probe and of Go's gRPC below it.

use crate::pod::crash::go_seconds;
use crate::pod::probes::Answer;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nauplius_base::time::Instant;
use nauplius_base::{errno, task, time};
use nauplius_kinds::api::core::GRPCAction;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

const SERVING: u8 = 1;
const ANSWER_MAX: usize = 4096;
/// gRPC's own pause between two tries to connect.
const RECONNECT: Duration = Duration::from_secs(1);
const UNIMPLEMENTED: u16 = 12;
const DEADLINE_EXCEEDED: u16 = 4;
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

type Sender = SendRequest<Full<Bytes>>;

/// What the server said instead of a health.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    code: u16,
    message: String,
}

/// Asks; only SERVING is well.
pub async fn probe(action: &GRPCAction, ip: &str, limit: Duration) -> Answer {
    let to = match address(ip, action.port) {
        Ok(to) => to,
        Err(error) => return Answer::Unknown(error),
    };
    let deadline = time::monotonic() + limit;
    let limit = go_seconds(limit);
    let sender = time::timeout(left(deadline), connect(to)).await;
    let Ok((sender, connection)) = sender else {
        return Answer::Failure(format!(
            "timeout: failed to connect service {:?} within {limit}: context deadline exceeded",
            to.to_string()
        ));
    };
    let answer = ask(sender, to, action, deadline).await;
    connection.abort();
    judge(answer, &limit)
}

fn address(ip: &str, port: i32) -> Result<SocketAddr, String> {
    let ip: IpAddr = ip.parse().map_err(|_| format!("the pod's address {ip:?} is none"))?;
    let port = u16::try_from(port).map_err(|_| format!("port {port} is out of range"))?;
    Ok(SocketAddr::new(ip, port))
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(time::monotonic())
}

fn judge(answer: Result<u8, Refusal>, limit: &str) -> Answer {
    match answer {
        Ok(SERVING) => Answer::Success,
        Ok(status) => {
            let name = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].get(usize::from(status));
            let name = name.map_or_else(|| status.to_string(), |name| (*name).to_owned());
            Answer::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Err(Refusal { code: UNIMPLEMENTED, message }) => Answer::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        Err(Refusal { code: DEADLINE_EXCEEDED, .. }) => {
            Answer::Failure(format!("timeout: health rpc did not complete within {limit}"))
        }
        Err(Refusal { code, message }) => {
            let name = CODES
                .get(usize::from(code))
                .map_or_else(|| format!("Code({code})"), |name| (*name).to_owned());
            Answer::Failure(format!(
                "error: health rpc probe failed: rpc error: code = {name} desc = {message}"
            ))
        }
    }
}

/// Connects, however often it takes: whoever waits for it sets the limit.
async fn connect(to: SocketAddr) -> (Sender, AbortHandle) {
    loop {
        if let Some(connected) = try_connect(to).await {
            return connected;
        }
        time::sleep(RECONNECT).await;
    }
}

/// Why a server cannot be connected to is told by nobody, as in Go.
async fn try_connect(to: SocketAddr) -> Option<(Sender, AbortHandle)> {
    let stream = TcpStream::connect(to).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
    // Its failure is the call's.
    let connection = task::spawn("kubelet-probe-connection", connection).abort_handle();
    match sender.ready().await {
        Ok(()) => Some((sender, connection)),
        Err(_) => {
            connection.abort();
            None
        }
    }
}

/// `HealthCheckRequest` in a gRPC frame: field 1 is the service's name.
fn frame(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(message);
    frame
}

/// The status in a framed `HealthCheckResponse`: field 1, a small number; 0 when it is left out.
fn status(frame: &[u8]) -> Option<u8> {
    match frame.get(5..)? {
        [] => Some(0),
        [0x08, status, ..] => Some(*status),
        _ => None,
    }
}

async fn ask(
    mut sender: Sender,
    to: SocketAddr,
    action: &GRPCAction,
    deadline: Instant,
) -> Result<u8, Refusal> {
    let broken = |error: String| Refusal { code: 14, message: error };
    let late = |_| Refusal { code: DEADLINE_EXCEEDED, message: "context deadline exceeded".to_owned() };
    let request = Request::post(format!("http://{to}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.37")
        .body(Full::new(Bytes::from(frame(action.service.as_deref().unwrap_or_default()))))
        .map_err(|error| broken(error.to_string()))?;
    let answer = time::timeout(left(deadline), sender.send_request(request)).await.map_err(late)?;
    let (head, body) = answer.map_err(|error| broken(errno::plain(&error.to_string())))?.into_parts();
    if let Some(refusal) = refusal(head.status, &head.headers) {
        return Err(refusal);
    }
    let body = http_body_util::Limited::new(body, ANSWER_MAX).collect();
    let body = time::timeout(left(deadline), body).await.map_err(late)?;
    let body = body.map_err(|error| broken(errno::plain(&error.to_string())))?;
    if let Some(refusal) = body.trailers().and_then(|trailers| refusal(StatusCode::OK, trailers)) {
        return Err(refusal);
    }
    let unreadable =
        || Refusal { code: 13, message: "grpc: failed to unmarshal the received message".to_owned() };
    status(&body.to_bytes()).ok_or_else(unreadable)
}

/// What the head of an answer, or its end, says that is no health.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Option<Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(code) = text("grpc-status").and_then(|code| code.parse().ok()) {
        let message = text("grpc-message").unwrap_or_default();
        let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy().into_owned();
        return (code != 0).then_some(Refusal { code, message });
    }
    if status.is_success() {
        return None;
    }
    // How gRPC reads the codes of a server that does not speak it.
    let code = match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => 14,
        _ => 2,
    };
    let message = format!("unexpected HTTP status code received from server: {status}");
    let message = message.replacen(
        &status.to_string(),
        &format!("{} ({})", status.as_u16(), status.canonical_reason().unwrap_or_default()),
        1,
    );
    Some(Refusal { code, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_as_upstreams() {
        let refused = |code, message: &str| Err(Refusal { code, message: message.to_owned() });
        for (answer, expected) in [
            (Ok(1), None),
            (Ok(2), Some("service unhealthy (responded with \"NOT_SERVING\")")),
            (
                refused(12, "unknown service grpc.health.v1.Health"),
                Some(
                    "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service grpc.health.v1.Health",
                ),
            ),
            (refused(4, ""), Some("timeout: health rpc did not complete within 3s")),
            (
                refused(5, "unknown service"),
                Some("error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"),
            ),
        ] {
            let expected = expected.map_or(Answer::Success, |text| Answer::Failure(text.to_owned()));
            assert_eq!(judge(answer, "3s"), expected);
        }
    }

    #[test]
    fn heads_that_are_no_health_are_refusals() {
        let mut headers = HeaderMap::new();
        assert_eq!(refusal(StatusCode::OK, &headers), None);
        assert_eq!(
            refusal(StatusCode::NOT_FOUND, &headers),
            Some(Refusal {
                code: 12,
                message: "unexpected HTTP status code received from server: 404 (Not Found)".to_owned()
            })
        );
        headers.insert("grpc-status", "5".parse().unwrap());
        headers.insert("grpc-message", "unknown%20service".parse().unwrap());
        assert_eq!(
            refusal(StatusCode::OK, &headers),
            Some(Refusal { code: 5, message: "unknown service".to_owned() })
        );
    }

    #[test]
    fn messages_are_framed() {
        assert_eq!(frame(""), [0, 0, 0, 0, 0]);
        assert_eq!(frame("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        for (bytes, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[], None),
            (&[0, 0, 0, 0, 1, 9], None),
        ] {
            assert_eq!(status(bytes), expected);
        }
    }
}
