//! The one place where errors of the store and the cache become errors of the API.

use crate::cache::{NotReached, StaleRead, TooOld, UnreadableObject};
use crate::registry::get::MalformedVersion;
use nauplius_meta::error::{ApiError, Reason, Status, StatusCause, StatusDetails};
use nauplius_store::StoreError;

/// What every fallible step of a request returns.
pub type ApiResult<T> = Result<T, ApiError>;

/// A store error as the API answers it.
pub fn from_store(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { compact_revision } => ApiError::Expired(format!(
            "The resourceVersion for the provided list is too old (compact revision {compact_revision})."
        )),
        StoreError::FutureRevision { requested, current } => {
            too_large(NotReached { wanted: requested.0, current: current.0 })
        }
        StoreError::NoSpace { .. } => ApiError::Status(Box::new(Status::failure(
            507,
            Reason::Other("InsufficientStorage".to_owned()),
            "the cluster's store has no space left: its disk is full, or its quota is used up; nothing was written",
        ))),
        StoreError::TooLarge { size, limit } => {
            ApiError::RequestEntityTooLarge(format!("{size} bytes are over the store's limit of {limit}"))
        }
        StoreError::Closed => ApiError::ServiceUnavailable("the API server is shutting down".to_owned()),
        StoreError::Unavailable { reason } => {
            tracing::warn!(reason, "the store is unavailable");
            ApiError::ServiceUnavailable("the cluster's store is unavailable".to_owned())
        }
        StoreError::TimedOut { operation } => late(
            operation,
            "Timeout: the cluster's store did not answer in time; a write may or may not have happened",
        ),
        other => {
            // Details such as paths and keys stay in our log.
            tracing::error!(error = %other, "the store failed");
            ApiError::internal("the cluster's store failed")
        }
    }
}

/// An error of the store's answer to a read, after which there is no question whether something was written.
pub fn from_read(error: StoreError) -> ApiError {
    match error {
        StoreError::TimedOut { operation } => {
            late(operation, "Timeout: the cluster's store did not answer in time")
        }
        other => from_store(other),
    }
}

fn late(operation: &str, message: &str) -> ApiError {
    tracing::warn!(operation, "the store did not answer in time");
    ApiError::Status(Box::new(Status::failure(504, Reason::Timeout, message)))
}

/// A revision that does not exist yet: upstream answers a timeout with a cause.
pub fn too_large(error: NotReached) -> ApiError {
    let details = StatusDetails {
        causes: vec![StatusCause::new("ResourceVersionTooLarge", "Too large resource version", "")],
        retry_after_seconds: 1,
        ..StatusDetails::default()
    };
    let status = Status::failure(504, Reason::Timeout, format!("Timeout: {error}")).with_details(details);
    ApiError::Status(Box::new(status))
}

/// What is no resourceVersion: upstream takes it for a fault of its own in a get and in a watch (a list has other words).
pub(crate) fn malformed_version(error: MalformedVersion) -> ApiError {
    ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, error.to_string())))
}

/// A consistent read that could not be served.
pub fn stale(error: StaleRead) -> ApiError {
    match error {
        StaleRead::Lagging(error) => too_large(error),
        StaleRead::Store(error) => from_read(error),
    }
}

/// A watch from a revision that is no longer kept.
pub fn too_old(error: TooOld) -> ApiError {
    ApiError::Expired(error.to_string())
}

/// Stored bytes that cannot be read.
pub fn unreadable(error: UnreadableObject) -> ApiError {
    tracing::error!(%error, "a stored object cannot be read");
    ApiError::internal(error.to_string())
}
