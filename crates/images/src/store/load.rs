//! Loads: images from an archive into the store. Knows archives by what they list.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWriteExt};

use super::{ClaimedLayer, ImageRecord, ImageStore, LayerLink, Temporary, blocking};
use crate::archive::{Archive, ArchivedImage, ArchivedLayer};
use crate::digest::{Digest, Hasher, HashingReader};
use crate::error::{ImageError, io_error};
use crate::image::{Image, chain_ids};
use crate::layer::{self, Cancel};
use crate::manifest::OCI_LAYER;

impl ImageStore {
    /// Loads all images of a `docker save` archive or an OCI layout in a tar, plain or compressed with gzip or zstd.
    ///
    /// # Errors
    /// [`ImageError::BadArchive`], mismatches, what cannot be unpacked, file errors.
    pub async fn load_archive(&self, path: &Path) -> Result<Vec<Image>, ImageError> {
        let path = path.to_path_buf();
        let file = blocking(move || File::open(&path).map_err(|error| io_error(&path, error))).await?;
        self.load_file(file, None).await
    }

    /// As [`ImageStore::load_archive`], from a reader, which is read on a blocking thread.
    ///
    /// # Errors
    /// As [`ImageStore::load_archive`].
    pub async fn load_reader(&self, reader: impl Read + Send + 'static) -> Result<Vec<Image>, ImageError> {
        let store = self.clone();
        let (file, temporary) = blocking(move || store.spool(reader)).await?;
        self.load_file(file, Some(temporary)).await
    }

    /// As [`ImageStore::load_archive`], from an asynchronous reader.
    ///
    /// # Errors
    /// As [`ImageStore::load_archive`].
    pub async fn load_stream(
        &self,
        mut reader: impl AsyncRead + Unpin + Send,
    ) -> Result<Vec<Image>, ImageError> {
        let temporary = self.inner.disk.temporary();
        let failed = |error| io_error(temporary.path(), error);
        let mut options = tokio::fs::File::options();
        let mut file =
            options.create_new(true).read(true).write(true).open(temporary.path()).await.map_err(failed)?;
        tokio::io::copy(&mut reader, &mut file).await.map_err(failed)?;
        file.flush().await.map_err(failed)?;
        let file = file.into_std().await;
        self.load_file(file, Some(temporary)).await
    }

    async fn load_file(&self, file: File, spooled: Option<Temporary>) -> Result<Vec<Image>, ImageError> {
        let store = self.clone();
        let (archive, _spooled, images) = blocking(move || {
            let (file, spooled) = store.plain(file, spooled)?;
            let archive = Arc::new(Archive::open(file)?);
            let images = archive.images()?;
            Ok((archive, spooled, images))
        })
        .await?;
        let mut loaded = Vec::with_capacity(images.len());
        for image in images {
            loaded.push(self.load_image(&archive, image).await?);
        }
        Ok(loaded)
    }

    /// Layers are read from the archive at random, so a compressed one is unpacked to a temporary file first.
    fn plain(
        &self,
        mut file: File,
        spooled: Option<Temporary>,
    ) -> Result<(File, Option<Temporary>), ImageError> {
        let failed = |error| io_error(self.inner.disk.root(), error);
        let mut start = [0; 4];
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let read = file.read(&mut start).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        if !layer::is_compressed(&start[..read]) {
            return Ok((file, spooled));
        }
        let bad = |error: std::io::Error| ImageError::BadArchive { reason: error.to_string() };
        let (plain, temporary) = self.spool(layer::decompressed(file).map_err(bad)?)?;
        Ok((plain, Some(temporary)))
    }

    pub(super) fn spool(&self, mut reader: impl Read) -> Result<(File, Temporary), ImageError> {
        let temporary = self.inner.disk.temporary();
        let file = File::options().create_new(true).read(true).write(true).open(temporary.path());
        let mut file = file.map_err(|error| io_error(temporary.path(), error))?;
        let copied = std::io::copy(&mut reader, &mut file);
        copied.map_err(|error| match io_error(temporary.path(), error) {
            // What the decompressor says has no error number; what the disk says has.
            ImageError::Io { source, .. } if source.raw_os_error().is_none() => {
                ImageError::BadArchive { reason: source.to_string() }
            }
            other => other,
        })?;
        Ok((file, temporary))
    }

    async fn load_image(&self, archive: &Arc<Archive>, image: ArchivedImage) -> Result<Image, ImageError> {
        let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let blobs = image.layers.iter().filter_map(|layer| layer.blob.clone());
        let _hold = self.hold(chain_ids(&diff_ids).into_iter().chain(blobs).chain([image.id.clone()]));
        let missing = self.claim_missing(&diff_ids).await;
        let (store, archive) = (self.clone(), Arc::clone(archive));
        let cancel = Cancel::default();
        let _cancels = cancel.on_drop();
        blocking(move || {
            let mut links: Vec<LayerLink> = image.layers.iter().map(link).collect();
            for claimed in missing {
                let layer = &image.layers[claimed.index];
                store.load_layer(&archive, &claimed, layer, &mut links[claimed.index], &cancel)?;
            }
            let record = ImageRecord {
                id: image.id,
                tags: image.tags.into_iter().collect(),
                repo_digests: image.repo_digests.into_iter().collect(),
                size_bytes: links.iter().map(|link| link.blob_bytes).sum::<u64>()
                    + image.raw_config.len() as u64,
                config: image.config,
                layers: links,
                removed: false,
            };
            store.publish_image(record, &image.raw_config)
        })
        .await
    }

    fn load_layer(
        &self,
        archive: &Archive,
        claimed: &ClaimedLayer,
        layer: &ArchivedLayer,
        link: &mut LayerLink,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let unreadable = |error: std::io::Error| ImageError::BadLayer {
            layer: layer.name.clone(),
            reason: error.to_string(),
        };
        let plain = layer::decompressed(archive.read(&layer.name)?).map_err(unreadable)?;
        self.unpack_layer(claimed, &layer.name, plain, cancel)?;
        if self.inner.options.keep_blobs {
            let mut hashing = HashingReader::new(archive.read(&layer.name)?, Hasher::sha256());
            let (_, kept) = self.spool(&mut hashing)?;
            link.blob = hashing.finish().0;
            if link.media_type.is_empty() {
                let mut start = [0; 4];
                let read = archive.read(&layer.name)?.read(&mut start).map_err(unreadable)?;
                link.media_type = format!("{OCI_LAYER}{}", layer::media_type_suffix(&start[..read]));
            }
            self.inner.disk.keep_blob(&link.blob, kept)?;
        }
        Ok(())
    }
}

/// An archive of `docker save` does not say its layers' digests as they lie there; they are plain, so it is the diff id.
fn link(layer: &ArchivedLayer) -> LayerLink {
    LayerLink {
        diff_id: layer.diff_id.clone(),
        blob: layer.blob.clone().unwrap_or_else(|| layer.diff_id.clone()),
        blob_bytes: layer.size,
        media_type: layer.media_type.clone(),
    }
}
