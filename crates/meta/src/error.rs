//! Why the API refuses a request, as data, and the one translation to `Status`. It must not know stores, sockets or kinds.
use crate::field::{self, FieldError};
use crate::gvk::{GroupKind, GroupResource};
pub use crate::status::{ListMeta, Reason, Status, StatusCause, StatusDetails};

/// What upstream says when an update carries an old resourceVersion.
pub const OPTIMISTIC_LOCK_MESSAGE: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", self.message())]
pub enum ApiError {
    /// 404: the object does not exist.
    NotFound {
        /// Of what.
        resource: GroupResource,
        /// Its name.
        name: String,
    },
    /// 404: nothing is served at this path.
    PathNotFound,
    /// 409: the name is taken.
    AlreadyExists {
        /// Of what.
        resource: GroupResource,
        /// Its name.
        name: String,
    },
    /// 409: every name that was made from generateName was taken.
    GenerateNameConflict {
        /// Of what.
        resource: GroupResource,
        /// The last name tried.
        name: String,
        /// When a retry makes sense.
        retry_after_s: u32,
    },
    /// 409: the object changed, or a precondition does not hold.
    Conflict {
        /// Of what.
        resource: GroupResource,
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
    /// 409: another manager owns fields that were applied.
    ApplyConflict {
        /// One per field.
        causes: Vec<StatusCause>,
        /// Upstream's summary of them.
        message: String,
    },
    /// 422: the object breaks rules of its kind.
    Invalid {
        /// Of what kind.
        kind: GroupKind,
        /// Its name.
        name: String,
        /// Every rule it breaks.
        fields: Vec<FieldError>,
    },
    /// 400: the request makes no sense.
    BadRequest(String),
    /// 401: nobody knows who asks.
    Unauthorized(String),
    /// 403: who asks may not do this.
    Forbidden {
        /// To what; an empty resource for a path that is none.
        resource: GroupResource,
        /// Its name; may be empty.
        name: String,
        /// Why.
        message: String,
    },
    /// 405: the resource has no such action.
    MethodNotAllowed {
        /// Which resource.
        resource: GroupResource,
        /// Which action.
        action: String,
    },
    /// 406: no served media type is accepted by the client.
    NotAcceptable(Vec<String>),
    /// 415: the body's media type is not understood.
    UnsupportedMediaType(Vec<String>),
    /// 413: the body is too large.
    RequestEntityTooLarge(String),
    /// 410: the revision or continue token is too old.
    Expired(String),
    /// 410: as `Expired`, with where to go on and how many items are left.
    ExpiredContinue {
        /// Upstream's text.
        message: String,
        /// A token that goes on at the newest revision.
        continue_token: String,
    },
    /// 410: gone for good.
    Gone(String),
    /// 429: too much is going on, or a disruption budget does not allow it.
    TooManyRequests {
        /// When a retry makes sense; 0 when unknown.
        retry_after_s: u32,
        /// Why.
        message: String,
        /// More for programs.
        causes: Vec<StatusCause>,
    },
    /// 504: it took too long.
    Timeout {
        /// What did.
        message: String,
        /// When a retry makes sense.
        retry_after_s: u32,
    },
    /// 500 with reason ServerTimeout: try again.
    ServerTimeout {
        /// Of what.
        resource: GroupResource,
        /// Doing what.
        operation: String,
        /// When a retry makes sense.
        retry_after_s: u32,
    },
    /// 503: not now.
    ServiceUnavailable(String),
    /// 500: our mistake.
    InternalError(String),
    /// 501: this is not built.
    NotImplemented(String),
    /// What a server answered, as it is.
    Status(Box<Status>),
}

impl ApiError {
    /// The object does not exist.
    pub fn not_found(resource: &GroupResource, name: impl Into<String>) -> Self {
        Self::NotFound { resource: resource.clone(), name: name.into() }
    }

