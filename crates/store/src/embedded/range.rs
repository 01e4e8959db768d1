//! Reading one key or a range, now or in the past, each by an index.

use super::connection::read as read_error;
use super::schema::{self, Change, Meta, Seq};
use crate::{
    KeyRange, KeyValue, LeaseId, MAX_KEY_BYTES, RangeRequest, RangeResponse, Revision, StoreError,
    StoreResult,
};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

/// The bound of a range without end: above every key, so that one statement serves every range from the index.
const NO_END: [u8; MAX_KEY_BYTES + 1] = [0xff; MAX_KEY_BYTES + 1];

/// Answers a request in the snapshot that the connection is in.
pub(super) fn read(connection: &Connection, request: RangeRequest) -> StoreResult<RangeResponse> {
    let meta = schema::meta(connection).map_err(|error| read_error(&error, "read"))?;
    let at = request.at.unwrap_or(meta.revision);
    if at > meta.revision {
        return Err(StoreError::FutureRevision { requested: at, current: meta.revision });
    }
    if at < meta.compacted {
        return Err(StoreError::Compacted { compact_revision: meta.compacted });
    }
    let want = Want {
        limit: request.limit,
        keys_only: request.keys_only,
        count_only: request.count_only,
        uncounted: request.uncounted && request.limit > 0 && !request.count_only,
    };
    let (kvs, count) = match KeyRange::new(request.start, request.end) {
        KeyRange::Single(key) => single(connection, &meta, key, at, &want)?,
        KeyRange::Between(start, end) => between(connection, &meta, &start, &end, at, &want)?,
        KeyRange::From(start) => between(connection, &meta, &start, &NO_END, at, &want)?,
    };
    let more = !want.count_only && (kvs.len() as u64) < count;
    Ok(RangeResponse { kvs, count, more, revision: meta.revision })
}

struct Want {
    limit: usize,
    keys_only: bool,
    count_only: bool,
    uncounted: bool,
}

impl Want {
    fn is_enough(&self, found: usize) -> bool {
        self.count_only || (self.limit > 0 && found >= self.limit)
    }

    /// A key value with what was asked for.
    fn fetch(&self, connection: &Connection, seq: Seq) -> StoreResult<KeyValue> {
        if self.keys_only {
            return without_value(connection, seq).map_err(|error| read_error(&error, "read"));
        }
        let found = schema::change(connection, seq)?.into_key_value();
        found.ok_or_else(|| StoreError::Corrupt {
            detail: format!("{seq:?} is a tombstone in the index of live keys"),
        })
    }
}

fn without_value(connection: &Connection, seq: Seq) -> rusqlite::Result<KeyValue> {
    let mut statement =
        connection.prepare_cached("SELECT created, version, lease, key FROM change WHERE seq = ?1")?;
    statement.query_row([seq.0], |row| {
        Ok(KeyValue {
            create_revision: Revision(row.get(0)?),
            version: row.get(1)?,
            lease: row.get::<_, Option<i64>>(2)?.map(LeaseId),
            key: schema::blob(row, 3)?.unwrap_or_default(),
            value: Bytes::new(),
            mod_revision: seq.revision(),
        })
    })
}

type Found = (Vec<KeyValue>, u64);

fn single(connection: &Connection, meta: &Meta, key: Bytes, at: Revision, want: &Want) -> StoreResult<Found> {
    let bound = Seq::first(at.next());
    let seq =
        place(connection, &key, bound, at < meta.revision).map_err(|error| read_error(&error, "read"))?;
    let Some(seq) = seq else { return Ok((Vec::new(), 0)) };
    let kvs = if want.count_only { Vec::new() } else { vec![want.fetch(connection, seq)?] };
    Ok((kvs, 1))
}

/// Where the key's newest change before `bound` is, if it is not a tombstone.
fn place(connection: &Connection, key: &[u8], bound: Seq, look_back: bool) -> rusqlite::Result<Option<Seq>> {
    match live(connection, key)? {
        Some(seq) if seq < bound => Ok(Some(seq)),
        _ if look_back => newest_past(connection, key, bound),
        _ => Ok(None),
    }
}

