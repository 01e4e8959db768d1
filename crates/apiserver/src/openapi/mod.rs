//! OpenAPI: the shapes of everything that is served, in version 2 (one document) and 3 (one a group and version). It derives from the kinds'
//! descriptors and the tables of types; descriptions come from upstream's prose.

mod custom;
mod definitions;
mod documents;
mod enums;
mod fragments;
mod gnostic;
mod json;
mod model;
mod parameters;
mod parts;
mod paths;
mod schemas;
mod segment;
mod v2;
mod v3;

pub(crate) use documents::Documents;

use crate::gzip;
use crate::negotiate::{JSON, Output, parse_accept};
use crate::request::Call;
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use definitions::Definition;
use documents::{Document, Key, url};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use http::{HeaderMap, StatusCode};
use model::{Content, PathItem};
use nauplius_base::time;
use nauplius_meta::error::ApiError;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

const TITLE: &str = "Kubernetes";
/// What clients ask for; with the `@` it is no media type, so answers say it with a dot.
const ASKED_PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Answers `/openapi/...`, when the path is one of these.
pub(crate) async fn serve(server: &Arc<ApiServer>, call: &Call) -> Option<Reply> {
    let rest = call.info.path.strip_prefix("/openapi/")?.trim_end_matches('/');
    let headers = &call.parts.headers;
    let key = match rest.split_once('/').unwrap_or((rest, "")) {
        ("v2", "") => match asked_v2(headers) {
            Some(key) => key,
            None => return Some(not_acceptable(&[JSON, ASKED_PROTOBUF[1]])),
        },
        ("v3", "") => Key::Index,
        ("v3", part) if takes_json(headers) => Key::V3(part.to_owned()),
        ("v3", _) => return Some(not_acceptable(&[JSON])),
        _ => return None,
    };
    match document(server, &key).await {
        Ok(Some(document)) => Some(answer(&document, &key, call)),
        Ok(None) => None,
        Err(error) => Some(respond::error(&ApiError::internal(error.to_string()), &Output::json())),
    }
}

async fn document(server: &Arc<ApiServer>, key: &Key) -> io::Result<Option<Arc<Document>>> {
    let served = server.served();
    if let Some(document) = server.openapi.known(key, &served) {
        return Ok(Some(document));
    }
    let (server, key) = (Arc::clone(server), key.clone());
    // Tens of milliseconds of work, which must not hold up other requests.
    tokio::task::spawn_blocking(move || server.openapi.make(key, &served)).await.map_err(io::Error::other)?
}

fn asked_v2(headers: &HeaderMap) -> Option<Key> {
    let Some(accept) = accept(headers) else { return Some(Key::V2Json) };
    parse_accept(accept).into_iter().find_map(|range| {
        if range.accepts(JSON) {
            Some(Key::V2Json)
        } else {
            ASKED_PROTOBUF.contains(&range.media_type.as_str()).then_some(Key::V2Protobuf)
        }
    })
}

fn takes_json(headers: &HeaderMap) -> bool {
    accept(headers).is_none_or(|accept| parse_accept(accept).iter().any(|range| range.accepts(JSON)))
}

/// An unreadable header is treated like an absent one.
fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).filter(|accept| !accept.trim().is_empty())
}

fn not_acceptable(offered: &[&str]) -> Reply {
    let offered = offered.iter().map(|media_type| (*media_type).to_owned()).collect();
    respond::error(&ApiError::NotAcceptable(offered), &Output::json())
}

fn answer(document: &Document, key: &Key, call: &Call) -> Reply {
    let hash = call.query.get("hash").filter(|hash| !hash.is_empty());
    if let (Key::V3(part), Some(hash)) = (key, hash) {
        if hash != document.hash {
            return moved(&url(part, &document.hash));
        }
        let mut reply = body(document, key, call);
        let expires = httpdate::fmt_http_date(UNIX_EPOCH + now() + YEAR);
        reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        reply.headers_mut().insert(EXPIRES, header(expires));
        return reply;
    }
    body(document, key, call)
}

fn now() -> Duration {
    // A clock before 1970 only makes documents expire early.
    Duration::from_secs(time::unix_seconds().try_into().unwrap_or_default())
}

fn body(document: &Document, key: &Key, call: &Call) -> Reply {
    let headers = &call.parts.headers;
    let tag = format!("\"{}\"", document.hash);
    let content_type = if *key == Key::V2Protobuf { ASKED_PROTOBUF[1] } else { JSON };
    let known = headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let packed = gzip::wanted(headers);
    let mut reply = if known {
        respond::bytes(StatusCode::NOT_MODIFIED, content_type, "")
    } else if packed {
        respond::bytes(StatusCode::OK, content_type, document.packed())
    } else {
        match document.unpacked() {
            Ok(bytes) => respond::bytes(StatusCode::OK, content_type, bytes),
            Err(error) => return respond::error(&ApiError::internal(error.to_string()), &Output::json()),
        }
    };
    let headers = reply.headers_mut();
    if packed && !known {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(ETAG, header(tag));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    reply
}

fn moved(to: &str) -> Reply {
    let mut reply = respond::text(StatusCode::MOVED_PERMANENTLY, "");
    reply.headers_mut().insert(LOCATION, header(to.to_owned()));
    reply
}

fn header(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("hashes, dates and names of groups are header characters")
}

/// What the operations on these paths take and answer.
fn definitions_of(paths: &[PathItem]) -> impl Iterator<Item = Definition> {
    paths.iter().flat_map(|item| &item.operations).flat_map(|operation| {
        let body = operation.body.as_ref().map(|body| body.definition.clone());
        let answers = operation.responses.iter().filter_map(|response| match &response.content {
            Content::Object(definition) => Some(definition.clone()),
            Content::None | Content::Text => None,
        });
        body.into_iter().chain(answers)
    })
}
