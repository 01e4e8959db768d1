//! Requests and what their answers mean.

use super::{COLLECTION, Connect, SELECTOR, Ticks};
use crate::history::{Action, Listing, Outcome};
use http::{Method, Request};
use http_body_util::BodyExt;
use nauplius_base::time::timeout;
use nauplius_client::transport::{Body, Transport, TransportError, empty, full};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Objects on a page.
const PAGE: usize = 3;
/// Bytes beside the value: a few objects are more than a watch sends at once.
const PADDING: usize = 4_000;

/// Leads to the server of the moment; there may be none.
#[derive(Clone)]
pub struct Door(watch::Receiver<Option<Connect>>);

impl Door {
    /// A door that is told of each server.
    pub fn new(servers: watch::Receiver<Option<Connect>>) -> Self {
        Self(servers)
    }

    /// A connection; waits until there is a server.
    pub async fn connect(&mut self) -> Arc<dyn Transport> {
        let server = self.0.wait_for(Option::is_some).await;
        let connect = server.ok().and_then(|server| server.clone());
        // The test holds the other end until its clients have ended.
        connect.expect("servers are told of until the end")()
    }
}

/// No answer, or none that says what happened.
pub(super) struct Unanswered;

/// The answer's code and tree.
pub(super) type Answer = Result<(u16, Value), Unanswered>;

pub(super) async fn send(
    transport: &dyn Transport,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let body = body.map_or_else(empty, |body| full(body.to_string()));
    let Ok(request) = request.body(body) else { return Err(Unanswered) };
    let answer = async {
        let response = transport.call(request).await.map_err(|_| Unanswered)?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(|_| Unanswered)?.to_bytes();
        Ok((code, serde_json::from_slice(&bytes).unwrap_or_default()))
    };
    timeout(PATIENCE, answer).await.unwrap_or(Err(Unanswered))
}

/// Opens a stream.
pub(super) async fn open(transport: &dyn Transport, path: &str) -> Result<(u16, Body), TransportError> {
    let request =
        Request::get(path).body(empty()).map_err(|error| TransportError::Broken(error.to_string()))?;
    let response = transport.call(request).await?;
    Ok((response.status().as_u16(), response.into_body()))
}

fn config_map(key: &str, value: &str, expected: Option<i64>) -> Value {
    let data = json!({"value": value, "padding": "x".repeat(PADDING)});
    let mut map = json!({"metadata": {"name": key, "labels": {"history": "yes"}}, "data": data});
    if let Some(expected) = expected {
        map["metadata"]["resourceVersion"] = expected.to_string().into();
    }
    map
}

pub(super) fn revision_of(object: &Value) -> Option<i64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

pub(super) fn value_of(object: &Value) -> String {
    object["data"]["value"].as_str().unwrap_or_default().to_owned()
}

/// Does it; `None` when it was refused before anything was done.
pub(super) async fn perform(transport: &dyn Transport, key: &str, action: &Action) -> Option<Outcome> {
    let one = format!("{COLLECTION}/{key}");
    let answer = match action {
        Action::Create { value } => {
            send(transport, Method::POST, COLLECTION, Some(config_map(key, value, None))).await
        }
        Action::Update { value, expected } => {
            send(transport, Method::PUT, &one, Some(config_map(key, value, *expected))).await
        }
        Action::Delete { expected } => {
            let conditions =
                expected.map(|revision| json!({"preconditions": {"resourceVersion": revision.to_string()}}));
            send(transport, Method::DELETE, &one, conditions).await
        }
        Action::Read => send(transport, Method::GET, &one, None).await,
    };
    Some(match answer {
        Err(Unanswered) => Outcome::Unknown,
        Ok((429, _)) => return None,
        Ok((404, _)) => Outcome::Missing,
        Ok((409, _)) if matches!(action, Action::Create { .. }) => Outcome::Exists,
        Ok((409, _)) => Outcome::Conflict,
        Ok((200 | 201, object)) => done(action, &object),
        Ok((500.., _)) => Outcome::Unknown,
        Ok((code, status)) => panic!("{action:?} of {key} was answered with {code}: {status}"),
    })
}

fn done(action: &Action, object: &Value) -> Outcome {
    if matches!(action, Action::Delete { .. }) {
        return Outcome::Deleted;
    }
    let revision = revision_of(object).unwrap_or_else(|| panic!("an object without revision: {object}"));
    match action {
        Action::Read => Outcome::Found { revision, value: value_of(object) },
        _ => Outcome::Written(revision),
    }
}

/// How a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Whole,
    Pages,
    Cached,
    /// As it was at a revision.
    At(i64),
}

/// Lists the collection; `None` when no whole answer came.
pub(super) async fn list(transport: &dyn Transport, ticks: &Ticks, how: How) -> Option<Listing> {
    let mut listing = Listing {
        pages: Vec::new(),
        items: Vec::new(),
        consistent: matches!(how, How::Whole | How::Pages),
        invoked: ticks.next(),
        returned: 0,
    };
    let mut token = String::new();
    loop {
        let query = match how {
            How::Whole => String::new(),
            How::Cached => "&resourceVersion=0".to_owned(),
            How::Pages => format!("&limit={PAGE}&continue={token}"),
            How::At(revision) => format!("&resourceVersion={revision}&resourceVersionMatch=Exact"),
        };
        let answer = send(transport, Method::GET, &format!("{COLLECTION}?{SELECTOR}{query}"), None).await;
        let Ok((200, page)) = answer else { return None };
        listing.pages.push(revision_of(&page)?);
        if let How::At(revision) = how {
            assert_eq!(listing.pages, [revision], "a list of another revision than it was asked for");
        }
        listing.items.extend(page["items"].as_array().into_iter().flatten().filter_map(item));
        match page["metadata"]["continue"].as_str().filter(|next| !next.is_empty()) {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    listing.returned = ticks.next();
    Some(listing)
}

fn item(object: &Value) -> Option<(String, i64, String)> {
    Some((object["metadata"]["name"].as_str()?.to_owned(), revision_of(object)?, value_of(object)))
}
