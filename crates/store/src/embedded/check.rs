//! Verifies an open store in one snapshot: SQLite's own structures, every checksum, and that the indexes and the log say the same.

use super::connection::read as read_error;
use super::schema::{self, Change, Meta, Seq};
use crate::StoreResult;
use rusqlite::Connection;

/// How many problems a report lists at most.
const MAX_PROBLEMS: usize = 100;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Keys that are present.
    pub keys: u64,
    /// Changes in the log, tombstones included.
    pub changes: u64,
    /// What is wrong; empty when all is well. At most a hundred.
    pub problems: Vec<String>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Each finds the rows that break an invariant, as text. `:compacted` is the first place of the compacted revision.
const INVARIANTS: &[(&str, &str)] = &[
    (
        "a live key without its change",
        "SELECT hex(live.key) || ' at ' || live.seq FROM live LEFT JOIN change c ON c.seq = live.seq
         WHERE c.seq IS NULL OR c.key <> live.key OR c.value IS NULL",
    ),
    (
        "a past entry without its change",
        "SELECT hex(past.key) || ' at ' || past.seq FROM past LEFT JOIN change c ON c.seq = past.seq
         WHERE c.seq IS NULL OR c.key <> past.key OR (c.value IS NULL) <> past.gone",
    ),
    (
        "a change that no index names",
        "SELECT c.seq FROM change c WHERE NOT EXISTS (SELECT 1 FROM live WHERE live.key = c.key AND live.seq = c.seq)
         AND NOT EXISTS (SELECT 1 FROM past WHERE past.key = c.key AND past.seq = c.seq)",
    ),
    (
        "a live key that is also past, or older than its past",
        "SELECT hex(live.key) FROM live JOIN past ON past.key = live.key WHERE past.seq >= live.seq",
    ),
    (
        "a change without what it replaced",
        "SELECT c.seq FROM change c LEFT JOIN change p ON p.seq = c.previous WHERE c.previous IS NOT NULL
         AND c.seq >= :compacted AND (p.seq IS NULL OR p.key <> c.key OR p.value IS NULL OR p.seq >= c.seq)",
    ),
    (
        "a version that does not follow",
        "SELECT c.seq FROM change c JOIN change p ON p.seq = c.previous WHERE c.value IS NOT NULL
         AND (c.version <> p.version + 1 OR c.created <> p.created)",
    ),
    (
        "an attached key without its lease",
        "SELECT hex(a.key) || ' to ' || a.lease FROM attached a LEFT JOIN live ON live.key = a.key
         LEFT JOIN change c ON c.seq = live.seq LEFT JOIN lease l ON l.id = a.lease
         WHERE c.lease IS NOT a.lease OR l.id IS NULL",
    ),
    (
        "a key that its lease does not know",
        "SELECT hex(live.key) FROM live JOIN change c ON c.seq = live.seq WHERE c.lease IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM attached a WHERE a.lease = c.lease AND a.key = live.key)",
    ),
    (
        "a superseded change behind the border of clean-up",
        "SELECT c.previous FROM change c JOIN change p ON p.seq = c.previous WHERE c.seq <= :cleaned",
    ),
];

/// Runs every check in the snapshot that the connection is in.
pub(super) fn check(connection: &Connection) -> StoreResult<CheckReport> {
    run(connection).map_err(|error| read_error(&error, "check"))
}

fn run(connection: &Connection) -> rusqlite::Result<CheckReport> {
    let mut report = CheckReport::default();
    let meta = schema::meta(connection)?;
    integrity(connection, &mut report)?;
    checksums(connection, &mut report)?;
    borders(&meta, &mut report);
    for (what, query) in INVARIANTS {
        invariant(connection, &meta, what, query, &mut report)?;
    }
    report.keys = count(connection, "SELECT count(*) FROM live")?;
    report.changes = count(connection, "SELECT count(*) FROM change")?;
    report.problems.truncate(MAX_PROBLEMS);
    Ok(report)
}

fn integrity(connection: &Connection, report: &mut CheckReport) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let found: rusqlite::Result<Vec<String>> = statement.query_map([], |row| row.get(0))?.collect();
    report.problems.extend(found?.into_iter().filter(|line| line != "ok"));
    Ok(())
}

fn checksums(connection: &Connection, report: &mut CheckReport) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare("SELECT seq, sum, previous, created, version, lease, key, value FROM change ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let (Change { seq, .. }, false) = Change::read(row)? {
            report.problems.push(format!("a checksum that does not match: {}", seq.0));
        }
    }
    Ok(())
}

fn borders(meta: &Meta, report: &mut CheckReport) {
    if meta.compacted > meta.revision || meta.cleaned.revision() > meta.compacted {
        report.problems.push(format!("borders out of order: {meta:?}"));
    }
}

fn invariant(
    connection: &Connection,
    meta: &Meta,
    what: &str,
    query: &str,
    report: &mut CheckReport,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("SELECT CAST(wrong AS TEXT) FROM (SELECT NULL AS wrong WHERE 0 UNION ALL {query}) LIMIT {MAX_PROBLEMS}"))?;
    for (name, value) in [(":compacted", Seq::first(meta.compacted).0), (":cleaned", meta.cleaned.0)] {
        if let Some(index) = statement.parameter_index(name)? {
            statement.raw_bind_parameter(index, value)?;
        }
    }
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        report.problems.push(format!("{what}: {}", row.get::<_, String>(0)?));
    }
    Ok(())
}

fn count(connection: &Connection, query: &str) -> rusqlite::Result<u64> {
    connection.query_row(query, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}
