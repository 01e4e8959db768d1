//! The writer thread, sole owner of everything that changes: it commits what has queued up in one durable SQLite transaction,
//! publishes it, and only then answers. Between commits it tends leases, checkpoints and clean-up.

use super::apply::Applier;
use super::checkpoint::{self, Checkpoints};
use super::connection::{self, read as read_error, sync_failed};
use super::directory::Directory;
use super::feed::Feed;
use super::lease::{self, Leases};
use super::log_room::LogRoom;
use super::queue::{Command, Queue, Reply, Taken};
use super::schema::{self, Meta, Seq};
use super::told::Told;
use super::{Options, cleanup};
use crate::{Clock, LeaseId, Revision, StoreError, StoreResult, Txn, TxnOutcome};
use rusqlite::Connection;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Changes that a commit cleans up after for each transaction in it, so that clean-up keeps pace with any load.
const CLEAN_PER_TXN: usize = 2;
/// Changes that a slice of clean-up visits while nothing is queued.
const CLEAN_IDLE: usize = 256;
/// How long the writer waits for a checkpoint before it looks again.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(5);
/// How long chores rest after one failed, most likely for want of space.
const CHORES_REST: Duration = Duration::from_secs(1);
/// How long a commit may wait for readers when the log must be started over.
const RESTART_WAIT: Duration = Duration::from_millis(250);

/// An open database that has no writer yet.
pub(super) struct Start {
    connection: Connection,
    copier: Connection,
    meta: Meta,
    leases: Leases,
    options: Options,
}

impl Start {
    /// Opens or makes the files, and recovers what a crash left behind.
    pub(super) fn open(directory: &Directory, options: &Options) -> StoreResult<Self> {
        let failed = |error| read_error(&error, "open the store's database");
        let mut connection = connection::writing(directory, options, options.writer_cache_kib)?;
        schema::prepare(&mut connection, directory)?;
        let copier = connection::writing(directory, options, connection::SMALLEST_CACHE_KIB)?;
        let meta = schema::meta(&connection).map_err(failed)?;
        let leases = Leases::load(&connection, options.clock.clone()).map_err(failed)?;
        connection.busy_timeout(RESTART_WAIT).map_err(failed)?;
        Ok(Self { connection, copier, meta, leases, options: options.clone() })
    }

    pub(super) fn revision(&self) -> Revision {
        self.meta.revision
    }

    pub(super) fn compacted(&self) -> Revision {
        self.meta.compacted
    }

    /// Starts the thread.
    pub(super) fn spawn(
        mut self,
        directory: Arc<Directory>,
        queue: Arc<Queue>,
        feed: Arc<Feed>,
    ) -> StoreResult<JoinHandle<()>> {
        let checkpoints =
            Checkpoints::spawn(&mut self.connection, self.copier, self.options.checkpoint_pages)?;
        let writer = Writer {
            checkpoints: Some(checkpoints),
            chores: Chores::new(),
            connection: self.connection,
            room: LogRoom::new(&self.options),
            meta: self.meta,
            leases: self.leases,
            options: self.options,
            queue,
            feed,
            settling: Vec::new(),
            broken: None,
            _directory: directory,
        };
        let spawned = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run());
        spawned.map_err(|error| StoreError::Io { operation: "start a thread", detail: error.to_string() })
    }
}

/// What is left to do when nobody asks for anything.
struct Chores {
    cleaning: bool,
    spare: bool,
    rest_until: Option<Duration>,
    clock: Clock,
    /// A store that is damaged, or has no room, fails at every try.
    told_of_leases: Told,
    told_of_cleanup: Told,
}

impl Chores {
    fn new() -> Self {
        Self {
            cleaning: true,
            spare: true,
            rest_until: None,
            clock: Clock::system(),
            told_of_leases: Told::default(),
            told_of_cleanup: Told::default(),
        }
    }

    fn are_left(&self) -> bool {
        self.cleaning || self.spare
    }

