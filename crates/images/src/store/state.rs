//! What a store holds, as a value: images, their names, layers. Pure; changing it and making the change durable is the
//! store's work.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::{Image, ImageConfig, chain_ids};
use crate::reference::Reference;

/// Shorter hex strings are names, not ids.
const MIN_SHORT_ID: usize = 4;

/// An image as it is written to disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) id: Digest,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) repo_digests: BTreeSet<String>,
    pub(crate) size_bytes: u64,
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<LayerLink>,
    /// Removed by its user while a container still used it.
    #[serde(default)]
    pub(crate) removed: bool,
}

/// A layer of an image, bottom first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerLink {
    pub(crate) diff_id: Digest,
    /// The layer as it was transferred.
    pub(crate) blob: Digest,
    pub(crate) blob_bytes: u64,
    pub(crate) media_type: String,
}

/// An unpacked layer as it is written to disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) chain_id: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// A snapshot of the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) images: BTreeMap<Digest, ImageRecord>,
    pub(crate) layers: BTreeMap<Digest, LayerRecord>,
}

impl ImageRecord {
    pub(crate) fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    }

    pub(crate) fn chain(&self) -> Vec<Digest> {
        chain_ids(&self.diff_ids())
    }

    /// Whether adding `other` would change nothing.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let same_names =
            self.tags.is_superset(&other.tags) && self.repo_digests.is_superset(&other.repo_digests);
        self.id == other.id && !self.removed && same_names
    }

    pub(crate) fn image(&self) -> Image {
        Image {
            id: self.id.to_string(),
            repo_tags: self.tags.iter().cloned().collect(),
            repo_digests: self.repo_digests.iter().cloned().collect(),
            size_bytes: self.size_bytes,
            config: self.config.clone(),
            diff_ids: self.diff_ids(),
        }
    }
}

impl State {
    /// What was read from disk; images whose layers are missing are returned apart.
    pub(crate) fn assemble(images: Vec<ImageRecord>, layers: Vec<LayerRecord>) -> (Self, Vec<Digest>) {
        let layers: BTreeMap<_, _> =
            layers.into_iter().map(|layer| (layer.chain_id.clone(), layer)).collect();
        let complete = |image: &ImageRecord| image.chain().iter().all(|id| layers.contains_key(id));
        let (whole, broken): (Vec<_>, Vec<_>) = images.into_iter().partition(complete);
        let images = whole.into_iter().map(|image| (image.id.clone(), image)).collect();
        (Self { images, layers }, broken.into_iter().map(|image| image.id).collect())
    }

    pub(crate) fn visible(&self) -> impl Iterator<Item = &ImageRecord> {
        self.images.values().filter(|image| !image.removed)
    }

