//! Lays images out as the files of an archive: an OCI layout, and the manifest that `docker load` reads. Pure.

use bytes::Bytes;
use serde_json::json;

use crate::archive::{blob_name, name_annotations};
use crate::digest::Digest;
use crate::manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use crate::reference::Reference;
use crate::tarball::{Content, Item};

/// An image to be written.
pub(crate) struct LayoutImage {
    pub(crate) config: Bytes,
    pub(crate) layers: Vec<Blob>,
    pub(crate) tags: Vec<String>,
}

/// A layer to be written.
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Empty where it is not known: a plain layer.
    pub(crate) media_type: String,
    pub(crate) content: Content,
}

/// The files of an archive with these images.
pub(crate) fn items(images: Vec<LayoutImage>) -> Vec<Item> {
    let mut blobs = std::collections::BTreeMap::new();
    let (mut index, mut saved) = (Vec::new(), Vec::new());
    for image in images {
        let config = Digest::of(&image.config);
        let manifest = manifest(&image, &config);
        let digest = Digest::of(&manifest);
        let entry = json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": manifest.len() });
        let mut named: Vec<_> = image.tags.iter().map(|tag| annotated(&entry, tag)).collect();
        if named.is_empty() {
            named.push(entry);
        }
        index.append(&mut named);
        let layers: Vec<_> = image.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
        let tags: Vec<_> = image.tags.iter().map(|tag| familiar(tag)).collect();
        saved.push(json!({ "Config": blob_name(&config), "RepoTags": tags, "Layers": layers }));
        blobs.insert(blob_name(&config), Content::Bytes(image.config));
        blobs.insert(blob_name(&digest), Content::Bytes(manifest));
        blobs.extend(image.layers.into_iter().map(|layer| (blob_name(&layer.digest), layer.content)));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index });
    let text = |value: serde_json::Value| Content::Bytes(value.to_string().into());
    blobs.insert("oci-layout".to_owned(), text(json!({ "imageLayoutVersion": "1.0.0" })));
    blobs.insert("index.json".to_owned(), text(index));
    blobs.insert("manifest.json".to_owned(), text(saved.into()));
    blobs.into_iter().map(|(path, content)| Item::blob(path, content)).collect()
}

fn manifest(image: &LayoutImage, config: &Digest) -> Bytes {
    let layer = |layer: &Blob| {
        let kind = if layer.media_type.is_empty() { OCI_LAYER } else { &layer.media_type };
        json!({ "mediaType": kind, "digest": layer.digest, "size": layer.size })
    };
    let layers: Vec<_> = image.layers.iter().map(layer).collect();
    let config = json!({ "mediaType": OCI_CONFIG, "digest": config, "size": image.config.len() });
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers });
    manifest.to_string().into()
}

fn annotated(entry: &serde_json::Value, tag: &str) -> serde_json::Value {
    let mut entry = entry.clone();
    entry["annotations"] = json!(name_annotations(tag));
    entry
}

fn familiar(tag: &str) -> String {
    tag.parse::<Reference>().map_or_else(|_| tag.to_owned(), |reference| reference.familiar())
}