    /// How long they still rest after a failure.
    fn rest(&mut self) -> Option<Duration> {
        let left = self.rest_until?.checked_sub(self.clock.now()).filter(|left| !left.is_zero());
        if left.is_none() {
            self.rest_until = None;
        }
        left
    }

    fn rest_a_while(&mut self) {
        self.rest_until = Some(self.clock.now() + CHORES_REST);
    }
}

struct Writer {
    connection: Connection,
    checkpoints: Option<Checkpoints>,
    room: LogRoom,
    meta: Meta,
    leases: Leases,
    chores: Chores,
    options: Options,
    queue: Arc<Queue>,
    feed: Arc<Feed>,
    settling: Vec<Reply<()>>,
    /// Set once a sync failed: nothing more is written until the store is opened anew.
    broken: Option<StoreError>,
    _directory: Arc<Directory>,
}

type Call = (Txn, Reply<TxnOutcome>);

impl Writer {
    fn run(mut self) {
        loop {
            self.tend();
            let patience = self.patience();
            match self.queue.take(patience) {
                Taken::Commands(commands) => self.serve(commands),
                Taken::Nothing => self.do_chores(),
                Taken::Closed => break,
            }
        }
        self.finish();
    }

    fn patience(&mut self) -> Option<Duration> {
        if self.broken.is_some() {
            return None;
        }
        let lease = self.leases.next_end();
        let checkpoint =
            self.checkpoints.as_ref().is_some_and(Checkpoints::is_busy).then_some(CHECKPOINT_WAIT);
        match self.chores.rest() {
            // Leases that are due rest with the other chores.
            Some(rest) => Some(checkpoint.map_or(rest, |checkpoint| checkpoint.min(rest))),
            None if self.chores.are_left() => Some(Duration::ZERO),
            None => lease.into_iter().chain(checkpoint).min(),
        }
    }

