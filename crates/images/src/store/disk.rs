//! The store's files: where they lie and how they become visible. Everything is written under `tmp` and renamed into place;
//! what a crash leaves under `tmp` is removed when the store is opened. Knows records only as bytes to read and write.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::error::{ImageError, io_error};

const LAYOUT_VERSION: &str = "1";
const LAYER_FILE: &str = "layer.json";
const LAYER_ROOT: &str = "fs";
/// Overlayfs' mount options hold few long paths: 128 bits of a chain id are enough to tell layers apart.
const LAYER_NAME_LENGTH: usize = 32;

/// The directories of one store and the lock that makes this process its owner.
pub(super) struct Disk {
    root: PathBuf,
    _lock: File,
}

/// A file or directory under `tmp` that disappears when dropped, unless it was published.
pub(crate) struct Temporary {
    path: PathBuf,
}

impl Temporary {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn publish(self, to: &Path) -> Result<(), ImageError> {
        std::fs::rename(&self.path, to).map_err(|error| io_error(to, error))?;
        sync_directory(to.parent().unwrap_or(to))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Best effort: what stays is removed by the next open. A published path is no longer there.
        let removed = match std::fs::symlink_metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(&self.path),
            Ok(_) => std::fs::remove_file(&self.path),
            Err(_) => Ok(()),
        };
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file stays until the next start");
        }
    }
}

