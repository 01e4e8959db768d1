//! What can go wrong with an image, as data. The wording is what a Kubernetes user meets in events, so it follows the
//! runtimes that people know; decisions are made on the variants only.

use std::io;
use std::path::{Path, PathBuf};

use nauplius_base::errno;

use crate::digest::Digest;
use crate::reference::{Reference, ReferenceError};

/// A failed operation on images.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text is no image reference.
    #[error("couldn't parse image name {name:?}: {cause}")]
    InvalidReference {
        /// What was given.
        name: String,
        /// What is wrong with it.
        cause: ReferenceError,
    },
    /// The store holds no such image.
    #[error("no such image: {name}")]
    NotFound {
        /// The name or id asked for.
        name: String,
    },
    /// A short id fits more than one image.
    #[error("image id {name:?} is ambiguous: {count} images match")]
    Ambiguous {
        /// The short id.
        name: String,
        /// How many images it fits.
        count: usize,
    },
    /// The registry did not give what the pull needs.
    #[error("{}: {}{cause}", pulling(reference), stage.words(reference, cause))]
    Pull {
        /// The canonical reference.
        reference: String,
        /// How far the pull had come.
        stage: Stage,
        /// What the registry, or the way to it, said.
        #[source]
        cause: RegistryError,
    },
    /// Content does not have the digest that names it.
    #[error("unexpected commit digest {actual}, expected {expected}: failed precondition")]
    DigestMismatch {
        /// The digest that names the content.
        expected: Digest,
        /// The digest that it has.
        actual: Digest,
    },
    /// Content is longer or shorter than announced.
    #[error("unexpected commit size {actual}, expected {expected}: failed precondition: {digest}")]
    SizeMismatch {
        /// What was read.
        digest: Digest,
        /// The announced number of bytes.
        expected: u64,
        /// The number of bytes read.
        actual: u64,
    },
    /// No image for this machine's platform.
    #[error("no match for platform in manifest: not found")]
    NoPlatform {
        /// The image.
        reference: String,
        /// What was looked for, such as `linux/amd64`.
        platform: String,
    },
    /// A manifest of a kind that is not read.
    #[error("media type {media_type:?} is not supported: {reason}")]
    UnsupportedMediaType {
        /// The manifest's or layer's media type.
        media_type: String,
        /// What to do about it.
        reason: &'static str,
    },
    /// A manifest or config that is not well formed.
    #[error("invalid image {what}: {reason}")]
    BadManifest {
        /// `manifest`, `index` or `config`.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A layer that cannot be unpacked.
    #[error("failed to extract layer {layer}: {reason}")]
    BadLayer {
        /// The layer's digest or its name in an archive.
        layer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive that holds no images that we read.
    #[error("invalid image archive: {reason}")]
    BadArchive {
        /// What is wrong with it.
        reason: String,
    },
    /// An image cannot be written out because its compressed layers were not kept.
    #[error("image {id} cannot be saved: its layers were unpacked and not kept as blobs")]
    BlobsNotKept {
        /// The image.
        id: String,
    },
    /// The disk is full.
    #[error("{}: no space left on device", path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
    },
    /// Another process owns the store.
    #[error("image store {} is in use by another process", path.display())]
    Locked {
        /// The store's root.
        path: PathBuf,
    },
    /// The store was written by a version that lays it out differently.
    #[error("image store {} has layout version {found}, this program knows {known}", path.display())]
    Layout {
        /// The store's root.
        path: PathBuf,
        /// What is on disk.
        found: String,
        /// What this program writes.
        known: &'static str,
    },
    /// The system refused a file operation.
    #[error("{}: {}", path.display(), errno::words(source))]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The caller went away or the runtime is shutting down.
    #[error("the operation was cancelled")]
    Cancelled,
}

fn pulling(reference: &str) -> String {
    format!("failed to pull and unpack image {reference:?}")
}

/// How far a pull has come when the registry fails it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The reference is not known to lead anywhere yet.
    Resolve,
    /// Content is being transferred.
    Copy,
}

