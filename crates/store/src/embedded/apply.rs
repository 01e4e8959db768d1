//! One transaction of a caller inside the SQLite transaction that is open: compares, then changes under the next revision.

use super::connection::read as read_error;
use super::feed::Published;
use super::range::live;
use super::schema::{self, Seq};
use crate::{Compare, Event, KeyValue, LeaseId, Op, Revision, StoreError, StoreResult, Txn, TxnOutcome};
use bytes::Bytes;
use rusqlite::{Connection, params};

/// Applies transactions one after the other; nothing is durable before the caller commits.
pub(super) struct Applier<'a> {
    connection: &'a Connection,
    /// The newest revision, committed or not.
    revision: Revision,
    published: Vec<Published>,
}

impl<'a> Applier<'a> {
    pub(super) fn new(connection: &'a Connection, revision: Revision) -> Self {
        Self { connection, revision, published: Vec::new() }
    }

    /// What is to be published after the commit.
    pub(super) fn finish(self) -> Vec<Published> {
        self.published
    }

    /// The caller's answer is in the inner result; an outer error spoils the whole SQLite transaction.
    pub(super) fn txn(
        &mut self,
        txn: &Txn,
        is_lease: impl Fn(LeaseId) -> bool,
    ) -> StoreResult<StoreResult<TxnOutcome>> {
        if !self.holds(&txn.compare)? {
            let current: StoreResult<Vec<_>> = txn.compare.iter().map(|c| self.current(&c.key)).collect();
            return Ok(Ok(TxnOutcome::Conflict { revision: self.revision, current: current? }));
        }
        if let Some(lost) = txn.ops.iter().filter_map(lease_of).find(|lease| !is_lease(*lease)) {
            return Ok(Err(StoreError::LeaseNotFound(lost)));
        }
        Ok(Ok(self.run(&txn.ops)?))
    }

    fn holds(&self, compare: &[Compare]) -> StoreResult<bool> {
        for Compare { key, mod_revision } in compare {
            let found = live(self.connection, key).map_err(|error| read_error(&error, "compare"))?;
            if found.map_or(Revision::ZERO, Seq::revision) != *mod_revision {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn current(&self, key: &[u8]) -> StoreResult<Option<KeyValue>> {
        self.fetch(live(self.connection, key).map_err(|error| read_error(&error, "read"))?)
    }

    fn fetch(&self, place: Option<Seq>) -> StoreResult<Option<KeyValue>> {
        match place {
            Some(seq) => Ok(schema::change(self.connection, seq)?.into_key_value()),
            None => Ok(None),
        }
    }

    /// Runs operations on different keys under the next revision, if any of them changes something.
    pub(super) fn run(&mut self, ops: &[Op]) -> StoreResult<TxnOutcome> {
        let revision = self.revision.next();
        let mut events = Vec::with_capacity(ops.len());
        let mut replaced = Vec::with_capacity(ops.len());
        for op in ops {
            let place = live(self.connection, op.key()).map_err(|error| read_error(&error, "read"))?;
            let previous = self.fetch(place)?;
            if let Some(event) = change_of(op, previous.as_ref(), revision) {
                let seq = Seq::of(revision, events.len());
                self.write(seq, &event, place).map_err(|error| read_error(&error, "write"))?;
                events.push(event);
            }
            replaced.push(previous);
        }
        if !events.is_empty() {
            self.revision = revision;
            self.published.push(Published { revision, events });
        }
        Ok(TxnOutcome::Committed { revision: self.revision, previous: replaced })
    }

    fn write(&self, seq: Seq, event: &Event, previous: Option<Seq>) -> rusqlite::Result<()> {
        self.log(seq, event, previous)?;
        match event {
            Event::Put { kv, .. } => self.point_live(&kv.key, seq, previous.is_some())?,
            Event::Delete { key, .. } => {
                self.connection.prepare_cached("DELETE FROM live WHERE key = ?1")?.execute([&key[..]])?;
                self.remember(key, seq, true)?;
            }
        }
        if let Some(previous) = previous {
            self.remember(event.key(), previous, false)?;
        }
        let lease = if let Event::Put { kv, .. } = event { kv.lease } else { None };
        self.attach(event.key(), event.previous().and_then(|kv| kv.lease), lease)
    }

    fn log(&self, seq: Seq, event: &Event, previous: Option<Seq>) -> rusqlite::Result<()> {
        const INSERT: &str = "INSERT INTO change(seq, sum, previous, created, version, lease, key, value)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (created, version, lease, value): (_, _, _, Option<&[u8]>) = match event {
            Event::Put { kv, .. } => (kv.create_revision, kv.version, kv.lease, Some(&kv.value)),
            Event::Delete { .. } => (Revision::ZERO, 0, None, None),
        };
        let key = &event.key()[..];
        let sum = schema::sum(seq, created, version, lease, key, value);
        let (previous, lease) = (previous.map(|seq| seq.0), lease.map(|lease| lease.0));
        self.connection
            .prepare_cached(INSERT)?
            .execute(params![seq.0, sum, previous, created.0, version, lease, key, value])?;
        Ok(())
    }

    fn point_live(&self, key: &Bytes, seq: Seq, is_there: bool) -> rusqlite::Result<()> {
        let statement = match is_there {
            true => "UPDATE live SET seq = ?2 WHERE key = ?1",
            false => "INSERT INTO live(key, seq) VALUES (?1, ?2)",
        };
        self.connection.prepare_cached(statement)?.execute(params![&key[..], seq.0])?;
        Ok(())
    }

    fn remember(&self, key: &Bytes, seq: Seq, gone: bool) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("INSERT INTO past(key, seq, gone) VALUES (?1, ?2, ?3)")?
            .execute(params![&key[..], seq.0, gone])?;
        Ok(())
    }

    fn attach(&self, key: &Bytes, from: Option<LeaseId>, to: Option<LeaseId>) -> rusqlite::Result<()> {
        if from == to {
            return Ok(());
        }
        if let Some(LeaseId(from)) = from {
            self.connection
                .prepare_cached("DELETE FROM attached WHERE lease = ?1 AND key = ?2")?
                .execute(params![from, &key[..]])?;
        }
        if let Some(LeaseId(to)) = to {
            self.connection
                .prepare_cached("INSERT INTO attached(lease, key) VALUES (?1, ?2)")?
                .execute(params![to, &key[..]])?;
        }
        Ok(())
    }
}

fn lease_of(op: &Op) -> Option<LeaseId> {
    if let Op::Put { lease, .. } = op { *lease } else { None }
}

/// The event that the operation makes, if it changes anything.
fn change_of(op: &Op, previous: Option<&KeyValue>, revision: Revision) -> Option<Event> {
    match op {
        Op::Put { key, value, lease } => Some(Event::Put {
            kv: KeyValue {
                key: key.clone(),
                value: value.clone(),
                create_revision: previous.map_or(revision, |kv| kv.create_revision),
                mod_revision: revision,
                version: previous.map_or(1, |kv| kv.version + 1),
                lease: *lease,
            },
            previous: previous.cloned(),
        }),
        Op::Delete { key } => {
            let previous = Some(previous?.clone());
            Some(Event::Delete { key: key.clone(), revision, previous })
        }
    }
}
