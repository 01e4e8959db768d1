//! The content-addressed store of images. One process owns it. Readers see an immutable snapshot; a change is made durable
//! first and then becomes the next snapshot. Knows leases by their owners' names, not what the owners are.

mod built;
mod claims;
mod disk;
mod load;
mod pull;
mod save;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::digest::Digest;
use crate::error::{ImageError, io_error};
use crate::image::{Image, chain_ids};
use crate::layer::{self, Cancel, LayerError};
use crate::reference::Reference;
use claims::{Claim, Claims};
use disk::Disk;
pub(crate) use disk::Temporary;
pub use pull::Progress;
pub(crate) use save::write_archive;
use state::{ImageRecord, LayerLink, LayerRecord, State};

/// How a store behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Keeps layers as they were transferred beside their unpacked form, so that images can be saved again.
    pub keep_blobs: bool,
    /// Waits until unpacked files are on the disk before an image becomes visible. Without it, a power failure soon after a
    /// pull may leave an image with empty files; a killed process never does.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_blobs: false, sync: true }
    }
}

/// What a store occupies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of unpacked files and kept blobs.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

/// A store of images; clones share it.
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Disk,
    options: Options,
    snapshot: RwLock<Arc<State>>,
    /// Held while a change is written, on blocking threads only.
    writer: Mutex<()>,
    /// Held for moments only, save by the sweep. Taken after `writer`.
    uses: Mutex<Uses>,
    claims: Claims,
}

/// Who uses what.
#[derive(Default)]
struct Uses {
    /// Image ids by owner.
    leases: BTreeMap<String, BTreeSet<Digest>>,
    /// Content that running pulls and loads count on, with the number of them.
    holds: BTreeMap<Digest, usize>,
}

impl ImageStore {
    /// Opens the store below `root` with default options.
    ///
    /// # Errors
    /// [`ImageError::Locked`] when another process has it, [`ImageError::Layout`] when a newer program wrote it.
    pub async fn open(root: &Path) -> Result<Self, ImageError> {
        Self::open_with(root, Options::default()).await
    }

    /// Opens the store below `root`, making it if there is none and removing what a crash left half done.
    ///
    /// # Errors
    /// As [`ImageStore::open`].
    pub async fn open_with(root: &Path, options: Options) -> Result<Self, ImageError> {
        let root = root.to_path_buf();
        blocking(move || {
            let disk = Disk::open(&root)?;
            let (state, broken) = State::assemble(disk.images()?, disk.layers()?);
            for id in broken {
                tracing::warn!(image = %id, "an image without all its layers is removed");
                disk.remove_image(&id)?;
            }
            let inner = Inner {
                disk,
                options,
                snapshot: RwLock::new(Arc::new(state)),
                writer: Mutex::default(),
                uses: Mutex::default(),
                claims: Claims::default(),
            };
            Ok(Self { inner: Arc::new(inner) })
        })
        .await
    }

    /// The directory that the store was opened at: its file system is what images fill.
    pub fn root(&self) -> &Path {
        self.inner.disk.root()
    }

    /// All images.
    pub fn list(&self) -> Vec<Image> {
        self.snapshot().visible().map(ImageRecord::image).collect()
    }

    /// The image that a tag, a digest reference, an id or a short id means; none also for an ambiguous id.
    pub fn get(&self, name_or_id: &str) -> Option<Image> {
        self.find(name_or_id).ok() // The caller asked for presence, `find` has the reason.
    }

    /// As [`ImageStore::get`], with the reason.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Ambiguous`].
    pub fn find(&self, name_or_id: &str) -> Result<Image, ImageError> {
        self.snapshot().find(name_or_id).map(ImageRecord::image)
    }

    /// The unpacked layers of an image, top first, as overlayfs' `lowerdir` wants them. An image without layers has none.
    /// Works for a removed image that is still in use.
    ///
    /// # Errors
    /// [`ImageError::NotFound`].
    pub fn layers(&self, image_id: &str) -> Result<Vec<PathBuf>, ImageError> {
        let snapshot = self.snapshot();
        // What is no digest may be a name: `find` decides.
        let by_id = image_id.parse().ok().and_then(|id: Digest| snapshot.images.get(&id));
        let image = by_id.map_or_else(|| snapshot.find(image_id), Ok)?;
        Ok(image.chain().iter().rev().map(|id| self.inner.disk.layer_root(id)).collect())
    }

