//! Reading the change log from a revision on, in pages of whole revisions, for watchers that are behind the ring.

use super::connection::read as read_error;
use super::schema::{self, Change, Seq};
use super::watcher::Filter;
use crate::{Event, Revision, StoreError, StoreResult};
use bytes::Bytes;
use rusqlite::{Connection, Row};

/// A page ends at the first revision that fills one of these.
const PAGE_EVENTS: usize = 512;
const PAGE_BYTES: usize = 1 << 20;
const PAGE_SCANNED: usize = 20_000;

const SCAN: &str = "SELECT seq, sum, previous, created, version, lease, key, value FROM change
    WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
const KEY_COLUMN: usize = 6;

/// What a scan of the log found.
pub(super) struct Page {
    pub(super) events: Vec<Event>,
    /// Everything up to here was looked at.
    pub(super) through: Revision,
}

/// The next events that the filter selects, from one revision through another.
pub(super) fn page(
    connection: &Connection,
    from: Revision,
    through: Revision,
    filter: &Filter,
) -> StoreResult<Page> {
    let meta = schema::meta(connection).map_err(|error| read_error(&error, "read history"))?;
    if from < meta.compacted {
        return Err(StoreError::Compacted { compact_revision: meta.compacted });
    }
    let mut scan = Scan { connection, filter, events: Vec::new(), bytes: 0 };
    let mut statement =
        connection.prepare_cached(SCAN).map_err(|error| read_error(&error, "read history"))?;
    let bounds = [Seq::first(from).0, Seq::first(through.next()).0];
    let mut rows = statement.query(bounds).map_err(|error| read_error(&error, "read history"))?;
    let mut scanned = 0;
    let mut last = from;
    while let Some(row) = rows.next().map_err(|error| read_error(&error, "read history"))? {
        let revision = row.get(0).map(|seq| Seq(seq).revision());
        let revision = revision.map_err(|error| read_error(&error, "read history"))?;
        if revision > last && scan.is_full(scanned) {
            return Ok(Page { events: scan.events, through: last });
        }
        last = revision;
        scanned += 1;
        scan.look_at(row)?;
    }
    Ok(Page { events: scan.events, through })
}

struct Scan<'a> {
    connection: &'a Connection,
    filter: &'a Filter,
    events: Vec<Event>,
    bytes: usize,
}

impl Scan<'_> {
    fn is_full(&self, scanned: usize) -> bool {
        self.events.len() >= PAGE_EVENTS || self.bytes >= PAGE_BYTES || scanned >= PAGE_SCANNED
    }

    /// Adds the row's event if it is wanted; the values of others are not read.
    fn look_at(&mut self, row: &Row<'_>) -> StoreResult<()> {
        let failed = |error| read_error(&error, "read history");
        let key = row.get_ref(KEY_COLUMN).map_err(failed)?.as_blob().map_err(|error| failed(error.into()))?;
        if !self.filter.range.contains(key) {
            return Ok(());
        }
        let change = schema::intact(Change::read(row).map_err(failed)?)?;
        let event = self.event(change)?;
        self.bytes += event.footprint();
        self.events.push(event);
        Ok(())
    }

    fn event(&self, change: Change) -> StoreResult<Event> {
        let previous = match change.previous {
            Some(seq) if self.filter.previous => schema::change(self.connection, seq)?.into_key_value(),
            _ => None,
        };
        let (key, revision): (Bytes, _) = (change.key.clone(), change.seq.revision());
        Ok(match change.into_key_value() {
            Some(kv) => Event::Put { kv, previous },
            None => Event::Delete { key, revision, previous },
        })
    }
}
