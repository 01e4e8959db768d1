//! The directory that one store owns: its lock, the names of its files, and whether there was a database in it.

use crate::{StoreError, StoreResult};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock that is held is tried again, and how long after. Whoever held it may be gone and a process that they were just starting
/// not yet begun: until then it has a copy of everything that they had open.
const ATTEMPTS: u32 = 50;
const REST: Duration = Duration::from_millis(10);

/// A directory that nobody else has open while this lives.
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

/// What the lock's file says once the database is made.
const MADE: &[u8] = b"made\n";

impl Directory {
    /// Makes the directory when missing, and locks it.
    pub(super) fn lock(path: &Path) -> StoreResult<Self> {
        std::fs::create_dir_all(path).map_err(|error| io("make the store's directory", &error))?;
        // Everybody's secrets are in it.
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|error| io("keep the store's directory to its owner", &error))?;
        let lock = path.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(lock);
        let file = file.map_err(|error| io("open the store's lock", &error))?;
        for _ in 0..ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(Self { path: path.to_owned(), lock: file }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(REST),
                Err(TryLockError::Error(error)) => return Err(io("lock the store's directory", &error)),
            }
        }
        Err(StoreError::InUse { path: path.to_owned() })
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("store.db")
    }

    /// Whether a database was made here: one that is empty or gone has lost everything, and is no new one.
    pub(super) fn was_made(&self) -> StoreResult<bool> {
        let length = self.lock.metadata().map_err(|error| io("look at the store's lock", &error))?.len();
        Ok(length > 0)
    }

    /// Remembers that the database is made and synced.
    pub(super) fn mark_made(&self) -> StoreResult<()> {
        let written = self.lock.write_all_at(MADE, 0).and_then(|()| self.lock.sync_all());
        written.map_err(|error| io("mark the store as made", &error))
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

    /// As by a process that is being started when its parent closes the store or is killed.
    #[test]
    fn a_copy_that_goes_soon_is_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let held = Directory::lock(scratch.path()).unwrap();
        let copy = held.lock.try_clone().unwrap();
        drop(held);
        let gone = std::thread::spawn(move || {
            std::thread::sleep(REST * 5);
            drop(copy);
        });
        assert!(Directory::lock(scratch.path()).is_ok());
        gone.join().unwrap();
    }
}
