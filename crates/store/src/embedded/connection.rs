//! Opening SQLite the way we want it, and reading its errors. Knows no table.

use super::Options;
use super::directory::Directory;
use crate::{StoreError, StoreResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::time::Duration;

/// How long a connection waits for another of ours, at start-up and at a log reset only.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What stays of the write-ahead log's file when it is started over.
const LOG_KEEP_BYTES: i64 = 16 << 20;
/// For a connection that needs no cache.
pub(super) const SMALLEST_CACHE_KIB: u32 = 64;
/// Statements that stay prepared for each connection.
const PREPARED_STATEMENTS: usize = 48;

/// A connection that may write.
pub(super) fn writing(directory: &Directory, options: &Options, cache_kib: u32) -> StoreResult<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(directory, options, flags, cache_kib)
}

/// A connection that only reads.
pub(super) fn reading(directory: &Directory, options: &Options) -> StoreResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(directory, options, flags, options.reader_cache_kib)?;
    connection.pragma_update(None, "query_only", true).map_err(|error| read(&error, "prepare a reader"))?;
    Ok(connection)
}

fn open(
    directory: &Directory,
    options: &Options,
    flags: OpenFlags,
    cache_kib: u32,
) -> StoreResult<Connection> {
    let path = directory.database();
    let opened = match &options.vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs.as_str()),
        None => Connection::open_with_flags(path, flags),
    };
    let connection = opened.map_err(|error| read(&error, "open the store's database"))?;
    configure(&connection, cache_kib).map_err(|error| read(&error, "open the store's database"))?;
    Ok(connection)
}

fn configure(connection: &Connection, cache_kib: u32) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    connection.pragma_update(None, "cache_size", -i64::from(cache_kib))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "foreign_keys", false)?;
    // The writer alone decides about checkpoints: after a failed sync none may happen.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", LOG_KEEP_BYTES)?;
    connection.pragma_update(None, "trusted_schema", false)
}

/// Translates what SQLite says.
pub(super) fn read(error: &rusqlite::Error, operation: &'static str) -> StoreError {
    let detail = error.to_string();
    let Some(code) = error.sqlite_error() else { return StoreError::Corrupt { detail } };
    match code.code {
        ErrorCode::DiskFull => StoreError::NoSpace { operation },
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation => {
            StoreError::Corrupt { detail }
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OutOfMemory => {
            StoreError::Unavailable { reason: format!("{operation}: {detail}") }
        }
        _ => StoreError::Io { operation, detail },
    }
}

/// Whether a sync failed: what was written since the last one may be lost although the system forgot about it,
/// so that nothing may be built on it.
pub(super) fn sync_failed(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        matches!(error.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
    })
}
