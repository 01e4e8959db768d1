//! From the API server to kubelets (logs, exec, attach and port-forward) and to what pods, services and nodes serve themselves
//! (`proxy`). The API server finds who is meant, checks what is asked for, and passes bytes on; what they say is between client and
//! backend.

pub(crate) mod connect;
mod dial;
mod forward;
mod kubelet;
mod location;
mod pod;
mod rewrite;

pub use dial::{Dial, Direct};
pub use kubelet::KubeletDialer;
pub use rewrite::fuzz_page;

use crate::admission::Operation;
use crate::chain::{Seat, authorize};
use crate::error::{ApiResult, unreadable};
use crate::registry::{Scope, get};
use crate::request::Attributes;
use crate::respond::{self, Reply};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, Full};
use hyper::body::Incoming;
use nauplius_base::task::{CancellationToken, spawn};
use nauplius_client::transport::Body;
use nauplius_meta::error::{ApiError, Reason, Status};
use nauplius_meta::object;
use nauplius_streaming::{Message, Splice, accept_messages_of, is_websocket_request};
use pod::{LogOptions, Streams};
use serde_json::{Value, json};
use std::sync::Arc;

/// Logs over WebSocket come as they are, or for clients of text in base64.
const LOG_PROTOCOLS: &[&str] = &["", "binary.k8s.io", BASE64];
const BASE64: &str = "base64.binary.k8s.io";

/// Answers a request for one of the four.
pub(crate) async fn serve(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let subresource = scope.call.info.subresource.as_str();
    let connects = subresource != "log";
    if connects {
        check_dry_run(scope)?;
        check_verb(scope).await?;
    }
    let Some(dialer) = &scope.server.config.kubelets else {
        return Err(ApiError::NotImplemented("this server has no credentials for kubelets".to_owned()));
    };
    if connects {
        admit(scope, subresource).await?;
        stream(scope, dialer, subresource, body).await
    } else {
        log(scope, dialer).await
    }
}

async fn find(scope: &Scope) -> ApiResult<Value> {
    get::wait(scope, None).await?;
    let entry = scope.resource.cache.get(scope.namespace(), scope.name()).ok_or_else(|| scope.not_found())?;
    entry.object().map_err(unreadable)
}

async fn stream(scope: &Scope, dialer: &KubeletDialer, subresource: &str, body: Body) -> ApiResult<Reply> {
    let (pod, query) = (find(scope).await?, &scope.call.query);
    let target = match subresource {
        "exec" => pod::stream_target("exec", &pod, &Streams::of(query, true))?,
        "attach" => pod::stream_target("attach", &pod, &Streams::of(query, false))?,
        _ => pod::port_forward_target(&pod, query)?,
    };
    let node = object::get_str(&pod, &["spec", "nodeName"]);
    if node.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", scope.name())));
    }
    upgrade(scope, dialer, &kubelet::address(scope, node)?, &target, body).await
}

/// A stream cannot be tried.
fn check_dry_run(scope: &Scope) -> ApiResult<()> {
    match scope.call.query.get("dryRun") {
        Some(_) => Err(ApiError::bad_request("dryRun is not supported")),
        None => Ok(()),
    }
}

/// Opening a stream is a `create`, also when it is asked for with GET.
async fn check_verb(scope: &Scope) -> ApiResult<()> {
    if !matches!(scope.call.parts.method, Method::GET | Method::POST) {
        return Err(scope.not_allowed());
    }
    if scope.call.info.verb == "create" {
        return Ok(());
    }
    let call = &scope.call;
    let attributes = Attributes::of(&call.user, &call.info, &call.query).with_verb("create");
    authorize(&scope.server, &attributes).await
}

async fn admit(scope: &Scope, subresource: &str) -> ApiResult<()> {
    let kind = match subresource {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        _ => "PodPortForwardOptions",
    };
    let options = json!({"kind": kind, "apiVersion": "v1", "container": scope.call.query.get("container")});
    let review = scope.review(Operation::Connect, scope.name(), false, &Value::Null);
    scope.server.config.admission.validate(&review, Some(&options), None).await
}

