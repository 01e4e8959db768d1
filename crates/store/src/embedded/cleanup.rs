//! Taking back the space of compacted history, a small slice at a time.
//!
//! Each change before the compacted revision is visited once, in order: what it superseded goes, and if it is a tombstone it
//! goes itself. So the newest change at or before the compacted revision of every key stays, as does every change
//! from that revision on with what it replaced.

use super::schema::Seq;
use crate::Revision;
use rusqlite::{Connection, params};

/// Free pages that are kept for the next writes instead of being given back.
const SPARE_PAGES: i64 = 1024;
/// How many pages one slice gives back.
const VACUUM_PAGES: u32 = 128;

struct Visited {
    seq: Seq,
    previous: Option<Seq>,
    /// The key, if there is something to delete in `past`.
    key: Option<Vec<u8>>,
    gone: bool,
}

/// Visits up to `limit` changes after `cleaned` and returns how far it came, and whether that was all.
pub(super) fn slice(
    connection: &Connection,
    cleaned: Seq,
    compacted: Revision,
    limit: usize,
) -> rusqlite::Result<(Seq, bool)> {
    let bound = Seq::first(compacted);
    let visited = visit(connection, cleaned, bound, limit)?;
    let done = visited.len() < limit;
    let through = if done { Seq(bound.0 - 1) } else { visited.last().map_or(cleaned, |last| last.seq) };
    for change in visited {
        let Some(key) = &change.key else { continue };
        if let Some(previous) = change.previous {
            forget(connection, key, previous)?;
        }
        if change.gone {
            forget(connection, key, change.seq)?;
        }
    }
    connection.prepare_cached("UPDATE meta SET cleaned = ?1")?.execute([through.0])?;
    Ok((through, done))
}

fn visit(connection: &Connection, cleaned: Seq, bound: Seq, limit: usize) -> rusqlite::Result<Vec<Visited>> {
    const NEXT: &str = "SELECT seq, previous, value IS NULL, key FROM change WHERE seq > ?1 AND seq < ?2
        ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(NEXT)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![cleaned.0, bound.0, limit], |row| {
        let previous = row.get::<_, Option<i64>>(1)?.map(Seq);
        let gone = row.get(2)?;
        let key = if gone || previous.is_some() { Some(row.get(3)?) } else { None };
        Ok(Visited { seq: Seq(row.get(0)?), previous, key, gone })
    })?;
    rows.collect()
}

fn forget(connection: &Connection, key: &[u8], seq: Seq) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM past WHERE key = ?1 AND seq = ?2")?
        .execute(params![key, seq.0])?;
    connection.prepare_cached("DELETE FROM change WHERE seq = ?1")?.execute([seq.0])?;
    Ok(())
}

/// Gives free pages at the end of the file back to the system when they are many, and returns whether some still are.
pub(super) fn give_back(connection: &Connection) -> rusqlite::Result<bool> {
    if !has_spare(connection)? {
        return Ok(false);
    }
    // It frees a page with each step.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    let mut steps = statement.query([])?;
    while steps.next()?.is_some() {}
    has_spare(connection)
}

/// Whether more pages are free than a quarter of the file and than what is worth keeping.
pub(super) fn has_spare(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let free = number("freelist_count")?;
    Ok(free > SPARE_PAGES && free > number("page_count")? / 4)
}