    fn serve(&mut self, mut commands: VecDeque<Command>) {
        let mut batch = Batch::default();
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Txn(txn, reply) => {
                    if batch.is_full(&txn, &self.options) {
                        self.commit_batch(std::mem::take(&mut batch).calls);
                    }
                    batch.add(txn, reply);
                }
                other => {
                    self.commit_batch(std::mem::take(&mut batch).calls);
                    self.serve_one(other);
                }
            }
        }
        self.commit_batch(batch.calls);
    }

    fn serve_one(&mut self, command: Command) {
        match command {
            Command::Txn(txn, reply) => self.commit_batch(vec![(txn, reply)]),
            Command::Compact(at, reply) => answer(reply, self.compact(at)),
            Command::Grant(ttl_ms, reply) => answer(reply, self.grant(ttl_ms)),
            Command::KeepAlive(id, reply) => answer(reply, self.leases.renew(id)),
            Command::Revoke(id, reply) => answer(reply, self.end_lease(id)),
            Command::Expire(reply) => answer(reply, self.expire()),
            Command::Settle(reply) => self.settling.push(reply),
        }
        self.settle();
    }

    /// Commits the calls together; if that fails, each on its own, so that nobody fails for another's sake.
    fn commit_batch(&mut self, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        self.tend_checkpoint();
        let (txns, replies): (Vec<Txn>, Vec<_>) = calls.into_iter().unzip();
        match self.apply(&txns, CLEAN_PER_TXN * txns.len()) {
            Ok(results) => replies.into_iter().zip(results).for_each(|(reply, result)| answer(reply, result)),
            Err(error @ StoreError::Unavailable { .. }) => {
                replies.into_iter().for_each(|reply| answer(reply, Err(error.clone())));
            }
            Err(_) => {
                for (txn, reply) in txns.iter().zip(replies) {
                    let result = self.apply(std::slice::from_ref(txn), 0);
                    answer(reply, result.and_then(one));
                }
            }
        }
    }

    fn apply(&mut self, txns: &[Txn], clean: usize) -> StoreResult<Vec<StoreResult<TxnOutcome>>> {
        self.commit(clean, |_, applier, leases| {
            txns.iter().map(|txn| applier.txn(txn, |id| leases.contains(id))).collect()
        })
    }

    /// One durable SQLite transaction. What it changed is published; on an error nothing has happened.
    fn commit<T>(
        &mut self,
        clean: usize,
        work: impl FnOnce(&Connection, &mut Applier<'_>, &Leases) -> StoreResult<T>,
    ) -> StoreResult<T> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        if let Some(checkpoints) = &self.checkpoints {
            self.room.make(&self.connection, checkpoints.log_pages());
        }
        let mut applier = Applier::new(&self.connection, self.meta.revision);
        let done = begin(&self.connection)
            .and_then(|()| work(&self.connection, &mut applier, &self.leases))
            .and_then(|value| Ok((value, self.clean(clean)?)));
        let published = applier.finish();
        let (value, cleaned) = match done {
            Ok(done) => done,
            Err(error) => return Err(self.roll_back(error)),
        };
        if let Err(error) = run(&self.connection, "COMMIT") {
            let reason = read_error(&error, "commit");
            if sync_failed(&error) {
                self.broken = Some(unsynced());
                self.roll_back(reason);
                return Err(unsynced());
            }
            return Err(self.roll_back(reason));
        }
        if let Some((through, done)) = cleaned {
            self.meta.cleaned = through;
            self.chores.cleaning = !done;
        }
        if let Some(last) = published.last() {
            self.meta.revision = last.revision;
            self.feed.publish(published);
        }
        Ok(value)
    }

    /// A slice of clean-up inside the transaction that is open.
    fn clean(&self, limit: usize) -> StoreResult<Option<(Seq, bool)>> {
        if limit == 0 || !self.chores.cleaning {
            return Ok(None);
        }
        let slice = cleanup::slice(&self.connection, self.meta.cleaned, self.meta.compacted, limit);
        slice.map(Some).map_err(|error| read_error(&error, "clean up"))
    }

    fn roll_back(&mut self, error: StoreError) -> StoreError {
        // SQLite rolls back by itself on some errors.
        if !self.connection.is_autocommit()
            && let Err(stuck) = self.connection.execute_batch("ROLLBACK")
        {
            self.broken =
                Some(StoreError::Unavailable { reason: format!("a write cannot be taken back: {stuck}") });
        }
        error
    }

    fn compact(&mut self, at: Revision) -> StoreResult<()> {
        if at <= self.meta.compacted {
            return Err(StoreError::Compacted { compact_revision: self.meta.compacted });
        }
        if at > self.meta.revision {
            return Err(StoreError::FutureRevision { requested: at, current: self.meta.revision });
        }
        self.commit(0, |connection, _, _| {
            let updated = connection.execute("UPDATE meta SET compacted = ?1", [at.0]);
            updated.map(|_| ()).map_err(|error| read_error(&error, "compact"))
        })?;
        self.meta.compacted = at;
        self.feed.compacted(at);
        self.chores.cleaning = true;
        Ok(())
    }

    fn grant(&mut self, ttl_ms: u64) -> StoreResult<LeaseId> {
        let id = self.leases.fresh_id();
        self.commit(0, |connection, _, _| {
            lease::grant(connection, id, ttl_ms).map_err(|error| read_error(&error, "grant a lease"))
        })?;
        self.leases.add(id, ttl_ms);
        Ok(id)
    }

    fn end_lease(&mut self, id: LeaseId) -> StoreResult<()> {
        if !self.leases.contains(id) {
            return Err(StoreError::LeaseNotFound(id));
        }
        self.commit(0, |connection, applier, _| lease::end(applier, connection, id))?;
        self.leases.remove(id);
        Ok(())
    }

    fn expire(&mut self) -> StoreResult<()> {
        while let Some(id) = self.leases.due() {
            self.end_lease(id)?;
        }
        Ok(())
    }

    fn tend(&mut self) {
        self.tend_checkpoint();
        if self.chores.rest().is_none() {
            self.end_due_leases();
        }
        self.settle();
    }

    fn end_due_leases(&mut self) {
        match self.expire() {
            Ok(()) => self.chores.told_of_leases.went_well(),
            Err(error) => {
                if self.chores.told_of_leases.is_news(&error) {
                    tracing::warn!(%error, "leases cannot be ended and will be tried again");
                }
                self.chores.rest_a_while();
            }
        }
    }

    fn tend_checkpoint(&mut self) {
        if let Some(checkpoints) = &mut self.checkpoints
            && self.broken.is_none()
            && let Err(error) = checkpoints.tend(&self.connection)
        {
            tracing::error!(%error, "the store takes no more writes until it is opened anew");
            self.broken = Some(error);
        }
    }

    fn do_chores(&mut self) {
        if self.chores.rest().is_some() || !self.chores.are_left() {
            return;
        }
        let done = if self.chores.cleaning { self.clean_idle() } else { self.give_back() };
        let Err(error) = done else { return self.chores.told_of_cleanup.went_well() };
        if self.chores.told_of_cleanup.is_news(&error) {
            tracing::warn!(%error, "clean-up of the store failed and will be tried again");
        }
        self.chores.rest_a_while();
        self.settling.drain(..).for_each(|reply| answer(reply, Err(error.clone())));
    }

    fn clean_idle(&mut self) -> StoreResult<()> {
        if self.meta.cleaned >= Seq(Seq::first(self.meta.compacted).0 - 1) {
            self.chores.cleaning = false;
            return Ok(());
        }
        self.commit(CLEAN_IDLE, |_, _, _| Ok(()))?;
        self.chores.spare |= !self.chores.cleaning;
        Ok(())
    }

    fn give_back(&mut self) -> StoreResult<()> {
        self.chores.spare = self.commit(0, |connection, _, _| {
            cleanup::give_back(connection).map_err(|error| read_error(&error, "give space back"))
        })?;
        Ok(())
    }

    fn settle(&mut self) {
        if !self.chores.are_left() || self.broken.is_some() {
            let result = self.broken.clone().map_or(Ok(()), Err);
            self.settling.drain(..).for_each(|reply| answer(reply, result.clone()));
        }
    }

    /// Leaves everything in the database itself. What fails here is done when the store is opened next.
    fn finish(&mut self) {
        self.checkpoints = None;
        if self.broken.is_none()
            && let Err(error) = checkpoint::checkpoint(&self.connection, "TRUNCATE")
        {
            tracing::warn!(%error, "the last checkpoint of the store failed");
        }
    }
}