    /// The name is taken.
    pub fn already_exists(resource: &GroupResource, name: impl Into<String>) -> Self {
        Self::AlreadyExists { resource: resource.clone(), name: name.into() }
    }

    /// The object changed, or a precondition does not hold.
    pub fn conflict(resource: &GroupResource, name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Conflict { resource: resource.clone(), name: name.into(), message: message.into() }
    }

    /// The object changed since the caller read it.
    pub fn modified(resource: &GroupResource, name: impl Into<String>) -> Self {
        Self::conflict(resource, name, OPTIMISTIC_LOCK_MESSAGE)
    }

    /// Who asks may not do this.
    pub fn forbidden(resource: &GroupResource, name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Forbidden { resource: resource.clone(), name: name.into(), message: message.into() }
    }

    /// The object breaks rules of its kind.
    pub fn invalid(kind: &GroupKind, name: impl Into<String>, fields: Vec<FieldError>) -> Self {
        Self::Invalid { kind: kind.clone(), name: name.into(), fields }
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }

    /// Our mistake.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::InternalError(message.into())
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::NotFound { .. } | Self::PathNotFound => 404,
            Self::AlreadyExists { .. }
            | Self::GenerateNameConflict { .. }
            | Self::Conflict { .. }
            | Self::ApplyConflict { .. } => 409,
            Self::Invalid { .. } => 422,
            Self::BadRequest(_) => 400,
            Self::Unauthorized(_) => 401,
            Self::Forbidden { .. } => 403,
            Self::MethodNotAllowed { .. } => 405,
            Self::NotAcceptable(_) => 406,
            Self::UnsupportedMediaType(_) => 415,
            Self::RequestEntityTooLarge(_) => 413,
            Self::Expired(_) | Self::ExpiredContinue { .. } | Self::Gone(_) => 410,
            Self::TooManyRequests { .. } => 429,
            Self::Timeout { .. } => 504,
            Self::ServerTimeout { .. } | Self::InternalError(_) => 500,
            Self::ServiceUnavailable(_) => 503,
            Self::NotImplemented(_) => 501,
            Self::Status(status) => status.code,
        }
    }

    /// The word that clients decide by.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } | Self::PathNotFound => Reason::NotFound,
            Self::AlreadyExists { .. } | Self::GenerateNameConflict { .. } => Reason::AlreadyExists,
            Self::Conflict { .. } | Self::ApplyConflict { .. } => Reason::Conflict,
            Self::Invalid { .. } => Reason::Invalid,
            Self::BadRequest(_) => Reason::BadRequest,
            Self::Unauthorized(_) => Reason::Unauthorized,
            Self::Forbidden { .. } => Reason::Forbidden,
            Self::MethodNotAllowed { .. } => Reason::MethodNotAllowed,
            Self::NotAcceptable(_) => Reason::NotAcceptable,
            Self::UnsupportedMediaType(_) => Reason::UnsupportedMediaType,
            Self::RequestEntityTooLarge(_) => Reason::RequestEntityTooLarge,
            Self::Expired(_) | Self::ExpiredContinue { .. } => Reason::Expired,
            Self::Gone(_) => Reason::Gone,
            Self::TooManyRequests { .. } => Reason::TooManyRequests,
            Self::Timeout { .. } => Reason::Timeout,
            Self::ServerTimeout { .. } => Reason::ServerTimeout,
            Self::ServiceUnavailable(_) => Reason::ServiceUnavailable,
            Self::InternalError(_) => Reason::InternalError,
            Self::NotImplemented(_) => Reason::Other("NotImplemented".to_owned()),
            Self::Status(status) => status.reason.clone(),
        }
    }

    /// The text for people, in upstream's words.
    pub fn message(&self) -> String {
        match self {
            Self::NotFound { resource, name } => format!("{resource} {} not found", field::quote(name)),
            Self::PathNotFound => "the server could not find the requested resource".to_owned(),
            Self::AlreadyExists { resource, name } => {
                format!("{resource} {} already exists", field::quote(name))
            }
            Self::GenerateNameConflict { resource, name, .. } => format!(
                "{resource} {} already exists, the server was not able to generate a unique name for the object",
                field::quote(name)
            ),
            Self::Conflict { resource, name, message } => {
                format!("Operation cannot be fulfilled on {resource} {}: {message}", field::quote(name))
            }
            Self::Invalid { kind, name, fields } => invalid_message(kind, name, fields),
            Self::Unauthorized(message) if message.is_empty() => "not authorized".to_owned(),
            Self::Forbidden { resource, name, message } => forbidden_message(resource, name, message),
            Self::MethodNotAllowed { resource, action } => {
                format!(
                    "{action} is not supported on resources of kind {}",
                    field::quote(&resource.to_string())
                )
            }
            Self::NotAcceptable(accepted) => {
                format!("only the following media types are accepted: {}", accepted.join(", "))
            }
            Self::UnsupportedMediaType(accepted) => format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
            Self::RequestEntityTooLarge(message) => format!("Request entity too large: {message}"),
            Self::Timeout { message, .. } => format!("Timeout: {message}"),
            Self::ServerTimeout { resource, operation, .. } => format!(
                "The {operation} operation against {resource} could not be completed at this time, please try again."
            ),
            Self::InternalError(message) => format!("Internal error occurred: {message}"),
            Self::ApplyConflict { message, .. }
            | Self::ExpiredContinue { message, .. }
            | Self::TooManyRequests { message, .. }
            | Self::BadRequest(message)
            | Self::Unauthorized(message)
            | Self::Expired(message)
            | Self::Gone(message)
            | Self::ServiceUnavailable(message)
            | Self::NotImplemented(message) => message.clone(),
            Self::Status(status) => status.message.clone(),
        }
    }

    /// When a retry makes sense, for the `Retry-After` header.
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::GenerateNameConflict { retry_after_s, .. }
            | Self::TooManyRequests { retry_after_s, .. }
            | Self::Timeout { retry_after_s, .. }
            | Self::ServerTimeout { retry_after_s, .. } => {
                Some(*retry_after_s).filter(|seconds| *seconds > 0)
            }
            Self::Status(status) => status
                .details
                .as_ref()
                .map(|details| details.retry_after_seconds)
                .filter(|seconds| *seconds > 0),
            _ => None,
        }
    }

    /// The answer that a client gets.
    pub fn to_status(&self) -> Status {
        if let Self::Status(status) = self {
            return (**status).clone();
        }
        let mut status = Status::failure(self.code(), self.reason(), self.message());
        status.details = self.details();
        if let Self::ExpiredContinue { continue_token, .. } = self {
            status.metadata.continue_token.clone_from(continue_token);
        }
        status
    }

    fn details(&self) -> Option<StatusDetails> {
        let causes = |causes: &[StatusCause]| StatusDetails { causes: causes.to_vec(), ..Default::default() };
        let mut details = match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::GenerateNameConflict { resource, name, .. }
            | Self::Conflict { resource, name, .. }
            | Self::Forbidden { resource, name, .. } => about(resource, name),
            Self::MethodNotAllowed { resource, .. } => about(resource, ""),
            Self::ServerTimeout { resource, operation, .. } => about(resource, operation),
            Self::PathNotFound | Self::Timeout { .. } => StatusDetails::default(),
            Self::ApplyConflict { causes: list, .. } | Self::TooManyRequests { causes: list, .. } => {
                causes(list)
            }
            Self::Invalid { kind, name, fields } => StatusDetails {
                group: kind.group.clone(),
                kind: kind.kind.clone(),
                name: name.clone(),
                causes: fields.iter().map(cause).collect(),
                ..Default::default()
            },
            Self::InternalError(message) => causes(&[StatusCause::new("", message, "")]),
            Self::BadRequest(_)
            | Self::Unauthorized(_)
            | Self::NotAcceptable(_)
            | Self::UnsupportedMediaType(_)
            | Self::RequestEntityTooLarge(_)
            | Self::Expired(_)
            | Self::ExpiredContinue { .. }
            | Self::Gone(_)
            | Self::ServiceUnavailable(_)
            | Self::NotImplemented(_) => return None,
            Self::Status(status) => return status.details.clone(),
        };
        details.retry_after_seconds = self.retry_after_s().unwrap_or_default();
        Some(details)
    }

    /// 404 for an object or a path.
    pub fn is_not_found(&self) -> bool {
        self.reason() == Reason::NotFound
    }

    /// 409 because the name is taken.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == Reason::AlreadyExists
    }

    /// 409 because the object changed.
    pub fn is_conflict(&self) -> bool {
        self.reason() == Reason::Conflict
    }

    /// 410: list again.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason(), Reason::Expired | Reason::Gone)
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