async fn log(scope: &Scope, dialer: &KubeletDialer) -> ApiResult<Reply> {
    let options = LogOptions::of(&scope.call.query, scope.name())?;
    let pod = find(scope).await?;
    let target = pod::log_target(&pod, &options)?;
    let node = object::get_str(&pod, &["spec", "nodeName"]);
    if node.is_empty() {
        // Nothing was logged yet.
        return Ok(no_content());
    }
    let address = kubelet::address(scope, node)?;
    let got = dialer.get(&address, &target, options.unverified).await;
    let response =
        got.map_err(|error| failed(format!("Get \"https://{}{target}\": {error}", address.socket())))?;
    if !response.status().is_success() {
        return Err(kubelet::refusal(response, scope.name()).await);
    }
    if is_websocket_request(&scope.call.parts.headers) {
        return Ok(log_over_websocket(scope, response.into_body()));
    }
    let (parts, body) = response.into_parts();
    let mut reply = respond::text(StatusCode::OK, "");
    for name in [http::header::CONTENT_TYPE, http::header::CONTENT_LENGTH] {
        if let Some(value) = parts.headers.get(&name) {
            reply.headers_mut().insert(name, value.clone());
        }
    }
    *reply.body_mut() = body.map_err(Into::into).boxed_unsync();
    Ok(reply)
}

/// A log in messages, after an empty one that tells the client that it is on its way.
fn log_over_websocket(scope: &Scope, body: Incoming) -> Reply {
    let plain = |response: Response<Full<Bytes>>| {
        response.map(|body| body.map_err(|never| match never {}).boxed_unsync())
    };
    let mut request = Request::from_parts(scope.call.parts.clone(), ());
    let (answer, socket, protocol) = match accept_messages_of(&mut request, LOG_PROTOCOLS) {
        Ok(accepted) => accepted,
        Err(refusal) => return plain(refusal.into_response()),
    };
    let message = move |bytes: Bytes| match protocol {
        BASE64 => Message::Text(STANDARD.encode(bytes).into()),
        _ => Message::Binary(bytes),
    };
    // A log that breaks off ends the stream; trailers are none of its text.
    let frames = BodyStream::new(body).take_while(|frame| ready(frame.is_ok()));
    let pieces = frames.filter_map(|frame| ready(frame.ok().and_then(|frame| frame.into_data().ok())));
    let messages = stream::once(ready(Bytes::new())).chain(pieces).map(message);
    let (seat, shutdown) = (scope.call.seat.clone(), scope.server.shutdown_token().clone());
    spawn("log over a WebSocket", async move {
        let _seat = seat;
        tokio::select! {
            ended = socket.send_all(messages) => if let Err(error) = ended {
                tracing::debug!(%error, "a log over a WebSocket ended");
            },
            () = shutdown.cancelled() => {}
        }
    });
    plain(answer)
}

async fn upgrade(
    scope: &Scope,
    dialer: &KubeletDialer,
    address: &kubelet::Address,
    target: &str,
    body: Body,
) -> ApiResult<Reply> {
    let forwarded =
        dialer.upgrade(&scope.call.parts, address, target, body).await.map_err(|error| match error {
            kubelet::DialError::NotAnUpgrade => ApiError::bad_request("Upgrade request required"),
            other => failed(format!("error dialing backend: {other}")),
        })?;
    run_splice(forwarded.splice, scope.call.seat.clone(), scope.server.shutdown_token().clone());
    Ok(forwarded.response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// Copies both ways until an end or the server's shutdown.
fn run_splice(splice: Option<Splice>, seat: Option<Arc<Seat>>, shutdown: CancellationToken) {
    let Some(splice) = splice else { return };
    spawn("stream to a backend", async move {
        let _seat = seat;
        tokio::select! {
            ended = splice => if let Err(error) = ended {
                tracing::debug!(%error, "a stream to a backend ended");
            },
            () = shutdown.cancelled() => {}
        }
    });
}

fn no_content() -> Reply {
    let mut reply = respond::text(StatusCode::NO_CONTENT, "");
    reply.headers_mut().remove(http::header::CONTENT_TYPE);
    reply
}

/// What is nobody's fault in particular has no reason, as upstream has it.
fn failed(message: String) -> ApiError {
    ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, message)))
}
