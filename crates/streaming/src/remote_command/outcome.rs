//! How a command ended, on the error channel: since v4 a `metav1.Status` as JSON, before that the text of an error and
//! nothing for success.

use crate::StreamError;
use crate::byte_stream::{ByteReader, ByteWriter};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

/// How much of a message is told.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;
/// How much of an outcome is read.
const MAX_OUTCOME_BYTES: u64 = 64 * 1024;
const NON_ZERO_EXIT_CODE: &str = "NonZeroExitCode";
const EXIT_CODE: &str = "ExitCode";

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With exit code 0.
    Success,
    /// With another exit code.
    ExitCode(i32),
    /// It could not be run, or its end is unknown.
    Failure(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Status {
    #[serde(default)]
    metadata: Empty,
    #[serde(default)]
    status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Empty {}

#[derive(Debug, Serialize, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Cause {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default)]
    message: String,
}

impl Outcome {
    fn encode(&self, as_status: bool) -> Bytes {
        let status = self.status();
        if !as_status {
            return Bytes::from(status.message); // Empty for success: older versions say nothing then.
        }
        Bytes::from(serde_json::to_vec(&status).expect("strings and numbers are always JSON"))
    }

    fn status(&self) -> Status {
        let status = |message: String, reason: &str, cause: Cause, code| Status {
            metadata: Empty {},
            status: "Failure".to_owned(),
            message,
            reason: reason.to_owned(),
            details: Some(Details { causes: vec![cause] }),
            code,
        };
        match self {
            Self::Success => Status {
                metadata: Empty {},
                status: "Success".to_owned(),
                message: String::new(),
                reason: String::new(),
                details: None,
                code: None,
            },
            Self::ExitCode(code) => {
                let message = format!("command terminated with non-zero exit code: exit status {code}");
                let cause = Cause { reason: EXIT_CODE.to_owned(), message: code.to_string() };
                status(message, NON_ZERO_EXIT_CODE, cause, None)
            }
            Self::Failure(message) => {
                let message: String = message.chars().take(MAX_MESSAGE_BYTES / 4).collect();
                let cause = Cause { reason: String::new(), message: message.clone() };
                status(format!("Internal error occurred: {message}"), "InternalError", cause, Some(500))
            }
        }
    }

    fn decode(bytes: &[u8], as_status: bool) -> Self {
        if !as_status {
            return if bytes.is_empty() { Self::Success } else { Self::text(bytes) };
        }
        let Ok(status) = serde_json::from_slice::<Status>(bytes) else { return Self::text(bytes) };
        let causes = status.details.map(|details| details.causes).unwrap_or_default();
        let code = causes.iter().find(|cause| cause.reason == EXIT_CODE);
        // A code that is no number leaves the message.
        match code.and_then(|cause| cause.message.parse().ok()) {
            Some(code) if status.reason == NON_ZERO_EXIT_CODE => Self::ExitCode(code),
            _ if status.status == "Success" => Self::Success,
            _ => Self::Failure(status.message),
        }
    }

    fn text(bytes: &[u8]) -> Self {
        Self::Failure(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Tells the client how the command ended, once. The output is shut down before, so that it arrives first.
pub struct OutcomeSender {
    error: ByteWriter,
    as_status: bool,
    told: bool,
}

impl OutcomeSender {
    pub(super) fn new(error: ByteWriter, as_status: bool) -> Self {
        Self { error, as_status, told: false }
    }

    /// It ended with code 0.
    pub fn success(self) {
        self.send(&Outcome::Success);
    }

    /// It ended with this code.
    pub fn exit_code(self, code: i32) {
        self.send(&if code == 0 { Outcome::Success } else { Outcome::ExitCode(code) });
    }

    /// It could not be run, and why. Upstream's servers begin the message with what they attempted.
    pub fn failure(self, message: impl Into<String>) {
        self.send(&Outcome::Failure(message.into()));
    }

    /// Any outcome.
    pub fn send(mut self, outcome: &Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: &Outcome) {
        self.told = true;
        self.error.last_word(outcome.encode(self.as_status));
    }
}

impl Drop for OutcomeSender {
    /// A client must not take silence for success.
    fn drop(&mut self) {
        if !self.told {
            self.tell(&Outcome::Failure("the command's end is unknown".to_owned()));
        }
    }
}

/// Where a client learns how the command ended.
pub struct OutcomeReader {
    error: ByteReader,
    as_status: bool,
}

impl OutcomeReader {
    pub(super) fn new(error: ByteReader, as_status: bool) -> Self {
        Self { error, as_status }
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    /// [`StreamError::Closed`] when the connection ended without one in a version that tells success too.
    pub async fn outcome(self) -> Result<Outcome, StreamError> {
        let mut bytes = Vec::new();
        self.error.take(MAX_OUTCOME_BYTES).read_to_end(&mut bytes).await?;
        if bytes.is_empty() && self.as_status {
            return Err(StreamError::Closed);
        }
        Ok(Outcome::decode(&bytes, self.as_status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(outcome: &Outcome, json: &str, text: &str) {
        assert_eq!(outcome.encode(true), json);
        assert_eq!(outcome.encode(false), text);
    }

    #[test]
    fn outcomes_are_told_as_upstream_tells_them() {
        check(&Outcome::Success, r#"{"metadata":{},"status":"Success"}"#, "");
        check(
            &Outcome::ExitCode(3),
            r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#,
            "command terminated with non-zero exit code: exit status 3",
        );
        check(
            &Outcome::Failure("no".to_owned()),
            r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: no","reason":"InternalError","details":{"causes":[{"message":"no"}]},"code":500}"#,
            "Internal error occurred: no",
        );
    }

    #[test]
    fn outcomes_are_read_back() {
        for outcome in [Outcome::Success, Outcome::ExitCode(137)] {
            assert_eq!(Outcome::decode(&outcome.encode(true), true), outcome);
        }
        let failure = Outcome::Failure("gone".to_owned());
        let told = Outcome::Failure("Internal error occurred: gone".to_owned());
        assert_eq!(Outcome::decode(&failure.encode(true), true), told);
        assert_eq!(Outcome::decode(&failure.encode(false), false), told);
        assert_eq!(Outcome::decode(b"", false), Outcome::Success);
        assert_eq!(Outcome::decode(b"broken", true), Outcome::Failure("broken".to_owned()));
    }
}
