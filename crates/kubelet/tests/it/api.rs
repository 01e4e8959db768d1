//! An API server as small as a kubelet needs: objects in a map, watches, patches of a status. It checks nothing.

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use nauplius_client::transport::{Body, BoxError, Transport, TransportError, full};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};

type Sink = mpsc::UnboundedSender<Bytes>;

#[derive(Default)]
struct State {
    revision: u64,
    /// By path.
    objects: BTreeMap<String, Value>,
    watches: Vec<(String, String, Sink)>,
    log: Vec<String>,
}

/// The server. Clones share it.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

/// `/api/v1/namespaces/n/pods/p` → its collection `/api/v1/namespaces/n/pods`.
fn collection(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(collection, _)| collection)
}

/// Whether a list of `wanted` holds an object at `path`; a list without namespace holds all.
fn lists(wanted: &str, path: &str) -> bool {
    let own = collection(path);
    if own == wanted {
        return true;
    }
    let mut parts: Vec<&str> = own.split('/').collect();
    if let Some(at) = parts.iter().position(|part| *part == "namespaces")
        && at + 2 < parts.len()
    {
        parts.drain(at..at + 2);
    }
    parts.join("/") == wanted
}

fn selects(selector: &str, object: &Value) -> bool {
    let decoded = selector.replace("%3D", "=").replace("%2C", ",");
    decoded.split(',').filter(|term| !term.is_empty()).all(|term| {
        let (field, value) = term.split_once('=').unwrap_or((term, ""));
        let pointer = format!("/{}", field.replace('.', "/"));
        object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default() == value
    })
}

fn query<'a>(query: &'a str, name: &str) -> &'a str {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
}