    /// The config blob of an image as its builder wrote it.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], or a file that cannot be read.
    pub async fn raw_config(&self, name_or_id: &str) -> Result<Vec<u8>, ImageError> {
        let id = self.snapshot().find(name_or_id)?.id.clone();
        let path = self.inner.disk.blob(&id);
        blocking(move || std::fs::read(&path).map_err(|error| io_error(&path, error))).await
    }

    /// Gives an image another tag, which leaves the image that had it.
    ///
    /// # Errors
    /// [`ImageError::NotFound`]; [`ImageError::InvalidReference`] for a target that pins a digest.
    pub async fn tag(&self, name_or_id: &str, target: &Reference) -> Result<Image, ImageError> {
        let (name_or_id, target) = (name_or_id.to_owned(), target.clone());
        self.change(move |store, state| {
            let tag = target.tagged().ok_or_else(|| ImageError::InvalidReference {
                name: target.to_string(),
                cause: crate::ReferenceError::Format,
            })?;
            let mut image = state.find(&name_or_id)?.clone();
            image.tags.insert(tag);
            let id = image.id.clone();
            store.write_images(state, image)?;
            Ok(state.images[&id].image())
        })
        .await
    }

    /// Takes a tag or digest reference from its image; an id takes all. An image without a name is removed with its content,
    /// as soon as nobody retains it.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Ambiguous`].
    pub async fn remove(&self, name_or_id: &str) -> Result<(), ImageError> {
        let name_or_id = name_or_id.to_owned();
        let removed = self.change(move |store, state| {
            let (id, removed) = state.untag(&name_or_id)?;
            store.inner.disk.write_image(&id, &state.images[&id])?;
            Ok(removed)
        });
        if removed.await? { self.sweep().await } else { Ok(()) }
    }

    /// Keeps an image's layers until `owner` releases them. Leases live as long as the process: the owner's own durable state
    /// says which to take again after a restart, before garbage is collected.
    ///
    /// # Errors
    /// [`ImageError::NotFound`]; a removed image that is still there can be retained by its id.
    pub async fn retain(&self, owner: &str, image_id: &str) -> Result<(), ImageError> {
        let (owner, image_id) = (owner.to_owned(), image_id.to_owned());
        self.change(move |store, state| {
            let by_id = image_id.parse::<Digest>().ok().filter(|id| state.images.contains_key(id)); // Or a name.
            let id = by_id.map_or_else(|| state.find(&image_id).map(|image| image.id.clone()), Ok)?;
            store.uses().leases.entry(owner).or_default().insert(id);
            Ok(())
        })
        .await
    }

    /// Ends all of `owner`'s leases; removed images that nobody else retains go. An unknown owner has none.
    ///
    /// # Errors
    /// File errors.
    pub async fn release(&self, owner: &str) -> Result<(), ImageError> {
        let released = self.uses().leases.remove(owner).unwrap_or_default();
        let snapshot = self.snapshot();
        let ends = released.iter().any(|id| snapshot.images.get(id).is_some_and(|image| image.removed));
        if ends { self.sweep().await } else { Ok(()) }
    }

    /// Whether somebody retains the image.
    pub fn in_use(&self, image_id: &str) -> bool {
        self.uses().leases.values().flatten().any(|id| id.as_str() == image_id)
    }

    /// What unpacked layers occupy, from what was counted when they were unpacked.
    pub fn usage(&self) -> Usage {
        let snapshot = self.snapshot();
        let add = |sum: Usage, layer: &LayerRecord| Usage {
            bytes: sum.bytes + layer.bytes,
            inodes: sum.inodes + layer.inodes,
        };
        snapshot.layers.values().fold(Usage::default(), add)
    }

