//! Responses that are not objects of a collection: errors, small JSON answers, text. Every refusal leaves the server here as a
//! `Status`.

use crate::negotiate::{Format, Output};
use crate::render;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use nauplius_client::transport::{Body, full};
use nauplius_meta::error::{ApiError, Status};
use serde_json::Value;

/// The answer to a request.
pub type Reply = Response<Body>;

/// A body known whole.
pub fn bytes(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(full(body));
    *reply.status_mut() = code;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    reply
}

/// Plain text.
pub fn text(code: StatusCode, body: impl Into<String>) -> Reply {
    bytes(code, "text/plain; charset=utf-8", body.into())
}

/// A refusal in plain text, as Go's servers give those that no handler was asked about.
pub fn plain_error(code: StatusCode, message: &str) -> Reply {
    let mut reply = text(code, format!("{message}\n"));
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// Any JSON, as discovery and reviews answer.
pub fn json(code: StatusCode, value: &Value, pretty: bool) -> Reply {
    let body = if pretty { render::pretty(value) } else { value.to_string().into_bytes() };
    bytes(code, "application/json", body)
}

/// A tree that is an object of its own (`Scale`, `Status`, reviews) in the format that was agreed on.
pub fn value(code: StatusCode, value: &Value, output: &Output) -> Reply {
    match render::encode_value(value, output) {
        Ok(body) => bytes(code, output.format.media_type(), body),
        Err(refusal) => error(&refusal, &Output::json()),
    }
}

/// A refusal, in the agreed format when it can be.
pub fn error(refusal: &ApiError, output: &Output) -> Reply {
    status(&refusal.to_status(), output)
}

/// A `Status`.
pub fn status(status: &Status, output: &Output) -> Reply {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = match output.format {
        Format::Json if !output.pretty => bytes(code, "application/json", status.to_json()),
        _ => {
            let tree = serde_json::from_slice(&status.to_json()).unwrap_or(Value::Null);
            let plain = Output { shape: Default::default(), ..output.clone() };
            match render::encode_value(&tree, &plain) {
                Ok(body) => bytes(code, output.format.media_type(), body),
                // A Status always has a JSON form.
                Err(_) => bytes(code, "application/json", status.to_json()),
            }
        }
    };
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry_after > 0 {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    reply
}