/// Also runs when the thread panics: nobody may wait for an answer that will never come.
impl Drop for Writer {
    fn drop(&mut self) {
        self.feed.close();
        self.queue.close();
        while let Taken::Commands(unanswered) = self.queue.take(Some(Duration::ZERO)) {
            drop(unanswered);
        }
    }
}

#[derive(Default)]
struct Batch {
    calls: Vec<Call>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self, next: &Txn, options: &Options) -> bool {
        let size: usize = next.ops.iter().map(crate::Op::size).sum();
        self.calls.len() >= options.batch_txns
            || (!self.calls.is_empty() && self.bytes + size > options.batch_bytes)
    }

    fn add(&mut self, txn: Txn, reply: Reply<TxnOutcome>) {
        self.bytes += txn.ops.iter().map(crate::Op::size).sum::<usize>();
        self.calls.push((txn, reply));
    }
}

fn begin(connection: &Connection) -> StoreResult<()> {
    run(connection, "BEGIN IMMEDIATE").map_err(|error| read_error(&error, "begin a write"))
}

fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(|_| ())
}

fn one(mut results: Vec<StoreResult<TxnOutcome>>) -> StoreResult<TxnOutcome> {
    results.pop().unwrap_or(Err(StoreError::Closed))
}

fn unsynced() -> StoreError {
    StoreError::Unavailable { reason: "a write could not be synced to the disk".to_owned() }
}

/// Nobody may be waiting any more: a caller that went away loses only its answer.
fn answer<T>(reply: Reply<T>, result: StoreResult<T>) {
    let _ = reply.send(result);
}
