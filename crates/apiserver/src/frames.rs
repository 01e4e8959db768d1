//! Watch events as bytes: newline-delimited JSON, length-delimited protobuf, or a sequence of CBOR documents. An event is a beginning, the bulk of the object, which
//! its entry keeps, and an end.

use crate::cache::Entry;
use crate::codec;
use crate::error::ApiResult;
use crate::negotiate::{CBOR_SEQUENCE, Format, JSON};
use crate::render::{Bulk, Kept, View};
use bytes::Bytes;
use nauplius_meta::error::ApiError;
use nauplius_meta::{cbor, json, protobuf};
use nauplius_streaming::Message;
use serde_json::Value;

/// What happened to an object, to one watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
            Self::Error => "ERROR",
        }
    }
}

/// Writes events for one client.
pub(crate) struct Frames {
    view: View,
}

impl Frames {
    /// For a client that sees objects through `view`.
    pub fn new(mut view: View) -> ApiResult<Self> {
        view.output.pretty = false;
        if view.output.format == Format::Yaml {
            let streams = [Format::Json, Format::Protobuf];
            let streams = streams.iter().map(|format| format!("{};stream=watch", format.media_type()));
            return Err(ApiError::NotAcceptable(streams.chain([CBOR_SEQUENCE.to_owned()]).collect()));
        }
        Ok(Self { view: view.stream() })
    }

    /// What is the same for all clients that are sent the same bytes for the same event.
    pub fn likeness(&self) -> String {
        self.view.likeness()
    }

    /// Whether the bytes of an event no longer depend on what this client was sent before.
    pub fn is_settled(&self) -> bool {
        self.view.is_settled()
    }

    /// The stream's media type.
    pub fn content_type(&self) -> &'static str {
        match self.view.output.format {
            Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            Format::Cbor => CBOR_SEQUENCE,
            Format::Json | Format::Yaml => JSON,
        }
    }

    /// Writes the beginning of an object's event at `revision`; the bulk and the end, which follow it, are returned.
    pub fn open(
        &self,
        out: &mut Vec<u8>,
        event: EventType,
        entry: &Entry,
        revision: i64,
    ) -> ApiResult<(Bulk, &'static [u8])> {
        if self.view.output.format == Format::Cbor {
            cbor::event_head(out, event.as_str());
            return Ok((self.view.cbor(entry, revision)?, b""));
        }
        if self.view.output.format == Format::Protobuf {
            let message = self.view.message(entry, revision)?;
            let (kind, api_version) = self.view.type_meta();
            let (head, tail) =
                protobuf::watch_frame_around(event.as_str(), &api_version, &kind, message.bytes.len());
            out.extend_from_slice(&head);
            return Ok((message, tail));
        }
        open(out, event);
        Ok((self.view.open(out, entry.stored(), entry.layout(), revision)?, b"}\n"))
    }

    /// The bulk of an event that was begun before, while its entry kept it.
    pub fn bulk_again(&self, entry: &Entry, kept: Kept) -> ApiResult<Bytes> {
        match kept {
            Kept::Stored => Ok(entry.stored().slice(entry.layout().rest()..)),
            Kept::Message => Ok(self.view.message(entry, entry.revision())?.bytes),
        }
    }

    /// A bookmark.
    pub fn bookmark(&self, out: &mut Vec<u8>, revision: i64, initial_events_end: bool) {
        let bookmark = self.view.bookmark(revision, initial_events_end);
        self.value(out, EventType::Bookmark, &bookmark);
    }

    /// The last event of a watch that failed.
    pub fn error(&self, out: &mut Vec<u8>, error: &ApiError) {
        // A Status always has a JSON form.
        let status: Value = serde_json::from_slice(&error.to_status().to_json()).unwrap_or_default();
        self.value(out, EventType::Error, &status);
    }

    /// What was written as one stream, cut into the messages of a WebSocket.
    pub fn messages(&self, stream: &Bytes) -> Vec<Message> {
        if self.view.output.format == Format::Protobuf {
            return cut(stream).into_iter().map(Message::Binary).collect();
        }
        if self.view.output.format == Format::Cbor {
            return cut_documents(stream).into_iter().map(Message::Binary).collect();
        }
        let lines = stream.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| Message::Text(stream.slice_ref(line))).collect()
    }

    fn value(&self, out: &mut Vec<u8>, event: EventType, value: &Value) {
        if self.view.output.format == Format::Protobuf {
            match codec::protobuf_watch_event(event.as_str(), value) {
                Ok(frame) => out.extend_from_slice(&frame),
                // Bookmarks and Status are plain messages; a client without them only misses a hint.
                Err(error) => tracing::error!(%error, "an event could not be encoded"),
            }
            return;
        }
        if self.view.output.format == Format::Cbor {
            cbor::event_head(out, event.as_str());
            out.extend_from_slice(&cbor::encode(value));
            return;
        }
        open(out, event);
        out.extend_from_slice(&json::encode(value));
        out.extend_from_slice(b"}\n");
    }
}

/// The messages of a stream in which a length of four bytes stands before each.
fn cut(stream: &Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let mut rest = stream.clone();
    while let Some(length) = rest.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) {
        let message = rest.split_off(4);
        rest = message.clone();
        let end = length.min(rest.len());
        messages.push(rest.split_to(end));
    }
    messages
}

/// The documents of a sequence, which this server wrote.
fn cut_documents(stream: &Bytes) -> Vec<Bytes> {
    let ends = cbor::documents(stream).unwrap_or_else(|error| {
        tracing::error!(%error, "a sequence of CBOR documents could not be cut");
        vec![stream.len()]
    });
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, end)| stream.slice(start..*end)).collect()
}

fn open(out: &mut Vec<u8>, event: EventType) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_str().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
}
