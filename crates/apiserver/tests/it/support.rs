//! A server in this process with a scripted client.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use nauplius_apiserver::authz::{Authorize, RuleList, Union, Verdict};
use nauplius_apiserver::request::Attributes;
use nauplius_apiserver::{ApiServer, Config, UserInfo};
use nauplius_base::task::Group;
use nauplius_base::time::timeout;
use nauplius_client::transport::{Body, Transport, empty, full};
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::model::ModelStore;
use nauplius_store::{Clock, Store};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A running server, and the directory of its store.
pub struct Fixture {
    pub server: Arc<ApiServer>,
    pub client: Arc<dyn Transport>,
    group: Group,
    _directory: Option<tempfile::TempDir>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.group.shut_down();
    }
}

/// A server over the embedded store.
pub async fn embedded() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), Options::default()).await.unwrap();
    start(Arc::new(store), Some(directory), |_| {}).await
}

/// A server over the model.
pub async fn model() -> Fixture {
    configured(|_| {}).await
}

/// A server over a store of the test's own.
pub async fn over_store(store: Arc<dyn Store>) -> Fixture {
    start(store, None, |_| {}).await
}

/// A server over the model, with another configuration.
pub async fn configured(change: impl FnOnce(&mut Config)) -> Fixture {
    start(Arc::new(ModelStore::new(Clock::system())), None, change).await
}

async fn start(
    store: Arc<dyn Store>,
    directory: Option<tempfile::TempDir>,
    change: impl FnOnce(&mut Config),
) -> Fixture {
    let mut config = Config::new(store, nauplius_kinds::builtin(), Arc::new(Union::default()));
    change(&mut config);
    let group = Group::new();
    let server = ApiServer::start(config, &group).await.unwrap();
    let client = server.transport(UserInfo::authenticated("admin", &["system:masters"]));
    Fixture { server, client, group, _directory: directory }
}

/// Everyone may do everything.
pub struct Everyone;

impl Authorize for Everyone {
    fn authorize<'a>(&'a self, _: &'a Attributes) -> BoxFuture<'a, Verdict> {
        Box::pin(async { Verdict::allow("") })
    }

    fn rules<'a>(&'a self, _: &'a UserInfo, _: &'a str) -> BoxFuture<'a, RuleList> {
        Box::pin(async { RuleList::default() })
    }
}

/// An answer, read whole.
pub struct Answer {
    pub code: StatusCode,
    pub headers: http::HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&self.bytes));
        })
    }

    /// The code and the message of a Status.
    pub fn refusal(&self) -> String {
        format!("{} {}", self.code.as_u16(), self.json()["message"].as_str().unwrap_or_default())
    }

    pub fn expect(self, code: u16) -> Value {
        assert_eq!(self.code.as_u16(), code, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }
}

impl Fixture {
    /// A client of a server that someone else owns.
    pub fn over(server: Arc<ApiServer>, client: Arc<dyn Transport>) -> Self {
        Self { server, client, group: Group::new(), _directory: None }
    }

    pub async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.client.call(request).await.unwrap()
    }

    pub async fn with_headers(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body: Bytes = body.into();
        let body = if body.is_empty() { empty() } else { full(body) };
        let response = self.send(request.body(body).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes =
            timeout(Duration::from_secs(20), body.collect()).await.expect("an answer in time").unwrap();
        Answer { code: parts.status, headers: parts.headers, bytes: bytes.to_bytes() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.with_headers(Method::GET, path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.with_headers(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.with_headers(Method::PUT, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub async fn patch(&self, path: &str, content_type: &str, body: &Value) -> Answer {
        self.with_headers(Method::PATCH, path, &[("content-type", content_type)], body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.with_headers(Method::DELETE, path, &[], Bytes::new()).await
    }

    pub async fn delete_with(&self, path: &str, body: &Value) -> Answer {
        self.with_headers(Method::DELETE, path, &[("content-type", "application/json")], body.to_string())
            .await
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str) -> Events {
        let response = self.send(Request::get(path).body(empty()).unwrap()).await;
        assert_eq!(response.status(), 200, "{path}");
        Events { body: response.into_body(), rest: Vec::new() }
    }
}

/// A watch in progress.
pub struct Events {
    body: Body,
    rest: Vec<u8>,
}

impl Events {
    /// The next event, or `None` when the watch has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame =
                timeout(Duration::from_secs(10), self.body.frame()).await.expect("an event in time")?;
            self.rest.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    /// The next event as `TYPE name@revision`.
    pub async fn line(&mut self) -> String {
        let Some(event) = self.next().await else { return "END".to_owned() };
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str().unwrap_or("-");
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or("-");
        format!("{} {name}@{version}", event["type"].as_str().unwrap())
    }
}

pub fn config_map(name: &str, labels: &Value, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data})
}

pub fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}
