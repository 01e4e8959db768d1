//! Settings of the machine that the pod network changes, kept in files as they were, until the last cluster leaves.

use nauplius_link::sysctl::{self, Record};
use nauplius_link::{Error, Result};
use std::io;
use std::path::Path;

/// Sets `key`; the first change of a key is recorded in `dir`, before it is made.
pub(super) fn set(dir: &Path, key: &str, value: &str) -> Result<()> {
    let old = sysctl::read(key)?;
    if old == value {
        return Ok(());
    }
    std::fs::create_dir_all(dir).map_err(|source| file("create directory", dir, source))?;
    let path = dir.join(key.replace('/', ","));
    if !path.exists() {
        let record = Record { key: key.to_owned(), value: old };
        std::fs::write(&path, record.to_string()).map_err(|source| file("write", &path, source))?;
    }
    sysctl::write(key, value)
}

/// Puts everything that is recorded in `dir` back and forgets it. A record that cannot be read is an error, not lost.
pub(super) fn restore(dir: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| file("read directory", dir, source))?,
    };
    for entry in entries {
        let path = entry.map_err(|source| file("read directory", dir, source))?.path();
        let text = std::fs::read_to_string(&path).map_err(|source| file("read", &path, source))?;
        text.parse::<Record>()?.restore()?;
        std::fs::remove_file(&path).map_err(|source| file("remove", &path, source))?;
    }
    remove_dir(dir)
}

pub(super) fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", dir, error)),
        _ => Ok(()),
    }
}

fn file(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}
