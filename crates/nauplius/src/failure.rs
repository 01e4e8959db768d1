//! How a command fails in front of a person: one line that says what is wrong and what to do.

use nauplius_base::errno;
use std::path::Path;

/// One line for a person, and the signal that was the cause, if one was.
#[derive(Debug)]
pub struct Failure {
    message: String,
    signal: Option<i32>,
}

impl Failure {
    /// A failure in a person's words; the system's are put into those that Kubernetes' own tools use.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: errno::plain(&message.into()), signal: None }
    }

    /// A signal came.
    pub fn interrupted(signal: i32) -> Self {
        Self { message: "interrupted".to_owned(), signal: Some(signal) }
    }

    /// The same, with what became of it.
    pub fn and(self, what: &str) -> Self {
        Self { message: format!("{}: {what}", self.message), ..self }
    }

    /// The signal that was the cause.
    pub fn signal(&self) -> Option<i32> {
        self.signal
    }

    /// `what path: reason`, and what to do where that is known.
    pub fn io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        let advice = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ": free some space there, or choose another place with --data-dir"
            }
            _ => "",
        };
        Self::new(format!("{what} {}: {error}{advice}", path.display()))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Says in front of any error what was being done.
pub trait Doing<T> {
    /// `cannot <doing>: <error>`
    ///
    /// # Errors
    /// The same failure, with the words in front.
    fn doing(self, doing: &str) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, doing: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("cannot {doing}: {error}")))
    }
}
