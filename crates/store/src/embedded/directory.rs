//! The directory that one store owns: its lock and the names of its files.

use crate::{StoreError, StoreResult};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A directory that nobody else has open while this lives.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory when missing, and locks it.
    pub(super) fn lock(path: &Path) -> StoreResult<Self> {
        std::fs::create_dir_all(path).map_err(|error| io("make the store's directory", &error))?;
        // Everybody's secrets are in it.
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|error| io("keep the store's directory to its owner", &error))?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
        let file = file.map_err(|error| io("open the store's lock", &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(io("lock the store's directory", &error)),
        }
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("store.db")
    }

    /// Makes the names of new files survive a power cut.
    pub(super) fn sync(&self) -> StoreResult<()> {
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(|error| io("sync the store's directory", &error))
    }
}

fn io(operation: &'static str, error: &std::io::Error) -> StoreError {
    StoreError::Io { operation, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_may_hold_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("store");
        let held = Directory::lock(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(Directory::lock(&path).err(), Some(StoreError::InUse { path: path.clone() }));
        drop(held);
        assert!(Directory::lock(&path).is_ok());
    }
}
