//! Pulls: resolve, download a few layers at a time, unpack them bottom first while the next ones arrive, publish. Knows
//! registries only by their seam.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use nauplius_base::backoff::Backoff;
use nauplius_base::time;
use tokio::sync::mpsc;

use super::{ClaimedLayer, ImageRecord, ImageStore, LayerLink, Temporary, blocking};
use crate::digest::{Digest, Hasher};
use crate::error::{ImageError, RegistryError, Stage, io_error};
use crate::image::{Image, ParsedConfig, parse_config};
use crate::layer::{self, Cancel};
use crate::manifest::{self, Descriptor, Manifest, Platform};
use crate::reference::Reference;
use crate::registry::{Auth, FetchedManifest, MAX_MANIFEST_BYTES, Registries};

const PARALLEL_DOWNLOADS: usize = 3;
/// Chunks between the network and the disk; the network waits for the disk.
const WRITE_QUEUE: usize = 16;
const MAX_INDEX_DEPTH: usize = 3;

/// How a pull is going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The manifest is known.
    Resolved {
        /// The number of layers.
        layers: usize,
        /// The bytes of all layers.
        bytes: u64,
    },
    /// A layer is here already.
    Exists {
        /// The layer.
        layer: Digest,
    },
    /// Bytes of a layer arrived.
    Downloading {
        /// The layer.
        layer: Digest,
        /// Bytes so far.
        done: u64,
        /// All bytes.
        total: u64,
    },
    /// A layer is complete and is being unpacked.
    Unpacking {
        /// The layer.
        layer: Digest,
    },
    /// A layer is ready.
    Unpacked {
        /// The layer.
        layer: Digest,
    },
}

struct Session<'a> {
    store: &'a ImageStore,
    image: &'a Reference,
    auth: Option<&'a Auth>,
    registries: &'a Registries,
    progress: Mutex<&'a mut (dyn FnMut(Progress) + Send)>,
}

/// Where a blob's bytes go.
enum Sink<'a> {
    Memory(&'a mut Vec<u8>),
    File(mpsc::Sender<Bytes>),
}

/// What a reference leads to on this machine.
struct Resolved {
    /// The digest of what the reference itself names: a manifest or an index.
    target: Digest,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl ImageStore {
    /// Pulls an image: what is here already is not transferred again. Dropping the future stops the pull.
    ///
    /// # Errors
    /// [`ImageError::Pull`] with the registry's answer, mismatches, what cannot be unpacked, file errors.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: Option<&Auth>,
        registries: &Registries,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<Image, ImageError> {
        let session =
            Session { store: self, image: reference, auth, registries, progress: Mutex::new(&mut progress) };
        session.run().await
    }
}

impl Session<'_> {
    async fn run(&self) -> Result<Image, ImageError> {
        let resolved = self.resolve().await?;
        let bytes = resolved.layers.iter().map(|layer| layer.size).sum();
        self.report(Progress::Resolved { layers: resolved.layers.len(), bytes });
        let raw_config = self.small_blob(&resolved.config).await?;
        let ParsedConfig { config, diff_ids } = parse_config(&raw_config)?;
        if diff_ids.len() != resolved.layers.len() {
            let reason =
                format!("it lists {} layers, the manifest {}", diff_ids.len(), resolved.layers.len());
            return Err(ImageError::BadManifest { what: "config", reason });
        }
        let _hold = self.store.hold(
            crate::image::chain_ids(&diff_ids)
                .into_iter()
                .chain(resolved.layers.iter().map(|layer| layer.digest.clone()))
                .chain(std::iter::once(resolved.config.digest.clone())),
        );
        self.layers(&resolved, &diff_ids).await?;
        let record = ImageRecord {
            id: resolved.config.digest.clone(),
            tags: self.image.tagged().into_iter().collect(),
            repo_digests: [self.image.digested(&resolved.target)].into(),
            size_bytes: bytes + resolved.config.size,
            config,
            layers: links(&resolved.layers, diff_ids),
            removed: false,
        };
        let store = self.store.clone();
        blocking(move || store.publish_image(record, &raw_config)).await
    }

    fn report(&self, progress: Progress) {
        let mut report = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        (*report)(progress);
    }

    fn failed(&self, stage: Stage, cause: RegistryError) -> ImageError {
        ImageError::Pull { reference: self.image.to_string(), stage, cause }
    }

    async fn resolve(&self) -> Result<Resolved, ImageError> {
        let by = self.image.digest().map_or_else(|| self.image.tag().unwrap_or_default(), Digest::as_str);
        let (target, mut found) = self.manifest(Stage::Resolve, by, self.image.digest()).await?;
        for _ in 0..MAX_INDEX_DEPTH {
            let entries = match found {
                Manifest::Image { config, layers } => return Ok(Resolved { target, config, layers }),
                Manifest::Index(entries) => entries,
            };
            let here = Platform::here();
            let chosen = manifest::choose(&entries, &here).ok_or_else(|| ImageError::NoPlatform {
                reference: self.image.to_string(),
                platform: here.to_string(),
            })?;
            found = self.manifest(Stage::Copy, chosen.digest.as_str(), Some(&chosen.digest)).await?.1;
        }
        Err(ImageError::BadManifest { what: "index", reason: "indexes are nested too deeply".to_owned() })
    }

