//! Takes a built image into the store: its layer is unpacked while it is made. Knows a builder by its layer and config.

use std::io::Read;

use super::{ClaimedLayer, ImageRecord, ImageStore, LayerLink, blocking, layer_error};
use crate::build::ImageBuilder;
use crate::digest::Digest;
use crate::error::{ImageError, io_error};
use crate::image::{Image, render_config};
use crate::layer::{self, Cancel};
use crate::manifest::OCI_LAYER;
use crate::store::{Temporary, Unpacking};

impl ImageStore {
    pub(crate) async fn build(&self, builder: ImageBuilder, tags: Vec<String>) -> Result<Image, ImageError> {
        let cancel = Cancel::default();
        let _cancels = cancel.on_drop();
        let (store, layer) = (self.clone(), builder.clone());
        let is_rebuild = tags.iter().any(|tag| self.get(tag).is_some());
        // What was built before is most likely the same again: reading it is cheaper than writing it.
        let measured = if is_rebuild { Some(blocking(move || layer.measure()).await?) } else { None };
        let is_there = |id: &Digest| self.snapshot().layers.contains_key(id);
        let _expected = self.hold(measured.iter().map(|(diff_id, _)| diff_id.clone()));
        let (diff_id, bytes, made) = match measured.filter(|(diff_id, _)| is_there(diff_id)) {
            Some((diff_id, bytes)) => (diff_id, bytes, None),
            None => {
                let layer = builder.layer();
                let made = blocking(move || store.make_layer(layer, &cancel)).await?;
                (made.unpacked.diff_id.clone(), made.unpacked.archive_bytes, Some(made))
            }
        };
        let _hold = self.hold([diff_id.clone()]);
        let missing = self.claim_missing(std::slice::from_ref(&diff_id)).await;
        let store = self.clone();
        blocking(move || {
            if let Some(made) = made {
                store.take(made, missing.first())?;
            }
            let raw_config = render_config(&builder.config, std::slice::from_ref(&diff_id));
            let link = LayerLink {
                blob: diff_id.clone(),
                diff_id,
                blob_bytes: bytes,
                media_type: OCI_LAYER.to_owned(),
            };
            let record = ImageRecord {
                id: Digest::of(&raw_config),
                tags: tags.into_iter().collect(),
                repo_digests: [].into(),
                size_bytes: bytes + raw_config.len() as u64,
                config: builder.config,
                layers: vec![link],
                removed: false,
            };
            store.publish_image(record, &raw_config)
        })
        .await
    }

    /// Publishes a layer unless someone else made the same one meanwhile.
    fn take(&self, made: Unpacking, claimed: Option<&ClaimedLayer>) -> Result<(), ImageError> {
        let diff_id = made.unpacked.diff_id.clone();
        if let Some(claimed) = claimed {
            self.publish_layer(made.temporary, &claimed.chain_id, &made.unpacked)?;
        }
        made.blob.map_or(Ok(()), |blob| self.inner.disk.keep_blob(&diff_id, blob))
    }

    fn make_layer(&self, layer: impl Read, cancel: &Cancel) -> Result<Unpacking, ImageError> {
        let (temporary, root) = self.inner.disk.temporary_layer()?;
        let failed = |error| layer_error(error, "of a built image", &root);
        if !self.inner.options.keep_blobs {
            let unpacked = layer::unpack(layer, &root, &[], cancel).map_err(failed)?;
            return Ok(Unpacking { temporary, unpacked, blob: None });
        }
        let (_, blob): (_, Temporary) = self.spool(layer)?;
        let archive = std::fs::File::open(blob.path()).map_err(|error| io_error(blob.path(), error))?;
        let unpacked = layer::unpack(archive, &root, &[], cancel).map_err(failed)?;
        Ok(Unpacking { temporary, unpacked, blob: Some(blob) })
    }
}
