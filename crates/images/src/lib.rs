//! OCI images: registry client, content-addressed store, unpacking, garbage collection, archives and building.
//!
//! Layers are unpacked once into directories that overlayfs can stack; what is visible in a store was published by a rename,
//! so that a process killed at any moment leaves either the whole of an image or nothing of it. Nothing here knows CRI,
//! Kubernetes or containers: whoever runs containers tells the store, by [`ImageStore::retain`], what must stay.

mod archive;
pub mod build;
mod digest;
mod error;
mod image;
mod layer;
mod layout;
mod manifest;
mod reference;
pub mod registry;
mod store;
mod tarball;

pub use digest::{Digest, DigestError};
pub use error::{ImageError, RegistryError};
pub use image::{Image, ImageConfig};
pub use layer::fuzz_layer;
pub use manifest::fuzz_manifest;
pub use reference::{Reference, ReferenceError};
pub use registry::{Auth, HostConfig, Registries, Registry, Retries};
pub use store::{ImageStore, Options, Progress, Usage};
