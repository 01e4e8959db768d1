//! A registry in memory that can misbehave.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use nauplius_images::registry::{FetchedBlob, FetchedManifest, RegistryFuture};
use nauplius_images::{Auth, Digest, Reference, Registries, Registry, RegistryError, Retries};

use crate::fixture::Made;

const CHUNK: usize = 1000;

/// What happens to the next blob request.
#[derive(Clone, Debug)]
pub enum Fault {
    Fail(RegistryError),
    /// The connection breaks after this many bytes.
    CutAfter(usize),
    /// The bytes are others than promised.
    Corrupt,
    /// The registry ignores the offset.
    FromStart,
    /// The connection stays open and nothing comes.
    Hang,
    /// More bytes than promised.
    Longer,
}

#[derive(Default)]
pub struct FakeRegistry {
    manifests: Mutex<BTreeMap<String, (String, Bytes)>>,
    blobs: Mutex<HashMap<Digest, Bytes>>,
    faults: Mutex<HashMap<Digest, VecDeque<Fault>>>,
    manifest_faults: Mutex<VecDeque<RegistryError>>,
    /// Blob requests, with their offsets.
    pub asked: Mutex<Vec<(Digest, u64)>>,
}

impl FakeRegistry {
    pub fn add(&self, made: &Made) {
        let digest = Digest::of(&made.manifest).to_string();
        let mut blobs = self.blobs.lock().unwrap();
        for blob in made.layers.iter().chain([&made.config]) {
            blobs.insert(Digest::of(blob), blob.clone());
        }
        drop(blobs);
        self.add_manifest(&digest, made.manifest_type, made.manifest.clone());
        self.add_manifest(&made.tag, made.manifest_type, made.manifest.clone());
    }

    pub fn add_manifest(&self, by: &str, media_type: &str, body: Bytes) {
        self.manifests.lock().unwrap().insert(by.to_owned(), (media_type.to_owned(), body));
    }

    pub fn fault(&self, blob: &Bytes, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().entry(Digest::of(blob)).or_default().extend(faults);
    }

    pub fn blob_bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.blobs.lock().unwrap().get(digest).cloned()
    }

    pub fn manifest_bytes(&self, by: &str) -> Option<(String, Bytes)> {
        self.manifests.lock().unwrap().get(by).cloned()
    }

    pub fn offsets(&self, blob: &Bytes) -> Vec<u64> {
        let digest = Digest::of(blob);
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|(asked, _)| *asked == digest)
            .map(|(_, offset)| *offset)
            .collect()
    }
}

/// Retries fast, and calls a quarter of a second a stall.
pub fn quick() -> Retries {
    Retries {
        attempts: 3,
        initial: Duration::from_millis(1),
        max: Duration::from_millis(5),
        stall: Duration::from_millis(250),
    }
}

pub fn registries(fake: &std::sync::Arc<FakeRegistry>) -> Registries {
    Registries::from_source(fake.clone(), quick())
}

fn interrupted() -> RegistryError {
    RegistryError::Interrupted { url: "fake".into(), reason: "connection reset".into() }
}

impl Registry for FakeRegistry {
    fn manifest<'a>(
        &'a self,
        image: &'a Reference,
        by: &'a str,
        _: Option<&'a Auth>,
    ) -> RegistryFuture<'a, FetchedManifest> {
        Box::pin(async move {
            if let Some(error) = self.manifest_faults.lock().unwrap().pop_front() {
                return Err(error);
            }
            let found = self.manifest_bytes(by);
            let missing = || RegistryError::ManifestUnknown { reference: image.to_string() };
            let (media_type, body) = found.ok_or_else(missing)?;
            Ok(FetchedManifest { media_type, body })
        })
    }

    fn blob<'a>(
        &'a self,
        _: &'a Reference,
        digest: &'a Digest,
        offset: u64,
        _: Option<&'a Auth>,
    ) -> RegistryFuture<'a, FetchedBlob> {
        Box::pin(async move {
            self.asked.lock().unwrap().push((digest.clone(), offset));
            let fault = self.faults.lock().unwrap().get_mut(digest).and_then(VecDeque::pop_front);
            let bytes =
                self.blob_bytes(digest).ok_or(RegistryError::BlobUnknown { digest: digest.clone() })?;
            let from = if matches!(fault, Some(Fault::FromStart)) { 0 } else { offset };
            let mut bytes = bytes.slice(usize::try_from(from).unwrap()..);
            let mut end = None;
            match fault {
                Some(Fault::Fail(error)) => return Err(error),
                Some(Fault::CutAfter(count)) => {
                    bytes.truncate(count);
                    end = Some(Err(interrupted()));
                }
                Some(Fault::Corrupt) => bytes = bytes.iter().map(|byte| byte ^ 0x55).collect(),
                Some(Fault::Longer) => bytes = [&bytes[..], b"more"].concat().into(),
                Some(Fault::Hang) => {
                    let body = StreamBody::new(futures_util::stream::pending()).boxed_unsync();
                    return Ok(FetchedBlob { offset: from, body });
                }
                Some(Fault::FromStart) | None => {}
            }
            let chunks: Vec<_> =
                bytes.chunks(CHUNK).map(|chunk| Ok(Frame::data(bytes.slice_ref(chunk)))).collect();
            let body = StreamBody::new(futures_util::stream::iter(chunks.into_iter().chain(end)));
            Ok(FetchedBlob { offset: from, body: body.boxed_unsync() })
        })
    }
}