impl Stage {
    /// What containerd says in front of a registry's failure.
    fn words(self, reference: &str, cause: &RegistryError) -> String {
        match (self, cause) {
            (Self::Resolve, _) => format!("failed to resolve reference {reference:?}: "),
            (Self::Copy, RegistryError::Interrupted { .. } | RegistryError::TooLarge { .. }) => {
                "failed to copy: ".to_owned()
            }
            (Self::Copy, _) => "failed to copy: httpReadSeeker: failed open: ".to_owned(),
        }
    }
}

impl ImageError {
    /// The error as a pull of `reference` tells it.
    pub fn of_pull(&self, reference: &Reference) -> String {
        match self {
            Self::Pull { .. } | Self::Cancelled => self.to_string(),
            _ => format!("{}: {self}", pulling(&reference.to_string())),
        }
    }

    /// Whether nothing has the asked-for name: in the store, or in the registry.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::NoPlatform { .. }
                | Self::Pull { cause: RegistryError::ManifestUnknown { .. }, .. }
        )
    }

    /// Whether the registry could not be reached or was failing: kubelet's `RegistryUnavailable`.
    pub fn is_registry_unavailable(&self) -> bool {
        match self {
            Self::Pull { cause, .. } => matches!(
                cause,
                RegistryError::Unreachable { .. }
                    | RegistryError::Interrupted { .. }
                    | RegistryError::Status { .. }
            ),
            _ => false,
        }
    }

    /// Whether the registry wants other credentials.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Pull { cause: RegistryError::Unauthorized { .. }, .. })
    }
}

/// What a registry, or the network before it, answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// The registry has no such manifest (`MANIFEST_UNKNOWN`, `NAME_UNKNOWN`, 404).
    #[error("{reference}: not found")]
    ManifestUnknown {
        /// The canonical reference.
        reference: String,
    },
    /// The registry lacks a blob that its manifest names.
    #[error("content {digest} not found: not found")]
    BlobUnknown {
        /// The blob.
        digest: Digest,
    },
    /// Credentials are missing or refused.
    #[error("pull access denied, repository does not exist or may require authorization: {message}")]
    Unauthorized {
        /// The canonical reference.
        reference: String,
        /// The registry's own words.
        message: String,
    },
    /// No connection.
    #[error("failed to do request: {} {url:?}: {reason}", go_method(method))]
    Unreachable {
        /// The HTTP method.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// Such as `dial tcp 127.0.0.1:5000: connect: connection refused`.
        reason: String,
    },
    /// The connection broke or stalled in the middle of an answer.
    #[error("{reason}")]
    Interrupted {
        /// What was being read.
        url: String,
        /// How it ended.
        reason: String,
    },
    /// An answer that is neither success nor one of the above.
    #[error("unexpected status from {method} request to {url}: {status}{message}")]
    Status {
        /// The HTTP method.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// The HTTP status, such as `503 Service Unavailable`.
        status: String,
        /// The registry's own words, with a leading `: `, or nothing.
        message: String,
    },
    /// An answer that breaks the protocol.
    #[error("invalid answer from {url}: {reason}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A manifest or config above its limit.
    #[error("content {what} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What was being read.
        what: String,
        /// The limit.
        limit: u64,
    },
}

/// `Get`, as Go's errors name a method.
fn go_method(method: &str) -> String {
    let (first, rest) = method.split_at(method.len().min(1));
    first.to_owned() + &rest.to_lowercase()
}

impl RegistryError {
    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } => true,
            Self::Status { status, .. } => {
                status.starts_with('5') || status.starts_with("429") || status.starts_with("408")
            }
            _ => false,
        }
    }
}

/// Turns a system error into ours; a full disk is told apart because it is what people can do something about.
pub(crate) fn io_error(path: impl AsRef<Path>, source: io::Error) -> ImageError {
    let path = path.as_ref().to_path_buf();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ImageError::NoSpace { path },
        _ => ImageError::Io { path, source },
    }
}
