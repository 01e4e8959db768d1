//! A new database from a backup, made beside the old one and put into its place when it is whole and synced.

use super::apply::Applier;
use super::checkpoint;
use super::connection::{self, SMALLEST_CACHE_KIB, read as read_error};
use super::directory::Directory;
use super::lease;
use super::{Options, schema};
use crate::backup::{Backup, Batch, LEASE_MS, REVISION_MARGIN, Summary};
use crate::{LeaseId, MAX_KEY_BYTES, Op, Revision, StoreError, StoreResult};
use rusqlite::Connection;
use std::collections::HashSet;
use std::path::Path;

const BATCH_ENTRIES: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// Replaces the store in `path`, which nobody may have open.
pub(super) fn restore(path: &Path, options: &Options, backup: &Backup) -> StoreResult<Summary> {
    recover(path)?;
    let held = Directory::lock(path)?;
    let above = known_revision(&held, options).max(backup.revision()).0 + REVISION_MARGIN;
    let fresh = path.with_added_extension("restoring");
    remove(&fresh)?;
    let revision = fill(&fresh, options, backup, Revision(above))?;
    // Until here the old store is untouched. A crash between the two renames leaves it aside, see `recover`.
    let replaced = path.with_added_extension("replaced");
    remove(&replaced)?;
    rename(path, &replaced)?;
    rename(&fresh, path)?;
    sync_parent(path)?;
    drop(held);
    remove(&replaced)?;
    Ok(Summary { revision, keys: backup.keys() })
}

/// Takes back what a crash in the middle of a restore left aside, so that nobody begins with an empty store.
pub(super) fn recover(path: &Path) -> StoreResult<()> {
    let replaced = path.with_added_extension("replaced");
    if !path.exists() && replaced.exists() {
        rename(&replaced, path)?;
        sync_parent(path)?;
    }
    Ok(())
}

/// The newest revision of what is replaced; nothing when there is none or it cannot be read, which may be why there is a restore.
fn known_revision(directory: &Directory, options: &Options) -> Revision {
    if !directory.database().exists() {
        return Revision::ZERO;
    }
    let read = connection::reading(directory, options)
        .and_then(|connection| schema::meta(&connection).map_err(|error| read_error(&error, "read")));
    match read {
        Ok(meta) => meta.revision,
        Err(error) => {
            tracing::warn!(%error, "the revision of the store that is replaced cannot be read");
            Revision::ZERO
        }
    }
}

fn fill(path: &Path, options: &Options, backup: &Backup, above: Revision) -> StoreResult<Revision> {
    let directory = Directory::lock(path)?;
    let mut connection = connection::writing(&directory, options, options.writer_cache_kib)?;
    schema::prepare(&mut connection, &directory)?;
    let mut leases = HashSet::new();
    let mut revision = above;
    for batch in backup.batches(BATCH_ENTRIES, BATCH_BYTES) {
        revision = write(&connection, batch?, revision, &mut leases)?;
    }
    if revision == above {
        return Err(StoreError::Corrupt { detail: "the backup holds nothing to restore".to_owned() });
    }
    let failed = |error| read_error(&error, "restore");
    // Nobody can go on from before.
    connection.execute("UPDATE meta SET compacted = ?1", [revision.0]).map_err(failed)?;
    checkpoint::checkpoint(&connection, "TRUNCATE").map_err(failed)?;
    let copier = connection::writing(&directory, options, SMALLEST_CACHE_KIB)?;
    drop((connection, copier));
    directory.sync()?;
    Ok(revision)
}

fn write(
    connection: &Connection,
    batch: Batch,
    newest: Revision,
    leases: &mut HashSet<LeaseId>,
) -> StoreResult<Revision> {
    let failed = |error| read_error(&error, "restore");
    let transaction = connection.unchecked_transaction().map_err(failed)?;
    for id in batch.entries.iter().filter_map(|entry| entry.lease) {
        if leases.insert(id) {
            lease::grant(&transaction, id, LEASE_MS).map_err(failed)?;
        }
    }
    let put =
        |entry: crate::backup::Entry| Op::Put { key: entry.key, value: entry.value, lease: entry.lease };
    let ops: Vec<Op> = batch.entries.into_iter().map(put).collect();
    if let Some(long) = ops.iter().map(|op| op.key().len()).find(|length| *length > MAX_KEY_BYTES) {
        return Err(StoreError::TooLarge { size: long, limit: MAX_KEY_BYTES });
    }
    let mut applier = Applier::new(&transaction, newest);
    applier.run(&ops)?;
    let revision = applier.finish().last().map_or(newest, |published| published.revision);
    transaction.commit().map_err(failed)?;
    Ok(revision)
}

fn rename(from: &Path, to: &Path) -> StoreResult<()> {
    std::fs::rename(from, to).map_err(|error| io(&error))
}

fn remove(path: &Path) -> StoreResult<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&error)),
        _ => Ok(()),
    }
}

fn sync_parent(path: &Path) -> StoreResult<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| io(&error))
}

fn io(error: &std::io::Error) -> StoreError {
    StoreError::Io { operation: "put the restored store into its place", detail: error.to_string() }
}
