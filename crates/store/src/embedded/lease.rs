//! The leases that live, with their deadlines. The table on disk says which exist; when they end is kept here only, and
//! starts anew when the store is opened, as etcd does when its leader changes.

use super::apply::Applier;
use super::connection::read as read_error;
use crate::{Clock, LeaseId, MAX_TXN_OPS, Op, StoreError, StoreResult};
use bytes::Bytes;
use rusqlite::{Connection, params};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

pub(super) struct Leases {
    clock: Clock,
    granted: HashMap<LeaseId, Lease>,
    deadlines: BTreeSet<(Duration, LeaseId)>,
}

struct Lease {
    ttl: Duration,
    deadline: Duration,
}

impl Leases {
    /// Reads the table; every lease gets its whole time.
    pub(super) fn load(connection: &Connection, clock: Clock) -> rusqlite::Result<Self> {
        let mut leases = Self { clock, granted: HashMap::new(), deadlines: BTreeSet::new() };
        let mut statement = connection.prepare("SELECT id, ttl_ms FROM lease")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            leases.add(LeaseId(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned());
        }
        Ok(leases)
    }

    pub(super) fn contains(&self, id: LeaseId) -> bool {
        self.granted.contains_key(&id)
    }

    /// Starts its time.
    pub(super) fn add(&mut self, id: LeaseId, ttl_ms: u64) {
        let ttl = Duration::from_millis(ttl_ms);
        let deadline = self.clock.now().saturating_add(ttl);
        self.granted.insert(id, Lease { ttl, deadline });
        self.deadlines.insert((deadline, id));
    }

    /// Forgets it.
    pub(super) fn remove(&mut self, id: LeaseId) {
        if let Some(lease) = self.granted.remove(&id) {
            self.deadlines.remove(&(lease.deadline, id));
        }
    }

    /// Gives it its whole time again.
    pub(super) fn renew(&mut self, id: LeaseId) -> StoreResult<()> {
        let lease = self.granted.get_mut(&id).ok_or(StoreError::LeaseNotFound(id))?;
        self.deadlines.remove(&(lease.deadline, id));
        lease.deadline = self.clock.now().saturating_add(lease.ttl);
        self.deadlines.insert((lease.deadline, id));
        Ok(())
    }

    /// The one whose time ended first, if any has ended.
    pub(super) fn due(&self) -> Option<LeaseId> {
        let now = self.clock.now();
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }

    /// How long until the next one ends.
    pub(super) fn next_end(&self) -> Option<Duration> {
        let (deadline, _) = self.deadlines.first()?;
        Some(deadline.saturating_sub(self.clock.now()))
    }

    /// A name that no lease has. Negative ones do not occur, as in etcd.
    pub(super) fn fresh_id(&self) -> LeaseId {
        loop {
            let id = LeaseId((nauplius_base::id::random_u64() >> 1).cast_signed());
            if id.0 != 0 && !self.contains(id) {
                return id;
            }
        }
    }
}

/// Writes down that a lease exists.
pub(super) fn grant(connection: &Connection, id: LeaseId, ttl_ms: u64) -> rusqlite::Result<()> {
    let ttl_ms = i64::try_from(ttl_ms).unwrap_or(i64::MAX);
    connection
        .prepare_cached("INSERT INTO lease(id, ttl_ms) VALUES (?1, ?2)")?
        .execute(params![id.0, ttl_ms])?;
    Ok(())
}

/// Deletes its keys under one revision (under several when there are more than a revision can hold), and the lease.
pub(super) fn end(applier: &mut Applier<'_>, connection: &Connection, id: LeaseId) -> StoreResult<()> {
    let failed = |error| read_error(&error, "end a lease");
    let keys = attached(connection, id).map_err(failed)?;
    for keys in keys.chunks(MAX_TXN_OPS) {
        let ops: Vec<Op> = keys.iter().map(|key| Op::Delete { key: key.clone() }).collect();
        applier.run(&ops)?;
    }
    let mut statement = connection.prepare_cached("DELETE FROM lease WHERE id = ?1").map_err(failed)?;
    statement.execute([id.0]).map_err(failed)?;
    Ok(())
}

fn attached(connection: &Connection, id: LeaseId) -> rusqlite::Result<Vec<Bytes>> {
    let mut statement =
        connection.prepare_cached("SELECT key FROM attached WHERE lease = ?1 ORDER BY key")?;
    let keys = statement.query_map([id.0], |row| Ok(super::schema::blob(row, 0)?.unwrap_or_default()))?;
    keys.collect()
}
