//! Backups: everything that a store holds at one revision, in one file with a checksum over all of it. It is written while the store
//! serves, and can be restored into any store.
//!
//! The file: a line that names the format, the revision, then entries (their lengths, lease, key, value), then the number of
//! entries and SHA-256 of all before. Numbers are little-endian.

use crate::{ALL_KEYS, KeyValue, LeaseId, RangeRequest, Revision, Store, StoreError, StoreResult};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;

/// How far above all known revisions a restored store goes on: what clients saw after the backup was made is lost, and must not come
/// again with another meaning. It is what etcd's own guide advises.
pub const REVISION_MARGIN: i64 = 1_000_000_000;
/// What ends by itself lives this long after a restore; how long it had is not in a backup.
pub const LEASE_MS: u64 = 3_600_000;

const MAGIC: &[u8] = b"nauplius backup 1\n";
const ENTRY: u8 = 1;
const END: u8 = 0;
const PAGE: usize = 500;
/// No key or value is longer.
const LONGEST: u32 = 1 << 30;
const DIGEST_BYTES: usize = 32;

/// What was backed up or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The revision of the backup, or the one that the restored store is at.
    pub revision: Revision,
    /// How many keys.
    pub keys: u64,
}

/// One key of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The lease it had.
    pub lease: Option<LeaseId>,
}

/// Some entries that go into one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// In key order.
    pub entries: Vec<Entry>,
}

fn io(operation: &'static str, error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            StoreError::NoSpace { operation }
        }
        _ => StoreError::Io { operation, detail: error.to_string() },
    }
}

/// Writes everything that the store holds now to `path`, which appears only when it is whole and synced.
///
/// # Errors
/// Those of a read; `NoSpace` and `Io` of the file.
pub async fn write(store: &dyn Store, path: &Path) -> StoreResult<Summary> {
    let partial = path.with_added_extension("partial");
    let written = write_to(store, &partial).await;
    let finished = match written {
        Ok(summary) => {
            publish(&partial, path).map(|()| summary).map_err(|error| io("finish the backup", &error))
        }
        Err(error) => Err(error),
    };
    if finished.is_err() {
        // There may be none, and the first error is the one to tell.
        let _ = std::fs::remove_file(&partial);
    }
    finished
}

