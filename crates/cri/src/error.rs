//! The one error of the interface: a gRPC code and a message. It must not know about transports beyond the code's meaning.

use nauplius_base::errno;
pub use tonic::Code;

/// Why a call was refused or failed. The code tells a program what to do, the message tells a person why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {code:?} desc = {message}")]
pub struct CriError {
    /// The gRPC status code: `NotFound`, `InvalidArgument`, `DeadlineExceeded`, …
    pub code: Code,
    /// What a person reads, without the code.
    pub message: String,
}

impl CriError {
    /// An error with any code. What the system said is put into the words that people know from other runtimes.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: errno::plain(&message.into()) }
    }

    /// The sandbox, container or image is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// The request can never succeed as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// Anything that has no better code; what upstream's runtimes answer most of the time.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Code::Unknown, message)
    }
}

impl From<tonic::Status> for CriError {
    fn from(status: tonic::Status) -> Self {
        Self::new(status.code(), status.message())
    }
}

impl From<CriError> for tonic::Status {
    fn from(error: CriError) -> Self {
        Self::new(error.code, error.message)
    }
}
