//! What can go wrong below: a system call failed, or the kernel refused a request. Carries the kernel's own words; knows
//! nothing of what the caller wanted to achieve.

use std::io;
use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request to the kernel, or the file behind an allocation, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call other than a netlink request failed.
    #[error("{call}: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused one netlink request.
    #[error("{request} {subject}: {source}{}", detail(message.as_deref()))]
    Refused {
        /// Which request, such as `create link` or `add rule`.
        request: &'static str,
        /// What it was about: a name, an address, a chain.
        subject: String,
        /// The error number.
        source: io::Error,
        /// The extended acknowledgement, when the kernel sent one.
        message: Option<String>,
    },
    /// The kernel's answer could not be read.
    #[error("{request}: malformed answer from the kernel")]
    Malformed {
        /// The request that was answered.
        request: &'static str,
    },
    /// A dump changed under us more often than we retry.
    #[error("{request}: the kernel's table kept changing while it was read")]
    Unstable {
        /// The dump.
        request: &'static str,
    },
    /// A message does not fit netlink's 16 bit attribute lengths.
    #[error("{request} {subject}: too long for one netlink attribute")]
    TooLong {
        /// Which request.
        request: &'static str,
        /// What it was about.
        subject: String,
    },
    /// A name that the kernel would refuse or truncate.
    #[error("invalid name {name:?}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No address is free in the range.
    #[error("no address is free in {range}")]
    Exhausted {
        /// The range.
        range: ipnet::IpNet,
    },
    /// Another process holds the allocations of this directory.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

fn detail(message: Option<&str>) -> String {
    message.map(|text| format!(" ({text})")).unwrap_or_default()
}

impl Error {
    pub(crate) fn last(call: &'static str) -> Self {
        Self::System { call, source: io::Error::last_os_error() }
    }

    /// The kernel's error number, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::System { source, .. } | Self::File { source, .. } | Self::Refused { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
    }

    /// The object is not there (which a delete treats as done).
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENXIO)
        )
    }

    /// The object is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }
}

/// Turns a failed system call into an [`Error`].
pub(crate) trait Context<T> {
    /// Names the call.
    fn call(self, call: &'static str) -> Result<T>;
    /// Names what was done to which path.
    fn at(self, action: &'static str, path: &std::path::Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn call(self, call: &'static str) -> Result<T> {
        self.map_err(|error| Error::System { call, source: error.into() })
    }

    fn at(self, action: &'static str, path: &std::path::Path) -> Result<T> {
        self.map_err(|error| Error::File { action, path: path.to_owned(), source: error.into() })
    }
}
