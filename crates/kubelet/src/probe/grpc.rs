//! The gRPC health check, version 1: one call whose two messages are short enough to be written and read here.

use super::{address, reason};
use crate::pod::probes::Answer;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nauplius_base::{task, time};
use nauplius_kinds::api::core::GRPCAction;
use std::time::Duration;
use tokio::net::TcpStream;

const SERVING: u8 = 1;
const ANSWER_MAX: usize = 4096;

/// Asks; only SERVING is well.
pub async fn probe(action: &GRPCAction, ip: &str, limit: Duration) -> Answer {
    match time::timeout(limit, check(action, ip)).await {
        Ok(Ok(SERVING)) => Answer::Success,
        Ok(Ok(status)) => {
            let name = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].get(usize::from(status));
            Answer::Failure(format!("service unhealthy (responded with {:?})", name.unwrap_or(&"UNKNOWN")))
        }
        Ok(Err(error)) => Answer::Failure(error),
        Err(_) => {
            Answer::Failure(format!("timeout: health rpc did not complete within {}s", limit.as_secs()))
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

async fn check(action: &GRPCAction, ip: &str) -> Result<u8, String> {
    let port = u16::try_from(action.port).map_err(|_| format!("port {} is out of range", action.port));
    let to = address(ip, port)?;
    let stream = TcpStream::connect(to)
        .await
        .map_err(|error| format!("dial tcp {to}: connect: {}", reason(&error)))?;
    let said = |error: hyper::Error| format!("error: health rpc probe failed: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(said)?;
    // Its failure is the call's.
    let connection = task::spawn("kubelet-probe-connection", connection);
    let request = Request::post(format!("http://{to}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.37")
        .body(Full::new(Bytes::from(frame(action.service.as_deref().unwrap_or_default()))))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(said)?;
    let refused = answer.headers().get("grpc-message").and_then(|text| text.to_str().ok()).map(str::to_owned);
    let body = http_body_util::Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    connection.abort();
    let body = body.map_err(|error| error.to_string())?;
    let trailer =
        body.trailers().and_then(|trailers| trailers.get("grpc-message")).and_then(|text| text.to_str().ok());
    let refused = refused
        .or_else(|| trailer.map(str::to_owned))
        .unwrap_or_else(|| "no status in the answer".to_owned());
    status(&body.to_bytes()).ok_or_else(|| format!("error: health rpc failed: {refused}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
