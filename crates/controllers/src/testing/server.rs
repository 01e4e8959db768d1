//! The world behind a [`Transport`], so that controllers run against it as they run against the API server. It counts requests.

use super::world::{Answer, Change, Place, World};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use nauplius_base::time;
use nauplius_client::Client;
use nauplius_client::transport::{Body, BoxError, Transport, TransportError, full};
use serde_json::{Value, json};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

type Watcher = (Place, mpsc::UnboundedSender<Value>);

#[derive(Default)]
struct State {
    world: World,
    watchers: Vec<Watcher>,
    told: usize,
    writes: Vec<String>,
}

#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<State>>);

struct Lines(mpsc::UnboundedReceiver<Value>);

impl futures_core::Stream for Lines {
    type Item = Result<http_body::Frame<Bytes>, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = |event: Value| Ok(http_body::Frame::data(Bytes::from(format!("{event}\n"))));
        self.0.poll_recv(context).map(|event| event.map(frame))
    }
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with the lock held")
    }

    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()), "test")
    }

    /// Creates an object as somebody else would.
    pub fn create(&self, path: &str, object: Value) -> Value {
        let mut state = self.state();
        let created = state.world.create(&Place::parse(path), object, &now()).expect("it is new");
        state.tell();
        created
    }

    /// Changes an object as somebody else would; a path with `/status` changes the status.
    pub fn merge(&self, path: &str, patch: &Value) {
        let mut state = self.state();
        state.world.patch(&Place::parse(path), patch).expect("it is there");
        state.tell();
    }

    pub fn delete(&self, path: &str, options: &Value) {
        let mut state = self.state();
        state.world.delete(&Place::parse(path), options, &now()).expect("it is there");
        state.tell();
    }

    pub fn list(&self, path: &str) -> Vec<Value> {
        self.state().world.list(&Place::parse(path))
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state().world.get(&Place::parse(path)).ok()
    }

    /// `METHOD path` of all requests but lists and watches.
    pub fn writes(&self) -> Vec<String> {
        self.state().writes.clone()
    }

    /// Waits until `condition` holds; time is paused, so that this takes none.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        for _ in 0..20_000 {
            if condition(self) {
                return;
            }
            time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("{what} did not happen; {:#?}", self.writes());
    }
}

fn now() -> String {
    time::rfc3339_seconds(time::now())
}

impl State {
    fn tell(&mut self) {
        for change in &self.world.changes[self.told..] {
            let Change { type_, place, object } = change;
            let concerns = |watched: &Place| {
                watched.api == place.api
                    && watched.plural == place.plural
                    && (watched.namespace.is_empty() || watched.namespace == place.namespace)
            };
            let event = json!({"type": type_, "object": object});
            self.watchers
                .retain(|(watched, sender)| !concerns(watched) || sender.send(event.clone()).is_ok());
        }
        self.told = self.world.changes.len();
    }

    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> Answer {
        let place = Place::parse(path);
        if *method != Method::GET && !path.contains("/events") {
            self.writes.push(format!("{method} {path}"));
        }
        let answer = match *method {
            Method::GET if place.name.is_empty() => Ok(json!({"metadata":
                {"resourceVersion": self.world.revision().to_string()}, "items": self.world.list(&place)})),
            Method::GET => self.world.get(&place),
            Method::POST => self.world.create(&place, body.clone(), &now()),
            Method::PUT => self.world.update(&place, body.clone()),
            Method::PATCH => self.world.patch(&place, body),
            _ if place.name.is_empty() => self.world.delete_all(&place, &now()),
            _ => self.world.delete(&place, body, &now()),
        };
        self.tell();
        answer
    }

    fn watch(&mut self, path: &str, since: usize) -> mpsc::UnboundedReceiver<Value> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let place = Place::parse(path);
        for change in self.world.changes.iter().skip(since) {
            if change.place.api == place.api && change.place.plural == place.plural {
                sender
                    .send(json!({"type": change.type_, "object": change.object}))
                    .expect("we hold the receiver");
            }
        }
        self.watchers.push((place, sender));
        receiver
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

impl Transport for Server {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let server = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or("").to_owned());
            let body = body.collect().await.expect("a whole body").to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            if parameter(&query, "watch").is_some() {
                let since =
                    parameter(&query, "resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
                let lines = server.state().watch(&path, since);
                return Ok(Response::new(StreamBody::new(Lines(lines)).boxed_unsync()));
            }
            let (code, answer) = match server.state().answer(&parts.method, &path, &body) {
                Ok(object) => (200, object),
                Err(status) => (status["code"].as_u64().unwrap_or(500) as u16, status),
            };
            let response = Response::builder().status(code).body(full(Bytes::from(answer.to_string())));
            Ok(response.expect("a code and a body make a response"))
        })
    }
}