/// Merges as a strategic patch does, as far as statuses need it.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else if key == "conditions" {
            let list = target[key].as_array().cloned().unwrap_or_default();
            target[key] = Value::Array(merge_conditions(list, value));
        } else if let Some(list) = value.as_array() {
            let plain = list.iter().filter(|entry| entry.get("$patch").is_none());
            target[key] = plain.cloned().collect();
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn merge_conditions(mut list: Vec<Value>, patch: &Value) -> Vec<Value> {
    for entry in patch.as_array().into_iter().flatten() {
        if entry["$patch"] == "delete" {
            list.retain(|known| known["type"] != entry["type"]);
            continue;
        }
        match list.iter_mut().find(|known| known["type"] == entry["type"]) {
            Some(known) => merge(known, entry),
            None => list.push(entry.clone()),
        }
    }
    list
}

impl Api {
    pub fn new() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }

    fn write(&self, state: &mut State, path: &str, mut object: Value, type_: &str) -> Value {
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", state.revision));
        }
        if type_ == "DELETED" {
            state.objects.remove(path);
        } else {
            state.objects.insert(path.to_owned(), object.clone());
        }
        let line = Bytes::from(format!("{}\n", json!({"type": type_, "object": object})));
        state.watches.retain(|(wanted, selector, sink)| {
            !(lists(wanted, path) && selects(selector, &object)) || sink.send(line.clone()).is_ok()
        });
        self.changed.send_replace(state.revision);
        object
    }

    /// Creates or replaces.
    pub fn put(&self, path: &str, object: Value) {
        let mut state = self.state.lock().unwrap();
        let type_ = if state.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        self.write(&mut state, path, object, type_);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    pub fn remove(&self, path: &str) {
        let mut state = self.state.lock().unwrap();
        if let Some(object) = state.objects.get(path).cloned() {
            self.write(&mut state, path, object, "DELETED");
        }
    }

    /// Method and path of each request so far.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    /// `reason: message` of each event so far.
    pub fn events(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let events =
            state.objects.iter().filter(|(path, _)| path.contains("/events/")).map(|(_, event)| event);
        let mut all: Vec<(u64, String)> = events
            .map(|event| {
                let revision = event["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
                (
                    revision,
                    format!("{}: {}", event["reason"].as_str().unwrap(), event["message"].as_str().unwrap()),
                )
            })
            .collect();
        all.sort();
        all.into_iter().map(|(_, text)| text).collect()
    }

    /// Waits until the condition holds.
    pub async fn wait<T>(&self, what: &str, mut condition: impl FnMut(&Self) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        let patient = async {
            loop {
                if let Some(found) = condition(self) {
                    return found;
                }
                // Runtime and files change without the API.
                let _ = nauplius_base::time::timeout(std::time::Duration::from_millis(50), changes.changed())
                    .await;
            }
        };
        let limit = std::time::Duration::from_secs(20);
        match nauplius_base::time::timeout(limit, patient).await {
            Ok(found) => found,
            Err(_) => panic!("{what} did not happen; pods: {:#?}; events: {:#?}", self.pods(), self.events()),
        }
    }

    fn pods(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state
            .objects
            .iter()
            .filter(|(path, _)| path.contains("/pods/"))
            .map(|(_, pod)| pod["status"].clone())
            .collect()
    }

    fn answer(&self, method: &Method, path: &str, query_text: &str, body: &[u8]) -> Response<Body> {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut state = self.state.lock().unwrap();
        state.log.push(format!("{method} {path}"));
        match *method {
            Method::GET if query(query_text, "watch") == "1" => {
                let (sink, receiver) = mpsc::unbounded_channel();
                let selector = query(query_text, "fieldSelector").to_owned();
                let since: u64 = query(query_text, "resourceVersion").parse().unwrap_or(0);
                for (at, object) in &state.objects {
                    let revision: u64 =
                        object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
                    if revision > since && lists(path, at) && selects(&selector, object) {
                        sink.send(Bytes::from(format!(
                            "{}\n",
                            json!({"type": "MODIFIED", "object": object})
                        )))
                        .unwrap();
                    }
                }
                state.watches.push((path.to_owned(), selector, sink));
                streaming(receiver)
            }
            Method::GET => match state.objects.get(path) {
                Some(object) => ok(object),
                None if is_object(path) => refuse(404, "NotFound"),
                None => {
                    let selector = query(query_text, "fieldSelector");
                    let found = state
                        .objects
                        .iter()
                        .filter(|(at, object)| lists(path, at) && selects(selector, object));
                    let items: Vec<&Value> = found.map(|(_, object)| object).collect();
                    ok(&json!({"metadata": {"resourceVersion": state.revision.to_string()}, "items": items}))
                }
            },
            Method::POST if path.ends_with("/token") => {
                let end = "2099-01-01T00:00:00Z";
                ok(&json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
                    "spec": {"audiences": []}, "status": {"token": "t0ken", "expirationTimestamp": end}}))
            }
            Method::POST if path.ends_with("/subjectaccessreviews") => {
                let spec = &body["spec"];
                let allowed = spec["user"] == "reader" && spec["resourceAttributes"]["resource"] == "nodes";
                ok(
                    &json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
                    "spec": spec, "status": {"allowed": allowed}}),
                )
            }
            Method::POST if path.ends_with("/tokenreviews") => {
                let known = body["spec"]["token"] == "good";
                let user = json!({"username": if known { "reader" } else { "" }});
                ok(&json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
                    "spec": body["spec"], "status": {"authenticated": known, "user": user}}))
            }
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap_or("review").to_owned();
                let at = format!("{path}/{name}");
                if state.objects.contains_key(&at) {
                    return refuse(409, "AlreadyExists");
                }
                ok(&self.write(&mut state, &at, body, "ADDED"))
            }
            Method::PUT => ok(&self.write(&mut state, path, body, "MODIFIED")),
            Method::PATCH => {
                let at = path.trim_end_matches("/status").to_owned();
                let Some(mut object) = state.objects.get(&at).cloned() else {
                    return refuse(404, "NotFound");
                };
                merge(&mut object, &body);
                ok(&self.write(&mut state, &at, object, "MODIFIED"))
            }
            Method::DELETE => match state.objects.get(path).cloned() {
                Some(object) => ok(&self.write(&mut state, path, object, "DELETED")),
                None => refuse(404, "NotFound"),
            },
            _ => refuse(405, "MethodNotAllowed"),
        }
    }
}

fn is_object(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let prefix = if parts[0] == "api" { 2 } else { 3 };
    let rest = &parts[prefix..];
    if rest[0] == "namespaces" && rest.len() > 2 { rest.len() > 3 } else { rest.len() > 1 }
}

fn ok(object: &Value) -> Response<Body> {
    Response::new(full(object.to_string()))
}

fn refuse(code: u16, reason: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "code": code, "reason": reason, "message": reason});
    Response::builder().status(code).body(full(status.to_string())).unwrap()
}

fn streaming(receiver: mpsc::UnboundedReceiver<Bytes>) -> Response<Body> {
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        let line = receiver.recv().await?;
        Some((Ok::<_, BoxError>(Frame::data(line)), receiver))
    });
    Response::new(StreamBody::new(stream.boxed()).boxed_unsync())
}

impl Transport for Api {
    fn call(
        &self,
        request: Request<Body>,
    ) -> futures_core::future::BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let api = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body =
                body.collect().await.map_err(|error| TransportError::Broken(error.to_string()))?.to_bytes();
            Ok(api.answer(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default(), &body))
        })
    }
}