fn about(resource: &GroupResource, name: &str) -> StatusDetails {
    StatusDetails {
        name: name.to_owned(),
        group: resource.group.clone(),
        kind: resource.resource.clone(),
        ..Default::default()
    }
}

fn cause(error: &FieldError) -> StatusCause {
    StatusCause::new(error.kind.cause_type(), error.body(), error.path.to_string())
}

fn invalid_message(kind: &GroupKind, name: &str, fields: &[FieldError]) -> String {
    let subject = format!("{kind} {} is invalid", field::quote(name));
    if fields.is_empty() { subject } else { format!("{subject}: {}", field::aggregate(fields)) }
}

fn forbidden_message(resource: &GroupResource, name: &str, why: &str) -> String {
    if resource.resource.is_empty() {
        format!("forbidden: {why}")
    } else if name.is_empty() {
        format!("{resource} is forbidden: {why}")
    } else {
        format!("{resource} {} is forbidden: {why}", field::quote(name))
    }
}

/// What upstream's clients make of an answer that carries no Status.
pub fn generic_server_response(
    code: u16,
    verb: &str,
    resource: &GroupResource,
    name: &str,
    server_message: &str,
    retry_after_s: u32,
    unexpected: bool,
) -> Status {
    let (reason, mut message) = generic_text(code, verb, server_message);
    let verb = verb.to_lowercase();
    if !resource.resource.is_empty() && !name.is_empty() {
        message = format!("{message} ({verb} {resource} {name})");
    } else if !resource.resource.is_empty() {
        message = format!("{message} ({verb} {resource})");
    }
    let mut details = about(resource, name);
    details.retry_after_seconds = retry_after_s;
    if unexpected {
        details.causes = vec![StatusCause::new("UnexpectedServerResponse", server_message, "")];
    }
    Status::failure(code, reason, message).with_details(details)
}

