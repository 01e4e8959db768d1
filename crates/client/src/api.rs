//! Typed requests. [`Client`] belongs to one identity; [`Api`] adds a kind and a namespace.

use crate::error::{ClientError, ErrorStatus};
use crate::transport::{Body, Transport, empty, full};
use crate::watch::{WatchOptions, WatchStream};
use bytes::{Bytes, BytesMut};
use futures_core::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use nauplius_kinds::object::{Object, Page};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use std::marker::PhantomData;
use std::sync::Arc;

/// The largest answer read into memory, 256 MiB: beyond it a list must be paged.
const MAX_ANSWER_BYTES: usize = 256 << 20;

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Percent-encodes one query value or path segment.
pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// Sends requests as one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    user_agent: Arc<str>,
}

impl Client {
    /// A client over `transport` that calls itself `user_agent`.
    pub fn new(transport: Arc<dyn Transport>, user_agent: &str) -> Self {
        Self { transport, user_agent: user_agent.into() }
    }

    /// The kind `T` in all namespaces, or a cluster-scoped kind.
    pub fn all<T: Object>(&self) -> Api<T> {
        Api { client: self.clone(), namespace: None, kind: PhantomData }
    }

    /// The kind `T` in one namespace (ignored by cluster-scoped kinds).
    pub fn namespaced<T: Object>(&self, namespace: &str) -> Api<T> {
        let namespace = T::NAMESPACED.then(|| namespace.to_owned());
        Api { client: self.clone(), namespace, kind: PhantomData }
    }

    /// Sends any request and hands the streaming response over once the server said yes. The future borrows nothing.
    ///
    /// # Errors
    /// The server's `Status`, or why there was no answer.
    pub fn send(
        &self,
        method: Method,
        path_and_query: &str,
        content_type: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> BoxFuture<'static, Result<Response<Body>, ClientError>> {
        let request = self.build(method, path_and_query, content_type, body);
        let transport = Arc::clone(&self.transport);
        Box::pin(async move {
            let response = transport.call(request?).await?;
            if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
        })
    }

    fn build(
        &self,
        method: Method,
        path_and_query: &str,
        content_type: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> Result<Request<Body>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path_and_query)
            .header(header::USER_AGENT, &*self.user_agent)
            .header(header::ACCEPT, "application/json");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        request.body(body.map_or_else(empty, full)).map_err(|error| ClientError::Request(error.to_string()))
    }

    /// Sends any request and reads the whole answer. The future borrows nothing.
    ///
    /// # Errors
    /// As [`Client::send`]; [`ClientError::Body`] when the answer breaks off.
    pub fn request(
        &self,
        method: Method,
        path_and_query: &str,
        content_type: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> BoxFuture<'static, Result<Bytes, ClientError>> {
        let response = self.send(method, path_and_query, content_type, body);
        Box::pin(async move { read(response.await?).await })
    }
}

async fn read(response: Response<Body>) -> Result<Bytes, ClientError> {
    let mut body = response.into_body();
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClientError::Body(error.to_string()))?;
        // Trailers carry nothing here.
        collected.extend_from_slice(&frame.into_data().unwrap_or_default());
        if collected.len() > MAX_ANSWER_BYTES {
            return Err(ClientError::Body(format!("it is larger than {MAX_ANSWER_BYTES} bytes")));
        }
    }
    Ok(collected.freeze())
}

async fn refusal(response: Response<Body>) -> ClientError {
    let code = response.status();
    match read(response).await {
        Ok(body) => ClientError::Api(Box::new(decode_status(code, &body))),
        Err(error) => error,
    }
}

fn decode_status(code: StatusCode, body: &[u8]) -> ErrorStatus {
    match serde_json::from_slice::<ErrorStatus>(body) {
        Ok(status) if status.code != 0 => status,
        // Not a Status: a proxy or a plain-text answer; the code still decides.
        _ => ErrorStatus {
            code: code.as_u16(),
            reason: code.canonical_reason().unwrap_or_default().replace(' ', ""),
            message: String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned(),
            details: None,
        },
    }
}

/// What a list should hold.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// `a=b,c in (d,e)`
    pub label_selector: String,
    /// `spec.nodeName=n`
    pub field_selector: String,
    /// `0` = any version the server has at hand.
    pub resource_version: String,
    /// At most so many, 0 = all.
    pub limit: u32,
    /// From the last page.
    pub continue_: String,
}

impl ListOptions {
    fn query(&self) -> Query {
        let mut query = Query::default();
        query.text("labelSelector", &self.label_selector);
        query.text("fieldSelector", &self.field_selector);
        query.text("resourceVersion", &self.resource_version);
        query.text("continue", &self.continue_);
        if self.limit > 0 {
            query.text("limit", &self.limit.to_string());
        }
        query
    }
}

/// Grows `?a=b&c=d`.
#[derive(Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&escape(value));
        }
    }

    pub(crate) fn text_of(self) -> String {
        self.0
    }
}

/// What must hold for a delete to happen.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// The object must still be this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The object must not have changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// How to delete.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOptions {
    /// Seconds; 0 = at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<&'static str>,
    /// Checked by the server before it deletes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
}

impl DeleteOptions {
    /// Deletes only the object with this uid.
    pub fn of_uid(uid: &str) -> Self {
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        Self { preconditions, ..Self::default() }
    }
}