    /// The image that a tag, a digest reference, an id or a short id means.
    pub(crate) fn find(&self, name_or_id: &str) -> Result<&ImageRecord, ImageError> {
        let not_found = || ImageError::NotFound { name: name_or_id.to_owned() };
        if let Ok(digest) = name_or_id.parse::<Digest>() {
            return self.by_digest(&digest).ok_or_else(not_found);
        }
        // Not a reference is fine: it may be an id.
        if let Some(image) = name_or_id.parse().ok().and_then(|reference| self.by_reference(&reference)) {
            return Ok(image);
        }
        let prefix = name_or_id.strip_prefix("sha256:").unwrap_or(name_or_id);
        let is_id = prefix.len() >= MIN_SHORT_ID && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Err(not_found());
        }
        let matches: Vec<_> = self.visible().filter(|image| image.id.hex().starts_with(prefix)).collect();
        match matches.as_slice() {
            [] => Err(not_found()),
            [image] => Ok(image),
            several => Err(ImageError::Ambiguous { name: name_or_id.to_owned(), count: several.len() }),
        }
    }

    fn by_digest(&self, digest: &Digest) -> Option<&ImageRecord> {
        let suffix = format!("@{digest}");
        self.images.get(digest).filter(|image| !image.removed).or_else(|| {
            self.visible().find(|image| image.repo_digests.iter().any(|name| name.ends_with(&suffix)))
        })
    }

    fn by_reference(&self, reference: &Reference) -> Option<&ImageRecord> {
        match (reference.digest(), reference.tagged()) {
            (Some(digest), _) => {
                let name = reference.digested(digest);
                self.visible().find(|image| image.repo_digests.contains(&name))
            }
            (None, Some(tag)) => self.visible().find(|image| image.tags.contains(&tag)),
            (None, None) => None,
        }
    }

    /// Layers that an image needs, removed ones in use included.
    pub(crate) fn needed_layers(&self) -> BTreeSet<Digest> {
        self.images.values().flat_map(ImageRecord::chain).collect()
    }

    pub(crate) fn needed_blobs(&self) -> BTreeSet<Digest> {
        let blobs = |image: &ImageRecord| {
            let layers = image.layers.iter().map(|layer| layer.blob.clone());
            layers.chain(std::iter::once(image.id.clone())).collect::<Vec<_>>()
        };
        self.images.values().flat_map(blobs).collect()
    }

    /// Adds an image, or new names to one that is there. Its tags leave the images that had them, whose records change too.
    /// Returns the ids of all changed images.
    pub(crate) fn add(&mut self, mut image: ImageRecord) -> Vec<Digest> {
        let mut changed = Vec::new();
        for other in self.images.values_mut().filter(|other| other.id != image.id) {
            let before = other.tags.len();
            other.tags.retain(|tag| !image.tags.contains(tag));
            if other.tags.len() != before {
                changed.push(other.id.clone());
            }
        }
        if let Some(existing) = self.images.get(&image.id).filter(|existing| !existing.removed) {
            image.tags.extend(existing.tags.iter().cloned());
            image.repo_digests.extend(existing.repo_digests.iter().cloned());
            // Pulled packed and loaded unpacked, it is one image: it keeps the size that people have seen.
            image.size_bytes = existing.size_bytes;
        }
        changed.push(image.id.clone());
        self.images.insert(image.id.clone(), image);
        changed
    }

    /// Takes a name from its image, or all of them when the name is an id. True when the image has none left.
    pub(crate) fn untag(&mut self, name_or_id: &str) -> Result<(Digest, bool), ImageError> {
        let id = self.find(name_or_id)?.id.clone();
        let image =
            self.images.get_mut(&id).ok_or_else(|| ImageError::NotFound { name: name_or_id.to_owned() })?;
        // Ids are no references, or name nothing as one.
        let reference = name_or_id.parse::<Reference>().ok();
        let tag = reference.as_ref().and_then(Reference::tagged).filter(|tag| image.tags.contains(tag));
        let digested = reference.as_ref().and_then(|it| it.digest().map(|digest| it.digested(digest)));
        let digested = digested.filter(|name| image.repo_digests.contains(name));
        match (tag, digested) {
            (Some(tag), _) => {
                image.tags.remove(&tag);
                image.removed = image.tags.is_empty();
            }
            (None, Some(name)) => {
                image.repo_digests.remove(&name);
                image.removed = image.tags.is_empty() && image.repo_digests.is_empty();
            }
            (None, None) => image.removed = true,
        }
        if image.removed {
            image.tags.clear();
            image.repo_digests.clear();
        }
        Ok((id, image.removed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, tags: &[&str]) -> ImageRecord {
        ImageRecord {
            id: Digest::of(name.as_bytes()),
            tags: tags.iter().map(|tag| tag.parse::<Reference>().unwrap().tagged().unwrap()).collect(),
            repo_digests: [format!("docker.io/library/{name}@{}", Digest::of(b"manifest"))].into(),
            size_bytes: 1,
            config: ImageConfig::default(),
            layers: Vec::new(),
            removed: false,
        }
    }

    #[test]
    fn an_image_keeps_its_size_however_it_comes_again() {
        let mut state = State::default();
        state.add(record("a", &["a:1"]));
        state.add(ImageRecord { size_bytes: 2, ..record("a", &["a:2"]) });
        assert_eq!(state.find("a:2").unwrap().size_bytes, 1);
    }

    #[test]
    fn finds_by_every_name() {
        let mut state = State::default();
        state.add(record("a", &["a:1", "a:2"]));
        let id = Digest::of(b"a");
        let digested = format!("a@{}", Digest::of(b"manifest"));
        let manifest = Digest::of(b"manifest").to_string();
        let names = [
            "a:1",
            "docker.io/library/a:2",
            id.as_str(),
            id.hex(),
            &id.hex()[..12],
            &id.as_str()[..20],
            &digested,
            &manifest,
        ];
        for name in names {
            assert_eq!(state.find(name).map(|image| image.id.clone()).unwrap(), id, "{name}");
        }
        for name in ["a", "b:1", "", &id.hex()[..3], "sha256:", "ffffffff"] {
            assert!(matches!(state.find(name), Err(ImageError::NotFound { .. })), "{name}");
        }
    }

    #[test]
    fn tags_move_and_the_last_one_removes() {
        let mut state = State::default();
        state.add(record("a", &["x:1", "x:2"]));
        let changed = state.add(record("b", &["x:1"]));
        assert_eq!(changed.len(), 2);
        assert_eq!(state.find("x:1").unwrap().id, Digest::of(b"b"));
        assert_eq!(state.untag("x:2").unwrap(), (Digest::of(b"a"), true));
        assert!(state.find(Digest::of(b"a").as_str()).is_err());
        assert_eq!(state.untag(Digest::of(b"b").as_str()).unwrap(), (Digest::of(b"b"), true));
        assert!(state.untag("x:1").is_err());
    }
}
