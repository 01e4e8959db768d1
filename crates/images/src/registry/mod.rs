//! The seam to registries: what a pull asks of one. The real one speaks HTTP; tests put one in memory. Knows references and
//! digests, never the store.

mod challenge;
mod connect;
mod exchange;
mod http;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::digest::Digest;
use crate::error::RegistryError;
use crate::reference::Reference;
pub use http::HttpRegistry;

/// What a [`Registry`]'s methods return.
pub type RegistryFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'a>>;

/// The bytes of a blob as they arrive.
pub type BlobBody = http_body_util::combinators::UnsyncBoxBody<Bytes, RegistryError>;

/// The largest manifest, index or config that is read.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// A source of images.
pub trait Registry: Send + Sync {
    /// The manifest or index that `by` (a tag or digest) names in `image`'s repository. Refuses more than
    /// [`MAX_MANIFEST_BYTES`]; the caller checks digests.
    fn manifest<'a>(
        &'a self,
        image: &'a Reference,
        by: &'a str,
        auth: Option<&'a Auth>,
    ) -> RegistryFuture<'a, FetchedManifest>;

    /// A blob from byte `offset` on. A source that cannot start there starts at an earlier byte and says so.
    fn blob<'a>(
        &'a self,
        image: &'a Reference,
        digest: &'a Digest,
        offset: u64,
        auth: Option<&'a Auth>,
    ) -> RegistryFuture<'a, FetchedBlob>;
}

/// A manifest as the registry sent it.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// The Content-Type, empty if there was none.
    pub media_type: String,
    /// The exact bytes.
    pub body: Bytes,
}

/// A blob that is arriving.
#[derive(Debug)]
pub struct FetchedBlob {
    /// The byte at which the body starts.
    pub offset: u64,
    /// What arrives.
    pub body: BlobBody,
}

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Auth {
    /// A user and a password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth refresh token, to be exchanged at the registry's token service.
    IdentityToken(String),
    /// A bearer token that is sent as it is.
    RegistryToken(String),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Basic { .. } => "Auth::Basic(..)",
            Self::IdentityToken(_) => "Auth::IdentityToken(..)",
            Self::RegistryToken(_) => "Auth::RegistryToken(..)",
        })
    }
}

/// How one registry host is reached. The key is the domain of references: `docker.io`, `host:port`.
#[derive(Debug, Clone, Default)]
pub struct HostConfig {
    /// Plain HTTP instead of TLS. Loopback hosts are tried without TLS when TLS does not answer.
    pub plain_http: bool,
    /// Certificates, PEM, that are trusted in addition to the public roots.
    pub ca_pem: Option<Vec<u8>>,
    /// `host[:port]` that is asked instead of the domain itself.
    pub endpoint: Option<String>,
    /// Used when the caller of a pull brings no credentials.
    pub auth: Option<Auth>,
}

/// How often and how fast a failed transfer is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// Attempts in a row without progress.
    pub attempts: u32,
    /// The first delay; each later one is twice as long.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
    /// Silence of this length counts as a broken connection.
    pub stall: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 4,
            initial: Duration::from_millis(250),
            max: Duration::from_secs(5),
            stall: Duration::from_secs(60),
        }
    }
}

/// Where images come from: by default the hosts that references name.
#[derive(Clone)]
pub struct Registries {
    source: Arc<dyn Registry>,
    retries: Retries,
}

impl Default for Registries {
    fn default() -> Self {
        Self::new(BTreeMap::new(), Retries::default())
    }
}

impl Registries {
    /// Registries over HTTP, with what is special about some hosts.
    pub fn new(hosts: BTreeMap<String, HostConfig>, retries: Retries) -> Self {
        Self { source: Arc::new(HttpRegistry::new(hosts, retries)), retries }
    }

    /// Another source for every reference: the seam for tests and for images that come with the program.
    pub fn from_source(source: Arc<dyn Registry>, retries: Retries) -> Self {
        Self { source, retries }
    }

    pub(crate) fn source(&self) -> &dyn Registry {
        self.source.as_ref()
    }

    pub(crate) fn retries(&self) -> Retries {
        self.retries
    }
}