/// A patch and its kind.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 7386.
    Merge(serde_json::Value),
    /// Kubernetes' strategic merge.
    Strategic(serde_json::Value),
    /// RFC 6902.
    Json(serde_json::Value),
}

impl Patch {
    /// The media type and the body.
    pub fn into_parts(self) -> (&'static str, Vec<u8>) {
        match self {
            Patch::Merge(value) => ("application/merge-patch+json", value.to_string().into_bytes()),
            Patch::Strategic(value) => {
                ("application/strategic-merge-patch+json", value.to_string().into_bytes())
            }
            Patch::Json(value) => ("application/json-patch+json", value.to_string().into_bytes()),
        }
    }
}

/// One kind, in one namespace or all.
pub struct Api<T> {
    client: Client,
    namespace: Option<String>,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Api<T> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), namespace: self.namespace.clone(), kind: PhantomData }
    }
}

/// `/api/v1/namespaces/ns/pods/name/sub`, for any kind.
pub fn path<T: Object>(namespace: Option<&str>, name: Option<&str>, subresource: Option<&str>) -> String {
    let mut path = if T::GROUP.is_empty() {
        format!("/api/{}", T::VERSION)
    } else {
        format!("/apis/{}/{}", T::GROUP, T::VERSION)
    };
    let namespaces = namespace.filter(|namespace| T::NAMESPACED && !namespace.is_empty());
    for part in [namespaces.map(|_| "namespaces"), namespaces, Some(T::PLURAL), name, subresource]
        .into_iter()
        .flatten()
    {
        path.push('/');
        path.push_str(&escape(part));
    }
    path
}

const JSON: Option<&str> = Some("application/json");

impl<T: Object> Api<T> {
    fn path(&self, name: Option<&str>, subresource: Option<&str>) -> String {
        path::<T>(self.namespace.as_deref(), name, subresource)
    }

    fn path_of(&self, object: &T, subresource: Option<&str>) -> String {
        let own = Some(object.namespace()).filter(|namespace| !namespace.is_empty());
        path::<T>(own.or(self.namespace.as_deref()), Some(object.name()), subresource)
    }

    /// The client below.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads one object.
    ///
    /// # Errors
    /// NotFound and whatever else the server refuses with.
    pub async fn get(&self, name: &str) -> Result<T, ClientError> {
        let answer = self.client.request(Method::GET, &self.path(Some(name), None), None, None).await?;
        Ok(T::decode(&answer)?)
    }

    /// Reads one page.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn list(&self, options: &ListOptions) -> Result<Page<T>, ClientError> {
        let url = self.path(None, None) + &options.query().text_of();
        let answer = self.client.request(Method::GET, &url, None, None).await?;
        Ok(T::decode_list(&answer)?)
    }

    /// Opens a watch.
    ///
    /// # Errors
    /// The server's refusal; 410 when the revision is gone.
    pub async fn watch(&self, options: &WatchOptions) -> Result<WatchStream<T>, ClientError> {
        let url = self.path(None, None) + &options.query();
        Ok(WatchStream::new(self.client.send(Method::GET, &url, None, None).await?.into_body()))
    }

    /// Creates an object, in its own namespace or this one.
    ///
    /// # Errors
    /// AlreadyExists, Invalid, ...
    pub async fn create(&self, object: &T) -> Result<T, ClientError> {
        let own = Some(object.namespace()).filter(|namespace| !namespace.is_empty());
        let url = path::<T>(own.or(self.namespace.as_deref()), None, None);
        let answer = self.client.request(Method::POST, &url, JSON, Some(object.encode())).await?;
        Ok(T::decode(&answer)?)
    }

    /// Replaces an object; its resourceVersion guards against lost updates.
    ///
    /// # Errors
    /// Conflict when it has changed since it was read.
    pub async fn update(&self, object: &T) -> Result<T, ClientError> {
        self.put(object, None).await
    }

    /// Replaces an object's status.
    ///
    /// # Errors
    /// As [`Api::update`].
    pub async fn update_status(&self, object: &T) -> Result<T, ClientError> {
        self.put(object, Some("status")).await
    }

    async fn put(&self, object: &T, subresource: Option<&str>) -> Result<T, ClientError> {
        let url = self.path_of(object, subresource);
        let answer = self.client.request(Method::PUT, &url, JSON, Some(object.encode())).await?;
        Ok(T::decode(&answer)?)
    }

    /// Patches an object or one of its subresources.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn patch(&self, name: &str, subresource: Option<&str>, patch: Patch) -> Result<T, ClientError> {
        let (content_type, body) = patch.into_parts();
        let url = self.path(Some(name), subresource);
        let answer = self.client.request(Method::PATCH, &url, Some(content_type), Some(body)).await?;
        Ok(T::decode(&answer)?)
    }

    /// Deletes an object. The answer (the object while it terminates, or a Status) is returned raw.
    ///
    /// # Errors
    /// NotFound; Conflict when a precondition fails.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<Bytes, ClientError> {
        let body = serde_json::to_vec(options).map_err(|error| ClientError::Request(error.to_string()))?;
        self.client.request(Method::DELETE, &self.path(Some(name), None), JSON, Some(body)).await
    }

    /// Posts to a subresource (`binding`, `token`, `eviction`) and returns the raw answer.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn post(&self, name: &str, subresource: &str, body: Vec<u8>) -> Result<Bytes, ClientError> {
        self.client.request(Method::POST, &self.path(Some(name), Some(subresource)), JSON, Some(body)).await
    }
}