fn publish(partial: &Path, path: &Path) -> std::io::Result<()> {
    std::fs::rename(partial, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

async fn write_to(store: &dyn Store, path: &Path) -> StoreResult<Summary> {
    let failed = |error: std::io::Error| io("write the backup", &error);
    // Secrets are in it.
    let file =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(path).map_err(failed)?;
    let mut file = tokio::fs::File::from_std(file);
    let revision = store.revision().await?;
    let mut digest = Sha256::new();
    let mut out = [MAGIC, &revision.0.to_le_bytes()].concat();
    let mut keys = 0_u64;
    let mut request = RangeRequest {
        end: Some(ALL_KEYS),
        at: Some(revision),
        limit: PAGE,
        uncounted: true,
        ..RangeRequest::default()
    };
    loop {
        let page = store.range(request.clone()).await?;
        page.kvs.iter().for_each(|kv| encode(kv, &mut out));
        keys += page.kvs.len() as u64;
        digest.update(&out);
        file.write_all(&out).await.map_err(failed)?;
        out.clear();
        match page.kvs.last() {
            Some(last) if page.more => request.start = [&last.key[..], b"\0"].concat().into(),
            _ => break,
        }
    }
    out.push(END);
    out.extend(keys.to_le_bytes());
    digest.update(&out);
    out.extend(digest.finalize());
    file.write_all(&out).await.map_err(failed)?;
    file.sync_all().await.map_err(failed)?;
    Ok(Summary { revision, keys })
}

fn encode(kv: &KeyValue, out: &mut Vec<u8>) {
    out.push(ENTRY);
    // A store holds nothing near these limits.
    out.extend(u32::try_from(kv.key.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(u32::try_from(kv.value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(kv.lease.map_or(0, |lease| lease.0).to_le_bytes());
    out.extend(&kv.key[..]);
    out.extend(&kv.value[..]);
}

/// A backup that was read through and found whole.
#[derive(Debug, Clone)]
pub struct Backup {
    path: PathBuf,
    revision: Revision,
    keys: u64,
    left_out: Option<Bytes>,
}

impl Backup {
    /// Reads the whole file and verifies it. Nothing is restored from one that is not intact.
    ///
    /// # Errors
    /// `Backup` when it is torn, damaged or no backup; `Io`.
    pub fn open(path: &Path) -> StoreResult<Self> {
        Self::open_leaving_out(path, None)
    }

    /// As [`Self::open`], of a backup whose keys that begin with `prefix` are not restored: they were true only when it was made.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_leaving_out(path: &Path, prefix: Option<Bytes>) -> StoreResult<Self> {
        let mut reader = Reader::open(path)?;
        let (mut all, mut keys) = (0, 0);
        while let Some(entry) = reader.entry()? {
            all += 1;
            keys += u64::from(!is_left_out(&entry, prefix.as_ref()));
        }
        reader.verify_end(all)?;
        Ok(Self { path: path.to_owned(), revision: reader.revision, keys, left_out: prefix })
    }

    /// The store's revision when it was made.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How many keys it holds, beside those that are left out.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Its entries in key order, in batches of at most so many and so many bytes.
    pub fn batches(&self, entries: usize, bytes: usize) -> Batches {
        Batches {
            reader: Reader::open(&self.path),
            limit: (entries, bytes),
            left_out: self.left_out.clone(),
            left_over: None,
            done: false,
        }
    }
}

fn is_left_out(entry: &Entry, prefix: Option<&Bytes>) -> bool {
    prefix.is_some_and(|prefix| entry.key.starts_with(prefix))
}

/// The batches of a backup.
pub struct Batches {
    reader: StoreResult<Reader>,
    limit: (usize, usize),
    left_out: Option<Bytes>,
    left_over: Option<Entry>,
    done: bool,
}

impl Batches {
    fn fill(&mut self) -> StoreResult<Batch> {
        let reader = self.reader.as_mut().map_err(|error| error.clone())?;
        let mut batch = Batch { entries: self.left_over.take().into_iter().collect() };
        let size = |entry: &Entry| entry.key.len() + entry.value.len();
        let mut bytes: usize = batch.entries.iter().map(size).sum();
        while let Some(entry) = reader.entry()? {
            if is_left_out(&entry, self.left_out.as_ref()) {
                continue;
            }
            bytes += size(&entry);
            if !batch.entries.is_empty() && (batch.entries.len() >= self.limit.0 || bytes > self.limit.1) {
                self.left_over = Some(entry);
                return Ok(batch);
            }
            batch.entries.push(entry);
        }
        self.done = true;
        Ok(batch)
    }
}

impl Iterator for Batches {
    type Item = StoreResult<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batch = self.fill();
        self.done |= batch.is_err();
        Some(batch).filter(|batch| batch.as_ref().map_or(true, |batch| !batch.entries.is_empty()))
    }
}

struct Reader {
    file: BufReader<File>,
    digest: Sha256,
    revision: Revision,
}

impl Reader {
    fn open(path: &Path) -> StoreResult<Self> {
        let file = File::open(path).map_err(|error| io("open the backup", &error))?;
        let mut reader = Self { file: BufReader::new(file), digest: Sha256::new(), revision: Revision::ZERO };
        if reader.bytes(MAGIC.len())? != MAGIC {
            return Err(damaged("it is no backup that this program can read"));
        }
        reader.revision = Revision(reader.number()?);
        Ok(reader)
    }

    fn bytes(&mut self, count: usize) -> StoreResult<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.file.read_exact(&mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
            _ => io("read the backup", &error),
        })?;
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> StoreResult<i64> {
        let bytes = self.bytes(size_of::<i64>())?;
        Ok(bytes.try_into().map_or(0, i64::from_le_bytes))
    }

    fn length(&mut self) -> StoreResult<usize> {
        let bytes = self.bytes(size_of::<u32>())?;
        match bytes.try_into().map_or(u32::MAX, u32::from_le_bytes) {
            length if length <= LONGEST => Ok(length as usize),
            _ => Err(damaged("a length in it is out of bounds")),
        }
    }

    fn entry(&mut self) -> StoreResult<Option<Entry>> {
        match self.bytes(1)?[..] {
            [END] => return Ok(None),
            [ENTRY] => {}
            _ => return Err(damaged("something in it is neither an entry nor its end")),
        }
        let (key, value) = (self.length()?, self.length()?);
        let lease = self.number()?;
        let (key, value) = (self.bytes(key)?.into(), self.bytes(value)?.into());
        Ok(Some(Entry { key, value, lease: (lease != 0).then_some(LeaseId(lease)) }))
    }

    fn verify_end(&mut self, keys: u64) -> StoreResult<()> {
        if self.number()?.cast_unsigned() != keys {
            return Err(damaged("its number of entries is not what it says"));
        }
        let expected = self.digest.clone().finalize();
        if self.bytes(DIGEST_BYTES)? != expected[..] {
            return Err(damaged("its checksum does not match"));
        }
        Ok(())
    }
}

fn damaged(detail: &'static str) -> StoreError {
    StoreError::Backup { detail }
}
