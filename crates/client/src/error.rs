//! What a request can fail with. Decisions are made on the status' code and reason, never on text.

use crate::transport::TransportError;
use nauplius_kinds::DecodeError;
use serde::Deserialize;

/// The server's `Status`, as far as callers decide by it.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorStatus {
    /// The HTTP code.
    pub code: u16,
    /// `NotFound`, `AlreadyExists`, `Conflict`, ...
    pub reason: String,
    /// For people.
    pub message: String,
    /// Name, kind, causes and the time to wait.
    pub details: Option<ErrorDetails>,
}

/// The details of a `Status`.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorDetails {
    /// The object's name.
    pub name: String,
    /// The resource.
    pub kind: String,
    /// Field errors.
    pub causes: Vec<ErrorCause>,
    /// Seconds to wait before another try.
    pub retry_after_seconds: u64,
}

/// One cause of a `Status`.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct ErrorCause {
    /// `FieldValueInvalid`, ...
    pub reason: String,
    /// For people.
    pub message: String,
    /// The field's path.
    pub field: String,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused.
    #[error("{}", .0.message)]
    Api(Box<ErrorStatus>),
    /// The request did not get through.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The answer is not what was asked for.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The answer ended early or is too large.
    #[error("cannot read the answer: {0}")]
    Body(String),
    /// The caller asked for something that no request can say.
    #[error("invalid request: {0}")]
    Request(String),
}

impl ClientError {
    /// The HTTP code of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            ClientError::Api(status) => Some(status.code),
            _ => None,
        }
    }

    fn has_reason(&self, reason: &str) -> bool {
        matches!(self, ClientError::Api(status) if status.reason == reason)
    }

    /// 404: it is not there.
    pub fn is_not_found(&self) -> bool {
        self.has_reason("NotFound")
    }

    /// 409 because the name is taken.
    pub fn is_already_exists(&self) -> bool {
        self.has_reason("AlreadyExists")
    }

    /// 409 because the object moved on.
    pub fn is_conflict(&self) -> bool {
        self.has_reason("Conflict")
    }

    /// 410: the revision is compacted away; list again.
    pub fn is_expired(&self) -> bool {
        self.has_reason("Expired") || self.has_reason("Gone")
    }

    /// 403.
    pub fn is_forbidden(&self) -> bool {
        self.has_reason("Forbidden")
    }

    /// 400, 403 or 422: the server does not want what it was sent, and will not want it later.
    pub fn is_refusal(&self) -> bool {
        ["BadRequest", "Forbidden", "Invalid"].into_iter().any(|reason| self.has_reason(reason))
    }

    /// The namespace is being deleted, so nothing may be created in it.
    pub fn is_namespace_terminating(&self) -> bool {
        let ClientError::Api(status) = self else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }
}