    async fn manifest(
        &self,
        stage: Stage,
        by: &str,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Manifest), ImageError> {
        let fetched = self.registries.source().manifest(self.image, by, self.auth).await;
        let FetchedManifest { media_type, body } = fetched.map_err(|cause| self.failed(stage, cause))?;
        if body.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(self.failed(Stage::Copy, too_large("manifest")));
        }
        let digest = match expected {
            Some(expected) => {
                check_digest(expected, &body)?;
                expected.clone()
            }
            None => Digest::of(&body),
        };
        Ok((digest, manifest::parse(&media_type, &body)?))
    }

    /// A config: small enough for memory.
    async fn small_blob(&self, blob: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if blob.size > MAX_MANIFEST_BYTES {
            return Err(self.failed(Stage::Copy, too_large("config")));
        }
        let kept = self.store.inner.disk.blob(&blob.digest);
        // Not being there is the usual case.
        if let Ok(bytes) = std::fs::read(kept)
            && check_digest(&blob.digest, &bytes).is_ok()
        {
            return Ok(bytes);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or(0));
        self.fetch(blob, Sink::Memory(&mut bytes)).await?;
        check_digest(&blob.digest, &bytes)?;
        Ok(bytes)
    }

    /// Downloads run ahead of unpacking, which goes bottom first: a layer takes attributes from those below it.
    async fn layers(&self, resolved: &Resolved, diff_ids: &[Digest]) -> Result<(), ImageError> {
        let missing = self.store.claim_missing(diff_ids).await;
        for (index, layer) in resolved.layers.iter().enumerate() {
            if !missing.iter().any(|claimed| claimed.index == index) {
                self.report(Progress::Exists { layer: layer.digest.clone() });
            }
        }
        let (sender, mut arrived) = mpsc::channel(missing.len().max(1));
        let work: Vec<_> =
            missing.into_iter().map(|claimed| self.download(claimed, &resolved.layers).boxed()).collect();
        let download = async move {
            let mut done = futures_util::stream::iter(work).buffered(PARALLEL_DOWNLOADS);
            loop {
                tokio::select! {
                    () = sender.closed() => return Ok(()),
                    next = done.try_next() => match next? {
                        // The queue has room for all; it is closed by an error that unpacking tells itself.
                        Some(layer) => sender.send(layer).await.map_err(|_| ImageError::Cancelled)?,
                        None => return Ok(()),
                    },
                }
            }
        };
        let unpack = async move {
            while let Some((claimed, file)) = arrived.recv().await {
                self.unpack(claimed, &resolved.layers, file).await?;
            }
            Ok(())
        };
        // A failed download waits for the unpacking that is under way: what is complete serves the next attempt, and nothing
        // goes on behind the caller's back.
        let (downloaded, unpacked) = tokio::join!(download, unpack);
        unpacked.and(downloaded)
    }

    async fn download(
        &self,
        claimed: ClaimedLayer,
        layers: &[Descriptor],
    ) -> Result<(ClaimedLayer, Temporary), ImageError> {
        let layer = &layers[claimed.index];
        let file = self.store.inner.disk.temporary();
        let (chunks, writing) = write_file(file.path(), layer.digest.hasher())?;
        let fetched = self.fetch(layer, Sink::File(chunks)).await;
        let written = writing.await?;
        fetched?;
        if written != layer.digest {
            return Err(ImageError::DigestMismatch { expected: layer.digest.clone(), actual: written });
        }
        Ok((claimed, file))
    }

    /// Hands a blob's bytes to `sink` in order; goes on where a broken connection left off.
    async fn fetch(&self, blob: &Descriptor, mut sink: Sink<'_>) -> Result<(), ImageError> {
        let retries = self.registries.retries();
        let mut backoff = Backoff::new(retries.initial, retries.max).with_jitter(0.2);
        let (mut done, mut failures) = (0, 0);
        loop {
            let before = done;
            match self.fetch_from(blob, &mut done, &mut sink).await? {
                None => return Ok(()),
                Some(cause) => {
                    failures = if done > before { 1 } else { failures + 1 };
                    if done > before {
                        backoff.reset();
                    }
                    if failures >= retries.attempts || !cause.is_transient() {
                        return Err(self.failed(Stage::Copy, cause));
                    }
                    tracing::debug!(blob = %blob.digest, done, %cause, "a download goes on after an interruption");
                    time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// One connection's worth; `Some` is what ended it early.
    async fn fetch_from(
        &self,
        blob: &Descriptor,
        done: &mut u64,
        sink: &mut Sink<'_>,
    ) -> Result<Option<RegistryError>, ImageError> {
        let stall = self.registries.retries().stall;
        let interrupted =
            |reason: String| RegistryError::Interrupted { url: blob.digest.to_string(), reason };
        let asked = self.registries.source().blob(self.image, &blob.digest, *done, self.auth).await;
        let mut fetched = match asked {
            Ok(fetched) => fetched,
            Err(cause) => return Ok(Some(cause)),
        };
        let mut skip = done.saturating_sub(fetched.offset);
        loop {
            let frame = match time::timeout(stall, fetched.body.frame()).await {
                Err(_) => return Ok(Some(interrupted("the registry stopped sending".to_owned()))),
                Ok(None) => break,
                Ok(Some(Err(cause))) => return Ok(Some(cause)),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(mut chunk) = frame.into_data() else { continue };
            let skipped = chunk.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
            skip -= skipped as u64;
            bytes::Buf::advance(&mut chunk, skipped);
            if chunk.is_empty() {
                continue;
            }
            *done += chunk.len() as u64;
            if *done > blob.size {
                return Err(size_mismatch(blob, *done));
            }
            self.accept(blob, chunk, *done, sink).await?;
        }
        Ok((*done < blob.size).then(|| interrupted(format!("{done} of {} bytes arrived", blob.size))))
    }

    async fn accept(
        &self,
        blob: &Descriptor,
        chunk: Bytes,
        done: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), ImageError> {
        match sink {
            Sink::Memory(bytes) => bytes.extend_from_slice(&chunk),
            Sink::File(chunks) => {
                // The writer only goes away with an error, which its own result tells.
                chunks.send(chunk).await.map_err(|_| ImageError::Cancelled)?;
                self.report(Progress::Downloading { layer: blob.digest.clone(), done, total: blob.size });
            }
        }
        Ok(())
    }

    async fn unpack(
        &self,
        claimed: ClaimedLayer,
        layers: &[Descriptor],
        file: Temporary,
    ) -> Result<(), ImageError> {
        let layer = layers[claimed.index].digest.clone();
        self.report(Progress::Unpacking { layer: layer.clone() });
        let (store, name) = (self.store.clone(), layer.clone());
        let cancel = Cancel::default();
        let _cancels = cancel.on_drop();
        blocking(move || {
            let open = || layer::decompressed(File::open(file.path())?);
            let archive = open().map_err(|error| io_error(file.path(), error))?;
            store.unpack_layer(&claimed, name.as_str(), archive, &cancel)?;
            if store.inner.options.keep_blobs {
                store.inner.disk.keep_blob(&name, file)?;
            }
            Ok(())
        })
        .await?;
        self.report(Progress::Unpacked { layer });
        Ok(())
    }
}

fn links(layers: &[Descriptor], diff_ids: Vec<Digest>) -> Vec<LayerLink> {
    let link = |(layer, diff_id): (&Descriptor, Digest)| LayerLink {
        diff_id,
        blob: layer.digest.clone(),
        blob_bytes: layer.size,
        media_type: layer.media_type.clone(),
    };
    layers.iter().zip(diff_ids).map(link).collect()
}

fn check_digest(expected: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
    let mut hasher = expected.hasher();
    hasher.update(bytes);
    let actual = hasher.finish();
    if actual == *expected {
        Ok(())
    } else {
        Err(ImageError::DigestMismatch { expected: expected.clone(), actual })
    }
}

fn too_large(what: &str) -> RegistryError {
    RegistryError::TooLarge { what: what.to_owned(), limit: MAX_MANIFEST_BYTES }
}

fn size_mismatch(blob: &Descriptor, actual: u64) -> ImageError {
    ImageError::SizeMismatch { digest: blob.digest.clone(), expected: blob.size, actual }
}

/// A blocking thread that writes and digests what it is sent; it ends when the sender is dropped.
fn write_file(
    path: &Path,
    mut hasher: Hasher,
) -> Result<(mpsc::Sender<Bytes>, impl Future<Output = Result<Digest, ImageError>> + use<>), ImageError> {
    let (sender, mut chunks) = mpsc::channel::<Bytes>(WRITE_QUEUE);
    let path = path.to_path_buf();
    // Made here, so that whoever drops the path's owner finds the file.
    let mut file = File::create_new(&path).map_err(|error| io_error(&path, error))?;
    let work = tokio::task::spawn_blocking(move || {
        let failed = |error| io_error(&path, error);
        while let Some(chunk) = chunks.blocking_recv() {
            hasher.update(&chunk);
            file.write_all(&chunk).map_err(failed)?;
        }
        Ok(hasher.finish())
    });
    Ok((sender, async { work.await.map_err(|_| ImageError::Cancelled)? }))
}
