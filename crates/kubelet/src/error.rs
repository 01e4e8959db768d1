//! Why a kubelet does not start.

use nauplius_client::ClientError;
use nauplius_cri::CriError;
use std::path::PathBuf;

/// What stops a kubelet before it runs.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// A directory of its own cannot be made.
    #[error("cannot make {}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What was pulled before cannot be read.
    #[error("cannot read the records of pulled images: {0}")]
    PullRecords(#[source] std::io::Error),
    /// The machine does not tell what it is.
    #[error("cannot read {}: {source}", path.display())]
    Machine {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The runtime does not answer.
    #[error("the container runtime does not answer: {0}")]
    Runtime(#[from] CriError),
    /// The node cannot be registered.
    #[error("cannot register the node: {0}")]
    Register(#[source] ClientError),
    /// The port is taken, most likely.
    #[error("cannot listen on port {port}: {source}")]
    Listen {
        /// Which port.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate and key do not fit.
    #[error("the serving certificate cannot be used: {0}")]
    Tls(String),
}
