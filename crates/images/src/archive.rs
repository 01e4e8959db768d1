//! Image archives: `docker save` tars and OCI layouts in a tar. Finds the images and where their layers lie; knows nothing of
//! stores.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::{ImageConfig, parse_config};
use crate::layer::{Entries, Kind, LayerError};
use crate::manifest::{self, Descriptor, Manifest, Platform};
use crate::reference::Reference;
use crate::registry::MAX_MANIFEST_BYTES;

const MAX_FILES: usize = 100_000;
const MAX_LINKS: usize = 8;
const MAX_INDEX_DEPTH: usize = 3;
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const OCI_NAME: &str = "org.opencontainers.image.ref.name";

/// An uncompressed archive, indexed by file name.
pub(crate) struct Archive {
    file: Arc<File>,
    places: HashMap<String, Place>,
}

enum Place {
    File { offset: u64, size: u64 },
    Link(String),
}

/// An image in an archive.
pub(crate) struct ArchivedImage {
    pub(crate) id: Digest,
    pub(crate) raw_config: Vec<u8>,
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<ArchivedLayer>,
    pub(crate) tags: Vec<String>,
    pub(crate) repo_digests: Vec<String>,
}

/// A layer in an archive.
pub(crate) struct ArchivedLayer {
    pub(crate) diff_id: Digest,
    /// Its file in the archive.
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) media_type: String,
    /// Its digest as it lies there, if the archive says so.
    pub(crate) blob: Option<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl Archive {
    /// Indexes `file`.
    pub(crate) fn open(file: File) -> Result<Self, ImageError> {
        let file = Arc::new(file);
        let whole = Section { file: Arc::clone(&file), offset: 0, remaining: u64::MAX };
        let mut entries = Entries::new(BufReader::with_capacity(64 << 10, whole));
        let mut places = HashMap::new();
        while let Some(entry) = entries.next().map_err(|error| unreadable(&error))? {
            let place = match entry.kind {
                Kind::File => Place::File { offset: entry.offset, size: entry.size },
                Kind::Hardlink => Place::Link(clean(&String::from_utf8_lossy(&entry.link))),
                // Old `docker save` links a layer that an image shares with another: `../ID/layer.tar`.
                Kind::Symlink => Place::Link(beside(&entry.path, &entry.link)),
                _ => continue,
            };
            places.insert(clean(&String::from_utf8_lossy(&entry.path)), place);
            if places.len() > MAX_FILES {
                return Err(bad(format!("it holds more than {MAX_FILES} files")));
            }
        }
        Ok(Self { file, places })
    }

    /// The images that it describes.
    pub(crate) fn images(&self) -> Result<Vec<ArchivedImage>, ImageError> {
        let images = if self.places.contains_key("manifest.json") {
            let saved: Vec<SavedImage> = self.json("manifest.json")?;
            saved.into_iter().map(|image| self.saved(image)).collect::<Result<Vec<_>, _>>()?
        } else if self.places.contains_key("index.json") {
            self.layout()?
        } else {
            return Err(bad("it has neither a manifest.json nor an index.json"));
        };
        if images.is_empty() { Err(bad("it describes no image")) } else { Ok(images) }
    }

    /// A reader of one file.
    pub(crate) fn read(&self, name: &str) -> Result<Section, ImageError> {
        let (offset, size) = self.place(name)?;
        Ok(Section { file: Arc::clone(&self.file), offset, remaining: size })
    }

    fn place(&self, name: &str) -> Result<(u64, u64), ImageError> {
        let mut name = clean(name);
        for _ in 0..MAX_LINKS {
            match self.places.get(&name) {
                Some(Place::File { offset, size }) => return Ok((*offset, *size)),
                Some(Place::Link(target)) => name.clone_from(target),
                None => return Err(bad(format!("{name} is missing"))),
            }
        }
        Err(bad(format!("{name} is a chain of links")))
    }

    fn small(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (_, size) = self.place(name)?;
        if size > MAX_MANIFEST_BYTES {
            return Err(bad(format!("{name} exceeds the limit of {MAX_MANIFEST_BYTES} bytes")));
        }
        let mut bytes = Vec::new();
        self.read(name)?.read_to_end(&mut bytes).map_err(|error| bad(format!("{name}: {error}")))?;
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ImageError> {
        serde_json::from_slice(&self.small(name)?).map_err(|error| bad(format!("{name}: {error}")))
    }

    fn saved(&self, saved: SavedImage) -> Result<ArchivedImage, ImageError> {
        let raw_config = self.small(&saved.config)?;
        let files = saved.layers.unwrap_or_default().into_iter().map(|name| (name, None));
        let layers = files.map(|(name, blob)| (name, String::new(), blob)).collect();
        let tags = saved.repo_tags.unwrap_or_default();
        let tags = tags.iter().map(|tag| parse_tag(tag)).collect::<Result<_, _>>()?;
        self.image(raw_config, layers, tags, Vec::new())
    }

    fn image(
        &self,
        raw_config: Vec<u8>,
        files: Vec<(String, String, Option<Digest>)>,
        tags: Vec<String>,
        repo_digests: Vec<String>,
    ) -> Result<ArchivedImage, ImageError> {
        let parsed = parse_config(&raw_config)?;
        if parsed.diff_ids.len() != files.len() {
            let reason = format!("it lists {} layers, the archive {}", parsed.diff_ids.len(), files.len());
            return Err(ImageError::BadManifest { what: "config", reason });
        }
        let layer = |((name, media_type, blob), diff_id): ((String, String, Option<Digest>), Digest)| {
            let (_, size) = self.place(&name)?;
            Ok(ArchivedLayer { diff_id, name, size, media_type, blob })
        };
        let layers = files.into_iter().zip(parsed.diff_ids).map(layer).collect::<Result<_, ImageError>>()?;
        let id = Digest::of(&raw_config);
        Ok(ArchivedImage { id, raw_config, config: parsed.config, layers, tags, repo_digests })
    }

    fn layout(&self) -> Result<Vec<ArchivedImage>, ImageError> {
        let Manifest::Index(entries) = manifest::parse(manifest::OCI_INDEX, &self.small("index.json")?)?
        else {
            return Err(bad("index.json is not an index"));
        };
        entries.iter().map(|entry| self.listed(entry)).collect()
    }

    fn listed(&self, entry: &Descriptor) -> Result<ArchivedImage, ImageError> {
        let (config, layers) = self.resolve(entry)?;
        let raw_config = self.blob(&config.digest)?;
        let files =
            layers.into_iter().map(|it| (blob_name(&it.digest), it.media_type, Some(it.digest))).collect();
        let name = entry_name(entry);
        let tags = name.iter().filter_map(Reference::tagged).collect();
        let repo_digests = name.iter().map(|name| name.digested(&entry.digest)).collect();
        self.image(raw_config, files, tags, repo_digests)
    }

    fn resolve(&self, entry: &Descriptor) -> Result<(Descriptor, Vec<Descriptor>), ImageError> {
        let mut entry = entry.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            match manifest::parse(&entry.media_type, &self.blob(&entry.digest)?)? {
                Manifest::Image { config, layers } => return Ok((config, layers)),
                Manifest::Index(entries) => {
                    let here = Platform::here();
                    let chosen = manifest::choose(&entries, &here).cloned();
                    entry = chosen.ok_or_else(|| ImageError::NoPlatform {
                        reference: entry.digest.to_string(),
                        platform: here.to_string(),
                    })?;
                }
            }
        }
        Err(bad("indexes are nested too deeply"))
    }

    /// A small blob, verified.
    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let bytes = self.small(&blob_name(digest))?;
        let mut hasher = digest.hasher();
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual == *digest {
            Ok(bytes)
        } else {
            Err(ImageError::DigestMismatch { expected: digest.clone(), actual })
        }
    }
}

