//! Builds an image of one layer from files and bytes. The same input gives the same digests: times are fixed and files are
//! sorted. Knows nothing of where its files come from.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::digest::{Digest, Hasher, HashingReader};
use crate::error::{ImageError, io_error};
use crate::image::{Image, ImageConfig, render_config};
use crate::layer::Kind;
use crate::layout::{self, Blob, LayoutImage};
use crate::manifest::{OCI_LAYER, Platform};
use crate::reference::Reference;
use crate::store::{ImageStore, write_archive};
use crate::tarball::{Content, Item, Tarball};

/// A time that every build has: images are told apart by content.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Collects an image's files and config.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    /// What a container starts from; this machine's platform at first.
    pub config: ImageConfig,
    items: BTreeMap<String, Item>,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageBuilder {
    /// An empty image for this machine's platform.
    pub fn new() -> Self {
        let here = Platform::here();
        let config = ImageConfig {
            architecture: here.architecture,
            os: here.os,
            created: Some(CREATED.to_owned()),
            ..ImageConfig::default()
        };
        Self { config, items: BTreeMap::new() }
    }

    /// Adds a file of the host; its content is read when the image is stored or written. Links are followed.
    ///
    /// # Errors
    /// A path that leads out of the image, a source that is no readable file.
    pub fn add_file(&mut self, path: &str, source: &Path, mode: u32) -> Result<&mut Self, ImageError> {
        let metadata = std::fs::metadata(source).map_err(|error| io_error(source, error))?;
        if !metadata.is_file() {
            return Err(invalid(path, &format!("{} is not a file", source.display())));
        }
        let content = Content::File { path: PathBuf::from(source), size: metadata.len() };
        self.add(path, Kind::File, "", mode, content)
    }

    /// Adds a file with this content.
    ///
    /// # Errors
    /// A path that leads out of the image.
    pub fn add_bytes(
        &mut self,
        path: &str,
        bytes: impl Into<Bytes>,
        mode: u32,
    ) -> Result<&mut Self, ImageError> {
        self.add(path, Kind::File, "", mode, Content::Bytes(bytes.into()))
    }

    /// Adds a directory. Directories above an entry are added anyhow, with mode 0755.
    ///
    /// # Errors
    /// A path that leads out of the image.
    pub fn add_directory(&mut self, path: &str, mode: u32) -> Result<&mut Self, ImageError> {
        self.add(path, Kind::Directory, "", mode, Content::empty())
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// A path that leads out of the image, an empty target.
    pub fn add_symlink(&mut self, path: &str, target: &str) -> Result<&mut Self, ImageError> {
        if target.is_empty() {
            return Err(invalid(path, "a link needs a target"));
        }
        self.add(path, Kind::Symlink, target, 0o777, Content::empty())
    }

    /// Sets the owner of an entry that was added; root owns all others.
    ///
    /// # Errors
    /// A path that was not added.
    pub fn set_owner(&mut self, path: &str, uid: u32, gid: u32) -> Result<&mut Self, ImageError> {
        let cleaned = clean(path)?;
        let item = self.items.get_mut(&cleaned).ok_or_else(|| invalid(path, "it was not added"))?;
        (item.uid, item.gid) = (uid, gid);
        Ok(self)
    }

    fn add(
        &mut self,
        path: &str,
        kind: Kind,
        link: &str,
        mode: u32,
        content: Content,
    ) -> Result<&mut Self, ImageError> {
        let path = clean(path)?;
        let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        for parent in parents {
            let above = self.items.entry(parent.clone()).or_insert_with(|| directory(parent));
            if above.kind != Kind::Directory {
                return Err(invalid(&path, &format!("{} is not a directory", above.path)));
            }
        }
        let item = Item {
            path: path.clone(),
            kind,
            link: link.to_owned(),
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            content,
        };
        self.items.insert(path, item);
        Ok(self)
    }

    pub(crate) fn layer(&self) -> Tarball {
        Tarball::new(self.items.values().cloned())
    }

    /// Builds the image into a store under these tags.
    ///
    /// # Errors
    /// File errors; a tag that pins a digest.
    pub async fn store(&self, store: &ImageStore, tags: &[Reference]) -> Result<Image, ImageError> {
        store.build(self.clone(), tag_names(tags)?).await
    }

    /// Writes the image as an archive (OCI layout, with `docker load`'s manifest beside it).
    ///
    /// # Errors
    /// File errors; a tag that pins a digest.
    pub async fn write_archive(&self, path: &Path, tags: &[Reference]) -> Result<(), ImageError> {
        let (builder, path, tags) = (self.clone(), path.to_path_buf(), tag_names(tags)?);
        let work = move || {
            let (digest, size) = builder.measure()?;
            let config = render_config(&builder.config, std::slice::from_ref(&digest)).into();
            // The layer is made twice, once for its digest, once for its bytes: it may be too large to keep.
            let content = Content::Tarball { items: builder.items.into_values().collect(), size };
            let layer = Blob { digest, size, media_type: OCI_LAYER.to_owned(), content };
            let image = LayoutImage { config, layers: vec![layer], tags };
            write_archive(&path, Tarball::new(layout::items(vec![image])))
        };
        crate::store::blocking(work).await
    }

    /// The digest and length of the layer.
    pub(crate) fn measure(&self) -> Result<(Digest, u64), ImageError> {
        let mut hashing = HashingReader::new(self.layer(), Hasher::sha256());
        let mut buffer = vec![0; 128 << 10];
        loop {
            match hashing.read(&mut buffer) {
                Ok(0) => return Ok(hashing.finish()),
                Ok(_) => {}
                Err(error) => return Err(io_error("image layer", error)),
            }
        }
    }
}

fn directory(path: String) -> Item {
    Item {
        path,
        kind: Kind::Directory,
        link: String::new(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        content: Content::empty(),
    }
}

fn tag_names(tags: &[Reference]) -> Result<Vec<String>, ImageError> {
    let name = |tag: &Reference| {
        let cause = crate::ReferenceError::Format;
        tag.tagged().ok_or_else(|| ImageError::InvalidReference { name: tag.to_string(), cause })
    };
    tags.iter().map(name).collect()
}

fn clean(path: &str) -> Result<String, ImageError> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() || parts.iter().any(|part| *part == ".." || part.contains('\0')) {
        return Err(invalid(path, "it is no path inside the image"));
    }
    Ok(parts.join("/"))
}

fn invalid(path: &str, reason: &str) -> ImageError {
    ImageError::BadLayer { layer: path.to_owned(), reason: reason.to_owned() }
}
