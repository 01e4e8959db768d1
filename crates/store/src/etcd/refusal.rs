//! What etcd says when it does not do as asked. Over the wire its errors are a gRPC code with a fixed sentence; etcd's own client
//! tells them apart by the whole sentence, and so do we, here only.

use crate::{StoreError, StoreResult};
use tonic::{Code, Status};

/// A refusal as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Compacted,
    FutureRevision,
    NoSpace,
    LeaseNotFound,
    TooLarge,
    TooManyOps,
    /// A member gave up, or we did.
    TimedOut,
    Corrupt(String),
    /// It never left us: no member could be reached.
    NotSent(String),
    /// Whether it took effect is not known.
    Unavailable(String),
}

/// etcd's default limits, for the messages: it does not say which it has.
const REQUEST_BYTES: usize = 3 << 19;
const TXN_OPS: usize = 128;

impl Refusal {
    pub(super) fn of(status: &Status) -> Self {
        let text = status.message();
        match (status.code(), text) {
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted") => Self::Compacted,
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision") => {
                Self::FutureRevision
            }
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded") => Self::NoSpace,
            (Code::NotFound, "etcdserver: requested lease not found") => Self::LeaseNotFound,
            (Code::InvalidArgument, "etcdserver: request is too large") => Self::TooLarge,
            // gRPC's own sentence goes on with the sizes.
            (Code::ResourceExhausted, text) if text.starts_with("grpc: received message larger than max") => {
                Self::TooLarge
            }
            (Code::InvalidArgument, "etcdserver: too many operations in txn request") => Self::TooManyOps,
            (Code::DeadlineExceeded, _)
            | (
                Code::Unavailable,
                "etcdserver: request timed out"
                | "etcdserver: request timed out, possibly due to previous leader failure"
                | "etcdserver: request timed out, possibly due to connection lost",
            ) => Self::TimedOut,
            (Code::DataLoss, _) => Self::Corrupt(text.to_owned()),
            _ if is_unsent(status) => Self::NotSent(innermost(status)),
            _ => Self::Unavailable(format!("{:?}: {text}", status.code())),
        }
    }

    /// Whether another member may do better.
    pub(super) fn blames_member(&self) -> bool {
        matches!(self, Self::TimedOut | Self::NotSent(_) | Self::Unavailable(_))
    }

    /// The store's error, where the caller knows no more. `size` is that of the request.
    pub(super) fn into_error(self, operation: &'static str, size: usize, ops: usize) -> StoreError {
        match self {
            Self::NoSpace => StoreError::NoSpace { operation },
            Self::TooLarge => StoreError::TooLarge { size, limit: REQUEST_BYTES },
            Self::TooManyOps => StoreError::TooManyOps { count: ops, limit: TXN_OPS },
            Self::TimedOut => StoreError::TimedOut { operation },
            Self::Corrupt(detail) => StoreError::Corrupt { detail },
            Self::NotSent(reason) | Self::Unavailable(reason) => {
                StoreError::Unavailable { reason: format!("etcd, {operation}: {reason}") }
            }
            // These are answers to calls whose callers handle them.
            unexpected @ (Self::Compacted | Self::FutureRevision | Self::LeaseNotFound) => {
                StoreError::Unavailable { reason: format!("etcd, {operation}: {unexpected:?}") }
            }
        }
    }
}

/// Where the caller expects no particular refusal.
pub(super) fn plain<T>(result: Result<T, Refusal>, operation: &'static str) -> StoreResult<T> {
    result.map_err(|refusal| refusal.into_error(operation, 0, 0))
}

fn is_unsent(status: &Status) -> bool {
    chain(status).any(|error| error.is::<tonic::ConnectError>())
}

fn innermost(status: &Status) -> String {
    chain(status).last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}

fn chain(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_told_apart() {
        let check = |code, text: &str, expected| assert_eq!(Refusal::of(&Status::new(code, text)), expected);
        check(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", Refusal::Compacted);
        check(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Refusal::NoSpace);
        let busy = "ResourceExhausted: etcdserver: too many requests".to_owned();
        check(Code::ResourceExhausted, "etcdserver: too many requests", Refusal::Unavailable(busy));
        check(Code::Unavailable, "etcdserver: request timed out", Refusal::TimedOut);
        let leader = "Unavailable: etcdserver: leader changed".to_owned();
        check(Code::Unavailable, "etcdserver: leader changed", Refusal::Unavailable(leader));
    }
}