    /// Removes what no image needs and nobody uses: removed images, layers of interrupted pulls, kept blobs. Returns what the
    /// layers occupied.
    ///
    /// # Errors
    /// File errors.
    pub async fn collect_garbage(&self) -> Result<Usage, ImageError> {
        let before = self.usage();
        self.sweep().await?;
        let after = self.usage();
        Ok(Usage {
            bytes: before.bytes.saturating_sub(after.bytes),
            inodes: before.inodes.saturating_sub(after.inodes),
        })
    }

    fn snapshot(&self) -> Arc<State> {
        Arc::clone(&self.inner.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a change on a blocking thread. Its error leaves the snapshot as it was.
    async fn change<T: Send + 'static>(
        &self,
        apply: impl FnOnce(&Self, &mut State) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let store = self.clone();
        blocking(move || store.change_now(apply)).await
    }

    /// As `change`, for callers that are on a blocking thread already.
    fn change_now<T>(
        &self,
        apply: impl FnOnce(&Self, &mut State) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let _writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.snapshot());
        let result = apply(self, &mut state)?;
        self.publish(state);
        Ok(result)
    }

    fn publish(&self, state: State) {
        *self.inner.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.inner.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_images(&self, state: &mut State, image: ImageRecord) -> Result<(), ImageError> {
        for id in state.add(image) {
            self.inner.disk.write_image(&id, &state.images[&id])?;
        }
        Ok(())
    }

    /// Removes everything unneeded: out of sight first, then its files.
    async fn sweep(&self) -> Result<(), ImageError> {
        let store = self.clone();
        blocking(move || {
            let writer = store.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let trash = store.sweep_now()?;
            // Deleting trees takes its time, and nobody needs to wait for it.
            drop(writer);
            drop(trash);
            Ok(())
        })
        .await
    }

    /// The record goes before the layers: a crash between leaves layers without an image, never an image without layers.
    fn sweep_now(&self) -> Result<Vec<Temporary>, ImageError> {
        let disk = &self.inner.disk;
        let mut state = State::clone(&self.snapshot());
        // Until the new snapshot is out, so that nobody starts to count on what goes.
        let uses = self.uses();
        let leased: BTreeSet<&Digest> = uses.leases.values().flatten().collect();
        let gone = |image: &&ImageRecord| image.removed && !leased.contains(&image.id);
        let gone: Vec<Digest> = state.images.values().filter(gone).map(|image| image.id.clone()).collect();
        for id in gone {
            disk.remove_image(&id)?;
            state.images.remove(&id);
        }
        let (layers, blobs) = (state.needed_layers(), state.needed_blobs());
        let unneeded = |id: &&Digest| !layers.contains(*id) && !uses.holds.contains_key(*id);
        let unneeded: Vec<Digest> = state.layers.keys().filter(unneeded).cloned().collect();
        let mut trash = Vec::new();
        for id in unneeded {
            trash.push(disk.retire_layer(&id)?);
            state.layers.remove(&id);
        }
        for (digest, path) in disk.blobs()? {
            if !blobs.contains(&digest) && !uses.holds.contains_key(&digest) {
                disk::remove_file(&path)?;
            }
        }
        self.publish(state);
        Ok(trash)
    }

    /// Keeps garbage collection away from content that is about to be used.
    fn hold(&self, digests: impl IntoIterator<Item = Digest>) -> Hold {
        let digests: Vec<Digest> = digests.into_iter().collect();
        let mut uses = self.uses();
        for digest in &digests {
            *uses.holds.entry(digest.clone()).or_default() += 1;
        }
        drop(uses);
        Hold { store: self.clone(), digests }
    }

    /// Claims the layers of a stack that are not there yet, bottom first. Someone else's claim is waited for: what two pulls
    /// share is fetched once.
    async fn claim_missing(&self, diff_ids: &[Digest]) -> Vec<ClaimedLayer> {
        let chain = chain_ids(diff_ids);
        let mut missing = Vec::new();
        for (index, chain_id) in chain.iter().enumerate() {
            let claim = self.inner.claims.claim(chain_id).await;
            if !self.snapshot().layers.contains_key(chain_id) {
                let below = chain[..index].iter().rev().map(|id| self.inner.disk.layer_root(id)).collect();
                let diff_id = diff_ids[index].clone();
                missing.push(ClaimedLayer {
                    index,
                    chain_id: chain_id.clone(),
                    diff_id,
                    below,
                    _claim: claim,
                });
            }
        }
        missing
    }

    /// Unpacks and publishes one layer, on a blocking thread. `verify` sees what came out before it becomes visible.
    fn unpack_layer(
        &self,
        layer: &ClaimedLayer,
        name: &str,
        archive: impl Read,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let (temporary, root) = self.inner.disk.temporary_layer()?;
        let unpacked = layer::unpack(archive, &root, &layer.below, cancel)
            .map_err(|error| layer_error(error, name, &root))?;
        if unpacked.diff_id != layer.diff_id {
            return Err(ImageError::DigestMismatch {
                expected: layer.diff_id.clone(),
                actual: unpacked.diff_id,
            });
        }
        self.publish_layer(temporary, &layer.chain_id, &unpacked)
    }

    fn publish_layer(
        &self,
        temporary: Temporary,
        chain_id: &Digest,
        unpacked: &layer::Unpacked,
    ) -> Result<(), ImageError> {
        let record = LayerRecord {
            chain_id: chain_id.clone(),
            diff_id: unpacked.diff_id.clone(),
            bytes: unpacked.bytes,
            inodes: unpacked.inodes,
        };
        self.change_now(move |store, state| {
            store.inner.disk.publish_layer(temporary, &record.chain_id, &record)?;
            state.layers.insert(record.chain_id.clone(), record);
            Ok(())
        })
    }

    /// Makes an image visible whose layers are all there, on a blocking thread.
    fn publish_image(&self, record: ImageRecord, raw_config: &[u8]) -> Result<Image, ImageError> {
        if let Some(existing) = self.snapshot().images.get(&record.id).filter(|image| image.includes(&record))
        {
            return Ok(existing.image());
        }
        if self.inner.options.sync {
            self.inner.disk.sync()?;
        }
        let id = record.id.clone();
        self.change_now(move |store, state| {
            if !store.inner.disk.has_blob(&id) {
                store.inner.disk.write_blob(&id, raw_config)?;
            }
            store.write_images(state, record)?;
            Ok(state.images[&id].image())
        })
    }
}

/// A layer that this task alone is making.
struct ClaimedLayer {
    index: usize,
    chain_id: Digest,
    diff_id: Digest,
    /// The layers below, top first.
    below: Vec<PathBuf>,
    _claim: Claim,
}

/// An unpacked layer whose digest is known only now.
struct Unpacking {
    temporary: Temporary,
    unpacked: layer::Unpacked,
    blob: Option<Temporary>,
}

/// Ends a hold when dropped.
struct Hold {
    store: ImageStore,
    digests: Vec<Digest>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut uses = self.store.uses();
        for digest in &self.digests {
            if let Some(count) = uses.holds.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    uses.holds.remove(digest);
                }
            }
        }
    }
}

fn layer_error(error: LayerError, layer: &str, path: &Path) -> ImageError {
    let bad = |reason: String| ImageError::BadLayer { layer: layer.to_owned(), reason };
    match error {
        LayerError::Bad(reason) => bad(reason),
        LayerError::Cancelled => ImageError::Cancelled,
        // The decompressors and the tar reader report broken input with these; the disk does not.
        LayerError::Io(error) if is_input_error(&error) => bad(error.to_string()),
        LayerError::Io(error) => io_error(path, error),
    }
}

fn is_input_error(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    error.raw_os_error().is_none()
        && matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
}

/// Runs file work on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(ImageError::Cancelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registries;

    /// Compiles only while the futures can be spawned.
    #[allow(dead_code)]
    fn futures_are_send(store: &ImageStore, reference: &Reference, registries: &Registries) {
        fn check(_: impl Future + Send) {}
        check(store.pull(reference, None, registries, |_| {}));
        check(store.load_archive(Path::new("")));
        check(store.remove(""));
        check(store.collect_garbage());
        check(crate::build::ImageBuilder::new().store(store, &[]));
    }
}
