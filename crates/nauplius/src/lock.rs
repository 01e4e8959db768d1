//! Locks between the commands of one machine. The file names its holder, so that whoever waits can say for whom; it goes when the
//! lock is let go. What a lock guards is not known here.

use crate::failure::Failure;
use nauplius_base::time;
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock that somebody else holds is tried: one of another process cannot be waited for and told of at the same time.
const RETRY: Duration = Duration::from_millis(20);
/// A wait this short is not worth a word.
const SILENCE: Duration = Duration::from_millis(500);
/// No holder's line is longer than this.
const HOLDER_MAX: u64 = 1 << 12;

/// A lock that this process holds.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting for whoever has it, and says for whom when that takes a while.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn take(path: &Path) -> Result<Self, Failure> {
        Self::take_telling(path, |holder| eprintln!("nauplius: waiting for {holder}"))
    }

    fn take_telling(path: &Path, mut tell: impl FnMut(&str)) -> Result<Self, Failure> {
        let since = time::monotonic();
        let mut told = false;
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
            if !told && since.elapsed() >= SILENCE {
                tell(&holder(path));
                told = true;
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Takes the lock unless somebody has it.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn try_take(path: &Path) -> Result<Option<Self>, Failure> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        loop {
            match std::fs::create_dir_all(directory) {
                // Another made it first, and has let go of it since.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && !is_other(directory) => continue,
                made => made.map_err(|error| Failure::io("cannot make", directory, &error))?,
            }
            let mut file = match open(path) {
                // The directory was removed between the two calls.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(|error| Failure::io("cannot open", path, &error))?,
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(Failure::io("cannot lock", path, &error.into())),
            }
            // Whoever let it go has removed the file: one that was opened before guards nothing any more.
            if is_at(&file, path)? {
                sign(&mut file).map_err(|error| Failure::io("cannot write", path, &error))?;
                return Ok(Some(Self { path: path.to_owned(), _file: file }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A file that stays is only untidy; a directory that others use stays, too.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.path.parent().map(std::fs::remove_dir);
    }
}

/// Whether something is there that is no directory.
fn is_other(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir())
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// `process 12 (nauplius up)`: for people only.
fn sign(file: &mut File) -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let program = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let rest = words.get(1..).unwrap_or_default().join(" ");
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} ({program} {rest})", std::process::id())
}

/// Who holds the lock, in words.
pub fn holder(path: &Path) -> String {
    let mut line = String::new();
    let read = File::open(path).and_then(|file| file.take(HOLDER_MAX).read_to_string(&mut line));
    match read {
        Ok(_) if !line.trim().is_empty() => format!("{}, which holds {}", line.trim(), path.display()),
        // It was let go meanwhile, or is being signed.
        _ => format!("another process, which holds {}", path.display()),
    }
}

/// Whether the open file is still the one at `path`.
fn is_at(file: &File, path: &Path) -> Result<bool, Failure> {
    let failed = |error| Failure::io("cannot look at", path, &error);
    let open = file.metadata().map_err(failed)?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn whoever_waits_says_for_whom_and_nothing_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("locks/one");
        let first = Lock::take(&path).unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        let (tell, told) = mpsc::channel();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || drop(Lock::take_telling(&path, |holder| tell.send(holder.to_owned()).unwrap()).unwrap())
        });
        let holder = told.recv().unwrap();
        let expected = format!("process {} (", std::process::id());
        assert!(holder.starts_with(&expected), "{holder}");
        assert!(holder.ends_with(&format!("), which holds {}", path.display())), "{holder}");
        drop(first);
        waiting.join().unwrap();
        assert!(!path.parent().unwrap().exists());
    }
}