impl Disk {
    /// Locks and prepares the store below `root`; removes what a crash left half done.
    pub(super) fn open(root: &Path) -> Result<Self, ImageError> {
        create_directory(root)?;
        let lock = lock(root)?;
        check_layout(root)?;
        let disk = Self { root: root.to_path_buf(), _lock: lock };
        let leftovers = disk.root.join("tmp");
        if leftovers.exists() {
            std::fs::remove_dir_all(&leftovers).map_err(|error| io_error(&leftovers, error))?;
        }
        for name in ["tmp", "images", "layers", "blobs"] {
            create_directory(&disk.root.join(name))?;
        }
        Ok(disk)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A name under `tmp` that nothing has.
    pub(super) fn temporary(&self) -> Temporary {
        Temporary { path: self.root.join("tmp").join(nauplius_base::id::hex(12)) }
    }

    /// A new directory under `tmp` with the layer's root in it; the path of the root.
    pub(super) fn temporary_layer(&self) -> Result<(Temporary, PathBuf), ImageError> {
        let temporary = self.temporary();
        let root = temporary.path.join(LAYER_ROOT);
        create_directory(&temporary.path)?;
        create_directory(&root)?;
        Ok((temporary, root))
    }

    /// The unpacked directory of a layer.
    pub(super) fn layer_root(&self, chain_id: &Digest) -> PathBuf {
        self.layer_directory(chain_id).join(LAYER_ROOT)
    }

    fn layer_directory(&self, chain_id: &Digest) -> PathBuf {
        self.root.join("layers").join(&chain_id.hex()[..LAYER_NAME_LENGTH])
    }

    /// Makes an unpacked layer visible with its record.
    pub(super) fn publish_layer(
        &self,
        layer: Temporary,
        chain_id: &Digest,
        record: &impl Serialize,
    ) -> Result<(), ImageError> {
        let path = layer.path.join(LAYER_FILE);
        write_synced(&path, &to_json(record))?;
        layer.publish(&self.layer_directory(chain_id))
    }

    /// Takes a layer out of sight; its files go when the result is dropped.
    pub(super) fn retire_layer(&self, chain_id: &Digest) -> Result<Temporary, ImageError> {
        let (path, trash) = (self.layer_directory(chain_id), self.temporary());
        std::fs::rename(&path, &trash.path).map_err(|error| io_error(&path, error))?;
        Ok(trash)
    }

    /// The records of all layers. One that cannot be read was not published by us whole and is removed.
    pub(super) fn layers<T: DeserializeOwned>(&self) -> Result<Vec<T>, ImageError> {
        let mut records = Vec::new();
        for path in children(&self.root.join("layers"))? {
            match read_json(&path.join(LAYER_FILE)) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a damaged layer is removed");
                    let trash = self.temporary();
                    std::fs::rename(&path, &trash.path).map_err(|error| io_error(&path, error))?;
                }
            }
        }
        Ok(records)
    }

    fn image_path(&self, id: &Digest) -> PathBuf {
        self.root.join("images").join(format!("{}.json", id.hex()))
    }

    pub(super) fn write_image(&self, id: &Digest, record: &impl Serialize) -> Result<(), ImageError> {
        let temporary = self.temporary();
        write_synced(&temporary.path, &to_json(record))?;
        temporary.publish(&self.image_path(id))
    }

    pub(super) fn remove_image(&self, id: &Digest) -> Result<(), ImageError> {
        remove_file(&self.image_path(id))
    }

    /// The records of all images; a damaged one is removed, for the image can be had again and a broken store cannot.
    pub(super) fn images<T: DeserializeOwned>(&self) -> Result<Vec<T>, ImageError> {
        let mut records = Vec::new();
        for path in children(&self.root.join("images"))? {
            match read_json(&path) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a damaged image record is removed");
                    remove_file(&path)?;
                }
            }
        }
        Ok(records)
    }

    /// Where a kept blob lies.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    pub(super) fn has_blob(&self, digest: &Digest) -> bool {
        self.blob(digest).exists()
    }

    pub(super) fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
        let temporary = self.temporary();
        write_synced(&temporary.path, bytes)?;
        temporary.publish(&self.blob(digest))
    }

    /// Keeps a downloaded file as a blob.
    pub(super) fn keep_blob(&self, digest: &Digest, file: Temporary) -> Result<(), ImageError> {
        file.publish(&self.blob(digest))
    }

    pub(super) fn blobs(&self) -> Result<Vec<(Digest, PathBuf)>, ImageError> {
        let digest = |path: &Path| path.file_name()?.to_str()?.replacen('-', ":", 1).parse().ok(); // Not ours: skipped.
        let paths = children(&self.root.join("blobs"))?;
        Ok(paths.into_iter().filter_map(|path| Some((digest(&path)?, path))).collect())
    }

    /// Brings the files of unpacked layers to the disk before a record claims that they are there.
    pub(super) fn sync(&self) -> Result<(), ImageError> {
        let directory = File::open(&self.root).map_err(|error| io_error(&self.root, error))?;
        rustix::fs::syncfs(&directory).map_err(|errno| io_error(&self.root, errno.into()))
    }
}

fn lock(root: &Path) -> Result<File, ImageError> {
    let path = root.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| io_error(&path, error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ImageError::Locked { path: root.to_path_buf() }),
        Err(errno) => Err(io_error(&path, errno.into())),
    }
}

fn check_layout(root: &Path) -> Result<(), ImageError> {
    let path = root.join("layout");
    match std::fs::read_to_string(&path) {
        Ok(found) if found.trim() == LAYOUT_VERSION => Ok(()),
        Ok(found) => Err(ImageError::Layout {
            path: root.to_path_buf(),
            found: found.trim().chars().take(20).collect(),
            known: LAYOUT_VERSION,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_synced(&path, LAYOUT_VERSION.as_bytes())
        }
        Err(error) => Err(io_error(&path, error)),
    }
}

fn create_directory(path: &Path) -> Result<(), ImageError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|error| io_error(path, error))
}

fn children(directory: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let read =
        || std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    read().map_err(|error| io_error(directory, error))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ImageError> {
    let bytes = std::fs::read(path).map_err(|error| io_error(path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| io_error(path, error.into()))
}

fn to_json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys and no failing serializers")
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| io_error(path, error))
}

fn sync_directory(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| io_error(path, error))
}

pub(super) fn remove_file(path: &Path) -> Result<(), ImageError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path, error)),
        _ => Ok(()),
    }
}