/// Where an OCI layout keeps a blob.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// A name is a whole reference; `ref.name` is often only a tag, which says nothing without a repository.
fn entry_name(entry: &Descriptor) -> Option<Reference> {
    let annotations = entry.annotations.as_ref()?;
    let whole = annotations.get(CONTAINERD_NAME);
    let name = whole.or_else(|| annotations.get(OCI_NAME).filter(|name| name.contains(['/', ':'])))?;
    name.parse().ok() // A free-form annotation that is no reference names nothing.
}

/// How an entry of an index is named so that every reader finds it.
pub(crate) fn name_annotations(reference: &str) -> std::collections::BTreeMap<String, String> {
    let tag = reference.rsplit_once(':').map_or(reference, |(_, tag)| tag);
    [(CONTAINERD_NAME.to_owned(), reference.to_owned()), (OCI_NAME.to_owned(), tag.to_owned())].into()
}

fn parse_tag(tag: &str) -> Result<String, ImageError> {
    let invalid = |cause| ImageError::InvalidReference { name: tag.to_owned(), cause };
    let reference: Reference = tag.parse().map_err(invalid)?;
    reference.tagged().ok_or_else(|| invalid(crate::ReferenceError::Format))
}

fn clean(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn beside(path: &[u8], link: &[u8]) -> String {
    let (path, link) = (String::from_utf8_lossy(path), String::from_utf8_lossy(link));
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    clean(&format!("{directory}/{link}"))
}

fn bad(reason: impl Into<String>) -> ImageError {
    ImageError::BadArchive { reason: reason.into() }
}

fn unreadable(error: &LayerError) -> ImageError {
    bad(error.to_string())
}

/// A stretch of a file; readers of the same file do not disturb each other.
pub(crate) struct Section {
    file: Arc<File>,
    offset: u64,
    remaining: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..limit], self.offset)?;
        self.offset += count as u64;
        self.remaining -= count as u64;
        Ok(count)
    }
}
