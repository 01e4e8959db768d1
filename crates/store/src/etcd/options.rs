//! What may be set about the etcd backend, in upstream's terms.

use super::members::Members;
use crate::StoreResult;
use bytes::Bytes;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of an [`super::EtcdStore`].
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// `http://` or `https://` addresses of the members; one that fails is left for the next.
    pub servers: Vec<String>,
    /// The CAs that members' certificates are checked against; the well-known ones when unset.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Keys that begin with this...
    pub prefix: Bytes,
    /// ...begin with this in etcd.
    pub stored_prefix: Bytes,
    /// How long one call may take before it is given up.
    pub timeout: Duration,
    /// How long a call that never reached a member is tried again.
    pub patience: Duration,
}

impl EtcdOptions {
    /// Whether the addresses and files in it can be used; nobody is asked.
    ///
    /// # Errors
    /// `Unavailable`, which of them cannot.
    pub fn check(&self) -> StoreResult<()> {
        Members::new(self.clone()).map(drop)
    }

    /// Members over plain HTTP or with well-known CAs, keys as they are.
    #[must_use]
    pub fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            ca_file: None,
            identity: None,
            prefix: Bytes::new(),
            stored_prefix: Bytes::new(),
            timeout: Duration::from_secs(10),
            patience: Duration::from_secs(2),
        }
    }
}
