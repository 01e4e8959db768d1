//! Why a measurement could not be made.

use nauplius_client::kubeconfig::KubeconfigError;
use std::path::PathBuf;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The kubeconfig cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// It holds what TLS cannot use.
    #[error("the kubeconfig {path} cannot be used: {reason}")]
    Credentials {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The server cannot be reached.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system or TLS said.
        reason: String,
    },
    /// A request found no answer.
    #[error("{request}: {reason}")]
    Broken {
        /// Method and path.
        request: String,
        /// What happened.
        reason: String,
    },
    /// The server refused what a measurement needs.
    #[error("{request} was refused with {code}: {message}")]
    Refused {
        /// Method and path.
        request: String,
        /// The HTTP status.
        code: u16,
        /// The beginning of the answer.
        message: String,
    },
    /// A watch ended before its last event.
    #[error("a watch ended after {seen} of {wanted} events")]
    WatchEnded {
        /// Events that came.
        seen: usize,
        /// Events that should have come.
        wanted: usize,
    },
    /// The command that restarts the server failed.
    #[error("the restart command failed: {reason}")]
    Restart {
        /// How.
        reason: String,
    },
    /// Someone pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}
