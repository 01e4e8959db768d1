//! Watch events as bytes: newline-delimited JSON, length-delimited protobuf, or a sequence of CBOR documents. An event is a beginning, the bulk of the object, which
//! its entry keeps, and an end.

use crate::cache::{Entry, Piece, Pieces, Place};
use crate::codec;
use crate::error::ApiResult;
use crate::metrics::Events;
use crate::negotiate::{CBOR_SEQUENCE, Format, JSON};
use crate::render::{Bulk, Kept, View};
use bytes::Bytes;
use nauplius_meta::error::ApiError;
use nauplius_meta::{cbor, json, protobuf};
use nauplius_streaming::Message;
use serde_json::Value;
use std::sync::Arc;

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

/// What other watchers were just sent of one change's object.
pub(crate) struct Others<'a> {
    pub objects: &'a Pieces,
    /// The same for all who see objects in the same form.
    pub form: &'a Arc<str>,
    pub place: Place,
}

impl Others<'_> {
    fn find(&self) -> Option<Bytes> {
        Some(self.objects.find(self.form, self.place)?.bytes.clone())
    }

    fn keep(&self, bytes: &Bytes) {
        let piece = Piece { bytes: bytes.clone(), reached: self.place, counted: Events::default() };
        self.objects.keep(self.form, self.place, piece);
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

    /// Writes the beginning of an object's event at `revision`; the bulk and the end, which follow it, are returned. What has to be made
    /// of the object is asked of `others` first.
    pub fn open(
        &self,
        out: &mut Vec<u8>,
        event: EventType,
        entry: &Entry,
        revision: i64,
        others: Option<&Others<'_>>,
    ) -> ApiResult<(Bulk, &'static [u8])> {
        let others = others.filter(|_| self.view.makes(entry, revision) && self.is_settled());
        let found = others.and_then(Others::find).map(|bytes| Bulk { bytes, kept: None });
        let is_new = found.is_none();
        let (bulk, tail) = self.open_with(out, event, entry, revision, found)?;
        if let Some(others) = others.filter(|_| is_new) {
            others.keep(&bulk.bytes);
        }
        Ok((bulk, tail))
    }

    fn open_with(
        &self,
        out: &mut Vec<u8>,
        event: EventType,
        entry: &Entry,
        revision: i64,
        found: Option<Bulk>,
    ) -> ApiResult<(Bulk, &'static [u8])> {
        match self.view.output.format {
            Format::Cbor => {
                cbor::event_head(out, event.as_str());
                Ok((found.map_or_else(|| self.view.cbor(entry, revision), Ok)?, b""))
            }
            Format::Protobuf => {
                let message = found.map_or_else(|| self.view.message(entry, revision), Ok)?;
                let (kind, api_version) = self.view.type_meta();
                let (head, tail) =
                    protobuf::watch_frame_around(event.as_str(), &api_version, &kind, message.bytes.len());
                out.extend_from_slice(&head);
                Ok((message, tail))
            }
            Format::Json | Format::Yaml => {
                open(out, event);
                let bulk = match found {
                    Some(found) => found,
                    None => self.view.open(out, entry.stored(), entry.layout(), revision)?,
                };
                Ok((bulk, b"}\n"))
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests_support::entry;
    use crate::negotiate::{Output, Shape};
    use crate::table::IncludeObject;

    fn frames(format: Format, shape: Shape) -> Frames {
        let kinds = nauplius_kinds::builtin();
        let kind = kinds.iter().find(|kind| &*kind.descriptor().plural == "configmaps").unwrap();
        let output = Output { format, pretty: false, shape };
        Frames::new(View::new(Arc::clone(kind), 0, output, IncludeObject::Metadata)).unwrap()
    }

    /// Whether a second watcher is given what was made for the first, which is seen by its being of another object.
    fn is_shared(frames: &Frames, revision: i64) -> bool {
        let (objects, form) = (Pieces::of_objects(Arc::default()), Arc::from(frames.likeness()));
        let others = |revision| Others {
            objects: &objects,
            form: &form,
            place: Place::Object { revision, number: 0, before: false },
        };
        let open = |name: &str, at| {
            let (mut out, entry) = (Vec::new(), entry(name, 3));
            let (bulk, tail) =
                frames.open(&mut out, EventType::Modified, &entry, revision, Some(&others(at))).unwrap();
            [&out[..], &bulk.bytes, tail].concat()
        };
        let first = open("one", 7);
        assert_ne!(open("one-more", 8), first);
        open("two-more", 7) == first
    }

    #[test]
    fn what_has_to_be_made_of_an_object_is_made_once() {
        for format in [Format::Json, Format::Protobuf, Format::Cbor] {
            assert!(is_shared(&frames(format, Shape::Metadata("v1".into())), 3), "{format:?}");
        }
        assert!(is_shared(&frames(Format::Cbor, Shape::Object), 3));
        assert!(is_shared(&frames(Format::Protobuf, Shape::Object), 4), "of a deleted object");
        // The entry has these.
        assert!(!is_shared(&frames(Format::Json, Shape::Object), 4));
        assert!(!is_shared(&frames(Format::Protobuf, Shape::Object), 3));
    }
}
