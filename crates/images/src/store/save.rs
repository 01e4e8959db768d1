//! Saves: images of the store as an archive that this and other tools load. Works for images whose blobs were kept.

use std::io::Write;
use std::path::Path;

use super::{ImageRecord, ImageStore, Temporary, blocking};
use crate::error::{ImageError, io_error};
use crate::layout::{self, Blob};
use crate::tarball::{Content, Tarball};

impl ImageStore {
    /// Writes images to an archive (an OCI layout with `docker load`'s manifest beside it). The file appears whole or not at
    /// all.
    ///
    /// # Errors
    /// [`ImageError::NotFound`]; [`ImageError::BlobsNotKept`] unless the store keeps blobs; file errors.
    pub async fn save_archive(&self, names: &[&str], path: &Path) -> Result<(), ImageError> {
        let snapshot = self.snapshot();
        let find = |name: &&str| snapshot.find(name).cloned();
        let images = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let (store, path) = (self.clone(), path.to_path_buf());
        blocking(move || {
            let _hold = store.hold(images.iter().flat_map(|image| {
                image
                    .layers
                    .iter()
                    .map(|layer| layer.blob.clone())
                    .chain([image.id.clone()])
                    .collect::<Vec<_>>()
            }));
            let images = images.iter().map(|image| store.saved(image)).collect::<Result<Vec<_>, _>>()?;
            write_archive(&path, Tarball::new(layout::items(images)))
        })
        .await
    }

    fn saved(&self, image: &ImageRecord) -> Result<layout::LayoutImage, ImageError> {
        let disk = &self.inner.disk;
        let config_path = disk.blob(&image.id);
        let config = std::fs::read(&config_path).map_err(|error| io_error(&config_path, error))?;
        let layers = image.layers.iter().map(|layer| {
            let path = disk.blob(&layer.blob);
            let size = std::fs::metadata(&path)
                .map_err(|_| ImageError::BlobsNotKept { id: image.id.to_string() })?
                .len();
            Ok(Blob {
                digest: layer.blob.clone(),
                size,
                media_type: layer.media_type.clone(),
                content: Content::File { path, size },
            })
        });
        let layers = layers.collect::<Result<_, ImageError>>()?;
        Ok(layout::LayoutImage { config: config.into(), layers, tags: image.tags.iter().cloned().collect() })
    }
}

/// Writes beside the target and renames.
pub(crate) fn write_archive(path: &Path, mut archive: Tarball) -> Result<(), ImageError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", nauplius_base::id::hex(6)));
    let temporary = Temporary::at(path.with_file_name(name));
    let mut write = || {
        let mut file = std::fs::File::create_new(temporary.path())?;
        std::io::copy(&mut archive, &mut file)?;
        file.flush()?;
        file.sync_all()?;
        std::fs::rename(temporary.path(), path)
    };
    write().map_err(|error| io_error(path, error))
}
