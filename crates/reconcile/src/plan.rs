//! What a controller decides: actions as data, a time to look again, and the reasons for waiting. Planning is pure; the
//! driver alone acts.

use crate::events::{EventKind, ObjectRef};
use http::Method;
use nauplius_client::api::path;
use nauplius_client::{DeleteOptions, Patch};
use nauplius_kinds::Object;
use std::time::Duration;

/// Why nothing (more) is done now, in a person's words: "waiting for 2 pods to become ready".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(pub String);

/// An event to record, with `{name}` standing for the written object's name and `{error}` for the refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub about: ObjectRef,
    /// Normal or Warning.
    pub kind: EventKind,
    /// `SuccessfulCreate`, ...
    pub reason: &'static str,
    /// The text, with placeholders.
    pub message: String,
}

/// One write request, ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// POST, PUT, PATCH or DELETE.
    pub method: Method,
    /// The whole path.
    pub path: String,
    /// The body's media type.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// The resource written to, in its plural: what the driver waits to see in the cache.
    pub resource: &'static str,
    /// Whether the write is to the object itself, not a subresource: creates and deletes of these go in batches.
    pub batchable: bool,
    /// Recorded when it succeeds.
    pub on_success: Option<Note>,
    /// Recorded when it is refused.
    pub on_failure: Option<Note>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a request.
    Write(Box<Write>),
    /// Record an event.
    Event(Box<Note>),
}

impl Note {
    /// An event about `object`.
    pub fn about<T: Object>(
        object: &T,
        kind: EventKind,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { about: ObjectRef::of(object), kind, reason, message: message.into() }
    }
}

const JSON: &str = "application/json";

fn write<T: Object>(method: Method, path: String, content_type: &'static str, body: Vec<u8>) -> Action {
    let batchable = matches!(method, Method::POST | Method::DELETE);
    let (resource, on_success, on_failure) = (T::PLURAL, None, None);
    Action::Write(Box::new(Write {
        method,
        path,
        content_type,
        body,
        resource,
        batchable,
        on_success,
        on_failure,
    }))
}

fn own_path<T: Object>(object: &T, name: Option<&str>, subresource: Option<&str>) -> String {
    path::<T>(Some(object.namespace()), name, subresource)
}

impl Action {
    /// Create `object`.
    pub fn create<T: Object>(object: &T) -> Self {
        write::<T>(Method::POST, own_path(object, None, None), JSON, object.encode())
    }

    /// Replace `object`; the resourceVersion it was read with guards it.
    pub fn update<T: Object>(object: &T) -> Self {
        let path = own_path(object, Some(object.name()), None);
        write::<T>(Method::PUT, path, JSON, object.encode())
    }

    /// Replace the status of `object`.
    pub fn update_status<T: Object>(object: &T) -> Self {
        Self::update_subresource(object, "status")
    }

    /// Replace `object` through a subresource (`status`, `finalize`).
    pub fn update_subresource<T: Object>(object: &T, subresource: &str) -> Self {
        let path = own_path(object, Some(object.name()), Some(subresource));
        write::<T>(Method::PUT, path, JSON, object.encode())
    }

    /// Patch `object` (by name) or one of its subresources.
    pub fn patch<T: Object>(object: &T, subresource: Option<&str>, patch: Patch) -> Self {
        let (content_type, body) = patch.into_parts();
        let path = own_path(object, Some(object.name()), subresource);
        write::<T>(Method::PATCH, path, content_type, body)
    }

    /// Delete `object`, this very one: its uid is a precondition.
    pub fn delete<T: Object>(object: &T) -> Self {
        Self::delete_with(object, DeleteOptions::of_uid(object.uid()))
    }

    /// Delete `object` with options of the caller's.
    pub fn delete_with<T: Object>(object: &T, options: DeleteOptions) -> Self {
        // DeleteOptions holds only strings and numbers: it always encodes.
        let body = serde_json::to_vec(&options).unwrap_or_default();
        let path = own_path(object, Some(object.name()), None);
        write::<T>(Method::DELETE, path, JSON, body)
    }

    /// Record an event about `object`.
    pub fn event<T: Object>(
        object: &T,
        kind: EventKind,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Action::Event(Box::new(Note::about(object, kind, reason, message)))
    }

    /// Record `note` when this write succeeds.
    pub fn on_success(mut self, note: Note) -> Self {
        if let Action::Write(write) = &mut self {
            write.on_success = Some(note);
        }
        self
    }

    /// Record `note` when this write is refused.
    pub fn on_failure(mut self, note: Note) -> Self {
        if let Action::Write(write) = &mut self {
            write.on_failure = Some(note);
        }
        self
    }
}

/// What to do about one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order; neighbours that create, or delete, the same resource go out in growing batches.
    pub actions: Vec<Action>,
    /// Look again after so long although nothing changed.
    pub again_after: Option<Duration>,
    /// Why there is nothing more to do.
    pub reasons: Vec<Reason>,
}

impl Plan {
    /// Nothing to do.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds an action.
    pub fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Adds a reason for waiting.
    pub fn because(&mut self, reason: impl Into<String>) {
        self.reasons.push(Reason(reason.into()));
    }

    /// Looks again after `delay`, or sooner if that was asked for already.
    pub fn again(&mut self, delay: Duration) {
        self.again_after = Some(self.again_after.map_or(delay, |known| known.min(delay)));
    }
}
