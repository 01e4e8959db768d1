//! The tables, and the small reads that everybody shares.
//!
//! `change` is the log of everything that happened, in order, with the values. `live` leads from each present key to
//! its newest change; `past` leads from a key to its older changes and its tombstones. So the newest state never
//! scans history, a read in the past seeks in `past`, a watch scans `change`, and clean-up deletes what a change superseded.

use super::connection::read as read_error;
use super::directory::Directory;
use super::sum::Sum;
use crate::{KeyValue, LeaseId, Revision, StoreError, StoreResult};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};

/// What `user_version` says.
const FORMAT: i64 = 1;
/// The lower bits of a sequence number count the changes of one revision.
const SEQ_BITS: u32 = 16;

const TABLES: &str = "
CREATE TABLE meta(id INTEGER PRIMARY KEY CHECK (id = 1), compacted INTEGER NOT NULL, cleaned INTEGER NOT NULL);
INSERT INTO meta VALUES (1, 0, 0);
CREATE TABLE change(seq INTEGER PRIMARY KEY, sum INTEGER NOT NULL, previous INTEGER, created INTEGER NOT NULL,
    version INTEGER NOT NULL, lease INTEGER, key BLOB NOT NULL, value BLOB);
CREATE TABLE live(key BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE past(key BLOB NOT NULL, seq INTEGER NOT NULL, gone INTEGER NOT NULL, PRIMARY KEY (key, seq)) WITHOUT ROWID;
CREATE TABLE lease(id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL);
CREATE TABLE attached(lease INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (lease, key)) WITHOUT ROWID;
";

/// The place of a change in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seq(pub(super) i64);

impl Seq {
    /// The first place of a revision.
    pub(super) fn first(revision: Revision) -> Self {
        Self(revision.0 << SEQ_BITS)
    }

    /// A place inside a revision; `index` is below `MAX_TXN_OPS`.
    pub(super) fn of(revision: Revision, index: usize) -> Self {
        Self(Self::first(revision).0 | index as i64)
    }

    pub(super) fn revision(self) -> Revision {
        Revision(self.0 >> SEQ_BITS)
    }
}

/// A row of `change`.
pub(super) struct Change {
    pub(super) seq: Seq,
    pub(super) previous: Option<Seq>,
    pub(super) created: Revision,
    pub(super) version: i64,
    pub(super) lease: Option<LeaseId>,
    pub(super) key: Bytes,
    /// `None` is a tombstone.
    pub(super) value: Option<Bytes>,
}

impl Change {
    /// The columns that [`Self::read`] expects.
    pub(super) const SELECT: &str =
        "SELECT seq, sum, previous, created, version, lease, key, value FROM change WHERE seq = ?1";

    /// Reads a row of those columns and verifies its checksum.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<(Self, bool)> {
        let change = Self {
            seq: Seq(row.get(0)?),
            previous: row.get::<_, Option<i64>>(2)?.map(Seq),
            created: Revision(row.get(3)?),
            version: row.get(4)?,
            lease: row.get::<_, Option<i64>>(5)?.map(LeaseId),
            key: blob(row, 6)?.unwrap_or_default(),
            value: blob(row, 7)?,
        };
        let intact = change.sum() == row.get::<_, i64>(1)?;
        Ok((change, intact))
    }

    pub(super) fn sum(&self) -> i64 {
        sum(self.seq, self.created, self.version, self.lease, &self.key, self.value.as_deref())
    }

    /// The key value that this change wrote; `None` for a tombstone.
    pub(super) fn into_key_value(self) -> Option<KeyValue> {
        Some(KeyValue {
            key: self.key,
            value: self.value?,
            create_revision: self.created,
            mod_revision: self.seq.revision(),
            version: self.version,
            lease: self.lease,
        })
    }
}

/// The checksum of a row of `change`.
pub(super) fn sum(
    seq: Seq,
    created: Revision,
    version: i64,
    lease: Option<LeaseId>,
    key: &[u8],
    value: Option<&[u8]>,
) -> i64 {
    let mut sum = Sum::new();
    for number in [seq.0, created.0, version, lease.map_or(0, |lease| lease.0), i64::from(value.is_some())] {
        sum.number(number);
    }
    sum.bytes(key);
    sum.bytes(value.unwrap_or_default());
    sum.finish()
}

/// A blob column, copied once.
pub(super) fn blob(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Bytes>> {
    Ok(row.get_ref(index)?.as_blob_or_null()?.map(Bytes::copy_from_slice))
}

/// The change at a place that an index names.
pub(super) fn change(connection: &Connection, seq: Seq) -> StoreResult<Change> {
    let mut statement =
        connection.prepare_cached(Change::SELECT).map_err(|error| read_error(&error, "read"))?;
    let found = statement.query_row([seq.0], Change::read).optional();
    match found.map_err(|error| read_error(&error, "read"))? {
        Some(read) => intact(read),
        None => Err(damaged(seq, "an index names it and it is not there")),
    }
}

/// What [`Change::read`] found, if its checksum matches.
pub(super) fn intact((change, intact): (Change, bool)) -> StoreResult<Change> {
    if intact { Ok(change) } else { Err(damaged(change.seq, "its checksum does not match")) }
}

fn damaged(seq: Seq, what: &str) -> StoreError {
    StoreError::Corrupt {
        detail: format!("change {}.{}: {what}", seq.revision(), seq.0 & ((1 << SEQ_BITS) - 1)),
    }
}

/// What the files say about the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// The newest revision.
    pub(super) revision: Revision,
    /// The oldest one that can be read.
    pub(super) compacted: Revision,
    /// Changes up to here were cleaned up after.
    pub(super) cleaned: Seq,
}

/// Reads it in the snapshot that the connection is in.
pub(super) fn meta(connection: &Connection) -> rusqlite::Result<Meta> {
    let newest: Option<i64> =
        connection.prepare_cached("SELECT max(seq) FROM change")?.query_row([], |row| row.get(0))?;
    let mut statement = connection.prepare_cached("SELECT compacted, cleaned FROM meta")?;
    statement.query_row([], |row| {
        Ok(Meta {
            revision: newest.map_or(Revision(1), |seq| Seq(seq).revision()),
            compacted: Revision(row.get(0)?),
            cleaned: Seq(row.get(1)?),
        })
    })
}

/// Makes the tables in a new file, and refuses a file that is not ours, or that has lost what was in it.
pub(super) fn prepare(connection: &mut Connection, directory: &Directory) -> StoreResult<()> {
    let failed = |error: rusqlite::Error| read_error(&error, "open the store's database");
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let was_made = directory.was_made()?;
    if found == 0 && was_made {
        return Err(StoreError::Corrupt {
            detail: "the database is empty or gone, and there was one".to_owned(),
        });
    }
    if found == 0 {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    } else if found != FORMAT {
        return Err(StoreError::Format { found, supported: FORMAT });
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    if found == 0 {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(TABLES).map_err(failed)?;
        transaction.pragma_update(None, "user_version", FORMAT).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    directory.sync()?;
    if was_made { Ok(()) } else { directory.mark_made() }
}

/// The bytes of the database, with what is still in the write-ahead log.
pub(super) fn size_bytes(connection: &Connection) -> StoreResult<u64> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let size = number("page_count").and_then(|count| Ok(count * number("page_size")?));
    Ok(size.map_err(|error| read_error(&error, "read"))?.cast_unsigned())
}