fn generic_text(code: u16, verb: &str, server_message: &str) -> (Reason, String) {
    let (reason, text) = match code {
        409 if verb == "POST" => (Reason::AlreadyExists, "the server reported a conflict"),
        409 => (Reason::Conflict, "the server reported a conflict"),
        404 => (Reason::NotFound, "the server could not find the requested resource"),
        400 => (Reason::BadRequest, "the server rejected our request for an unknown reason"),
        401 => (Reason::Unauthorized, "the server has asked for the client to provide credentials"),
        403 => (Reason::Forbidden, server_message),
        406 if server_message.is_empty() || server_message == "unknown" => (
            Reason::NotAcceptable,
            "the server was unable to respond with a content type that the client supports",
        ),
        406 => (Reason::NotAcceptable, server_message),
        415 => (Reason::UnsupportedMediaType, server_message),
        405 => (Reason::MethodNotAllowed, "the server does not allow this method on the requested resource"),
        422 => (Reason::Invalid, "the server rejected our request due to an error in our request"),
        503 => (Reason::ServiceUnavailable, "the server is currently unable to handle the request"),
        504 => (
            Reason::Timeout,
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
        429 => (
            Reason::TooManyRequests,
            "the server has received too many requests and has asked us to try again later",
        ),
        500.. => {
            let quoted = field::quote(server_message);
            let text = format!("an error on the server ({quoted}) has prevented the request from succeeding");
            return (Reason::InternalError, text);
        }
        _ => {
            let text = format!(
                "the server responded with the status code {code} but did not return more information"
            );
            return (Reason::Unknown, text);
        }
    };
    (reason, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;
    use serde_json::json;

    fn check(error: ApiError, code: u16, reason: &str, message: &str) {
        let status = error.to_status();
        assert_eq!((status.code, status.reason.as_str(), status.message.as_str()), (code, reason, message));
        assert_eq!(Status::from_json(&status.to_json()), Some(status));
    }

    #[test]
    fn every_refusal_reads_as_upstream() {
        let pods = GroupResource::new("", "pods");
        let deployments = GroupResource::new("apps", "deployments");
        check(ApiError::not_found(&pods, "x"), 404, "NotFound", "pods \"x\" not found");
        check(
            ApiError::already_exists(&deployments, "x"),
            409,
            "AlreadyExists",
            "deployments.apps \"x\" already exists",
        );
        check(
            ApiError::modified(&pods, "x"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes to \
             the latest version and try again",
        );
        check(
            ApiError::invalid(
                &GroupKind::new("", "Pod"),
                "x",
                vec![FieldError::required(&Path::new("spec.containers"), "")],
            ),
            422,
            "Invalid",
            "Pod \"x\" is invalid: spec.containers: Required value",
        );
        check(ApiError::forbidden(&pods, "", "no"), 403, "Forbidden", "pods is forbidden: no");
        check(ApiError::forbidden(&pods, "x", "no"), 403, "Forbidden", "pods \"x\" is forbidden: no");
        check(ApiError::forbidden(&GroupResource::default(), "", "no"), 403, "Forbidden", "forbidden: no");
        check(ApiError::Unauthorized("Unauthorized".into()), 401, "Unauthorized", "Unauthorized");
        check(ApiError::internal("boom"), 500, "InternalError", "Internal error occurred: boom");
        check(ApiError::Expired("old".into()), 410, "Expired", "old");
        check(ApiError::PathNotFound, 404, "NotFound", "the server could not find the requested resource");
        check(
            ApiError::MethodNotAllowed { resource: pods, action: "patch".into() },
            405,
            "MethodNotAllowed",
            "patch is not supported on resources of kind \"pods\"",
        );
    }

    #[test]
    fn a_status_has_upstreams_shape() {
        let kind = GroupKind::new("apps", "Deployment");
        let fields = vec![FieldError::invalid(&Path::new("spec.replicas"), -1, "must be positive")];
        let status = ApiError::invalid(&kind, "web", fields).to_status();
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be positive",
                "reason": "Invalid",
                "details": {"name": "web", "group": "apps", "kind": "Deployment", "causes": [{
                    "reason": "FieldValueInvalid", "message": "Invalid value: -1: must be positive",
                    "field": "spec.replicas"}]},
                "code": 422
            })
        );
        assert_eq!(Status::from_json(b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}"), None);
    }

    #[test]
    fn answers_without_a_status_get_one() {
        let pods = GroupResource::new("", "pods");
        let status = generic_server_response(503, "GET", &pods, "a", "", 2, false);
        assert_eq!(status.message, "the server is currently unable to handle the request (get pods a)");
        assert_eq!(status.details.unwrap().retry_after_seconds, 2);
        let status = generic_server_response(500, "GET", &pods, "", "oh", 0, true);
        assert_eq!(
            status.message,
            "an error on the server (\"oh\") has prevented the request from succeeding (get pods)"
        );
    }
}