/// The newest change of a present key.
pub(super) fn live(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Seq>> {
    let mut statement = connection.prepare_cached("SELECT seq FROM live WHERE key = ?1")?;
    statement.query_row([key], |row| row.get(0).map(Seq)).optional()
}

fn newest_past(connection: &Connection, key: &[u8], bound: Seq) -> rusqlite::Result<Option<Seq>> {
    let mut statement = connection
        .prepare_cached("SELECT seq, gone FROM past WHERE key = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT 1")?;
    let found =
        statement.query_row(params![key, bound.0], |row| Ok((Seq(row.get(0)?), row.get::<_, bool>(1)?)));
    Ok(found.optional()?.and_then(|(seq, gone)| (!gone).then_some(seq)))
}

fn between(
    connection: &Connection,
    meta: &Meta,
    start: &[u8],
    end: &[u8],
    at: Revision,
    want: &Want,
) -> StoreResult<Found> {
    if start >= end {
        return Ok((Vec::new(), 0));
    }
    if at < meta.revision {
        return between_past(connection, start, end, at, want);
    }
    let mut kvs = if want.count_only { Vec::new() } else { between_live(connection, start, end, want)? };
    if want.uncounted {
        let count = kvs.len() as u64;
        kvs.truncate(want.limit);
        return Ok((kvs, count));
    }
    let complete = !want.count_only && !want.is_enough(kvs.len());
    let count = if complete { kvs.len() as u64 } else { count_live(connection, start, end)? };
    Ok((kvs, count))
}

fn count_live(connection: &Connection, start: &[u8], end: &[u8]) -> StoreResult<u64> {
    let count = connection
        .prepare_cached("SELECT count(*) FROM live WHERE key >= ?1 AND key < ?2")
        .and_then(|mut statement| statement.query_row([start, end], |row| row.get::<_, i64>(0)));
    Ok(count.map_err(|error| read_error(&error, "count"))?.cast_unsigned())
}

fn between_live(
    connection: &Connection,
    start: &[u8],
    end: &[u8],
    want: &Want,
) -> StoreResult<Vec<KeyValue>> {
    const WHOLE: &str = "SELECT c.seq, c.sum, c.previous, c.created, c.version, c.lease, c.key, c.value
        FROM live CROSS JOIN change c ON c.seq = live.seq WHERE live.key >= :start AND live.key < :end
        ORDER BY live.key LIMIT :limit";
    const KEYS: &str = "SELECT c.seq, 0, c.previous, c.created, c.version, c.lease, c.key, x''
        FROM live CROSS JOIN change c ON c.seq = live.seq WHERE live.key >= :start AND live.key < :end
        ORDER BY live.key LIMIT :limit";
    let failed = |error| read_error(&error, "read a range");
    // One more says whether there are more.
    let limit = i64::try_from(want.limit + usize::from(want.uncounted)).unwrap_or(0);
    let limit = if limit == 0 { -1 } else { limit };
    let mut statement =
        connection.prepare_cached(if want.keys_only { KEYS } else { WHOLE }).map_err(failed)?;
    let bounds = named_params! { ":start": start, ":end": end, ":limit": limit };
    let mut rows = statement.query(bounds).map_err(failed)?;
    let mut kvs = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        kvs.push(live_row(row, want.keys_only)?);
    }
    Ok(kvs)
}

fn live_row(row: &Row<'_>, keys_only: bool) -> StoreResult<KeyValue> {
    let (change, intact) = Change::read(row).map_err(|error| read_error(&error, "read a range"))?;
    let change = schema::intact((change, intact || keys_only))?;
    let seq = change.seq;
    let found = change.into_key_value();
    found.ok_or_else(|| StoreError::Corrupt {
        detail: format!("{seq:?} is a tombstone in the index of live keys"),
    })
}

/// Merges the keys of `live` that have not changed since with those of `past`, seeking from key to key.
fn between_past(
    connection: &Connection,
    start: &[u8],
    end: &[u8],
    at: Revision,
    want: &Want,
) -> StoreResult<Found> {
    let failed = |error| read_error(&error, "read a range in the past");
    let bound = Seq::first(at.next());
    let mut statement = connection
        .prepare_cached("SELECT key, seq FROM live WHERE key >= ?1 AND key < ?2 ORDER BY key")
        .map_err(failed)?;
    let mut present = statement.query([start, end]).map_err(failed)?;
    let mut past = next_past(connection, start, end, true).map_err(failed)?;
    let mut live = next_live(&mut present).map_err(failed)?;
    let (mut kvs, mut count) = (Vec::new(), 0);
    while let Some(key) = smaller(live.as_ref().map(|(key, _)| key), past.as_ref()).cloned() {
        let is_live = live.as_ref().is_some_and(|(live, _)| *live == key);
        let newest = live.as_ref().filter(|(_, seq)| is_live && *seq < bound).map(|(_, seq)| *seq);
        let seq = match newest {
            None if past.as_ref() == Some(&key) => newest_past(connection, &key, bound).map_err(failed)?,
            newest => newest,
        };
        if past.as_ref() == Some(&key) {
            past = next_past(connection, &key, end, false).map_err(failed)?;
        }
        if is_live {
            live = next_live(&mut present).map_err(failed)?;
        }
        if let Some(seq) = seq {
            count += 1;
            if want.uncounted && want.is_enough(kvs.len()) {
                break;
            }
            if !want.is_enough(kvs.len()) {
                kvs.push(want.fetch(connection, seq)?);
            }
        }
    }
    Ok((kvs, count))
}

fn smaller<'a>(one: Option<&'a Bytes>, other: Option<&'a Bytes>) -> Option<&'a Bytes> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn next_live(rows: &mut rusqlite::Rows<'_>) -> rusqlite::Result<Option<(Bytes, Seq)>> {
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some((schema::blob(row, 0)?.unwrap_or_default(), Seq(row.get(1)?))))
}

/// The next key that has a past: at `from` itself or only after it.
fn next_past(
    connection: &Connection,
    from: &[u8],
    end: &[u8],
    inclusive: bool,
) -> rusqlite::Result<Option<Bytes>> {
    const AT: &str = "SELECT key FROM past WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1";
    const AFTER: &str = "SELECT key FROM past WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT 1";
    let mut statement = connection.prepare_cached(if inclusive { AT } else { AFTER })?;
    let found = statement.query_row([from, end], |row| schema::blob(row, 0)).optional()?;
    Ok(found.flatten())
}
