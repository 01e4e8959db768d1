//! A watch: newline-delimited JSON frames, each an event, with bookmarks and errors told apart.

use crate::api::Query;
use crate::error::{ClientError, ErrorStatus};
use crate::transport::Body;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use nauplius_kinds::Object;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::marker::PhantomData;

/// The largest event that is read, 32 MiB.
const MAX_EVENT_BYTES: usize = 32 << 20;

/// What to watch.
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    /// As in a list.
    pub label_selector: String,
    /// As in a list.
    pub field_selector: String,
    /// Events after this revision.
    pub resource_version: String,
    /// The server ends the watch after so long; 0 = as it likes.
    pub timeout_s: u64,
}

impl WatchOptions {
    pub(crate) fn query(&self) -> String {
        let mut query = Query::default();
        query.text("watch", "1");
        query.text("allowWatchBookmarks", "true");
        query.text("labelSelector", &self.label_selector);
        query.text("fieldSelector", &self.field_selector);
        query.text("resourceVersion", &self.resource_version);
        if self.timeout_s > 0 {
            query.text("timeoutSeconds", &self.timeout_s.to_string());
        }
        query.text_of()
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent<T> {
    /// Came into view.
    Added(T),
    /// Changed.
    Modified(T),
    /// Left the view; its last state at the revision of the deletion.
    Deleted(T),
    /// Nothing happened up to this revision.
    Bookmark {
        /// The revision.
        resource_version: String,
    },
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    type_: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
}

/// The events of one watch, in order.
pub struct WatchStream<T> {
    body: Body,
    buffer: BytesMut,
    kind: PhantomData<fn() -> T>,
}

impl<T: Object> WatchStream<T> {
    /// Reads the answer to a watch request that the caller sent itself.
    pub fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), kind: PhantomData }
    }

    /// The next event; `None` when the server ended the watch. Safe to cancel.
    ///
    /// # Errors
    /// The `Status` of an ERROR event (410 = list again), or a broken connection.
    pub async fn next(&mut self) -> Result<Option<WatchEvent<T>>, ClientError> {
        match self.line().await? {
            Some(line) => decode(&line).map(Some),
            None => Ok(None),
        }
    }

    async fn line(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + end).freeze();
                self.buffer.advance(1);
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if searched > MAX_EVENT_BYTES {
                return Err(ClientError::Body(format!(
                    "a watch event is larger than {MAX_EVENT_BYTES} bytes"
                )));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(ClientError::Body(error.to_string())),
                None => return Ok(None),
            }
        }
    }
}

fn decode<T: Object>(line: &[u8]) -> Result<WatchEvent<T>, ClientError> {
    let malformed = |error: serde_json::Error| ClientError::Body(format!("malformed watch event: {error}"));
    let frame: Frame<'_> = serde_json::from_slice(line).map_err(malformed)?;
    let object = frame.object.get().as_bytes();
    match frame.type_ {
        "ADDED" => Ok(WatchEvent::Added(T::decode(object)?)),
        "MODIFIED" => Ok(WatchEvent::Modified(T::decode(object)?)),
        "DELETED" => Ok(WatchEvent::Deleted(T::decode(object)?)),
        "BOOKMARK" => {
            let bookmark: Bookmark = serde_json::from_slice(object).map_err(malformed)?;
            Ok(WatchEvent::Bookmark { resource_version: bookmark.metadata.resource_version })
        }
        "ERROR" => {
            let status: ErrorStatus = serde_json::from_slice(object).map_err(malformed)?;
            Err(ClientError::Api(Box::new(status)))
        }
        other => Err(ClientError::Body(format!("unknown watch event type {other:?}"))),
    }
}
