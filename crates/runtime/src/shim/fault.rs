//! The error of the shim and of the processes that it starts: one line for a person. It must not know who reads it.

use crate::sys::errno_text;
use std::fmt;
use std::io;

/// What did not work, in words that runc's users know.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Says what was being done when a system call failed.
pub(crate) trait While<T> {
    /// `what: no such file or directory`.
    fn while_doing(self, what: impl fmt::Display) -> Result<T, Fault>;
}

impl<T, E: Into<io::Error>> While<T> for Result<T, E> {
    fn while_doing(self, what: impl fmt::Display) -> Result<T, Fault> {
        self.map_err(|error| Fault(format!("{what}: {}", errno_text(&error.into()))))
    }
}
