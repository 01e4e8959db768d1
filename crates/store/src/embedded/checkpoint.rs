//! Moving committed pages from the write-ahead log into the database.
//!
//! A thread of its own copies and syncs the bulk while the writer goes on; the writer then copies the little that was
//! written meanwhile, between two commits, so that its next commit starts the log over.

use super::connection::{read as read_error, sync_failed};
use crate::{StoreError, StoreResult};
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The log may grow to this many times the checkpoint size before the writer waits for readers to let go of it.
const PATIENCE: u32 = 8;

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
const COPIED: u8 = 2;
const BROKEN: u8 = 3;

/// The writer's end.
pub(super) struct Checkpoints {
    threshold: u32,
    /// Pages in the log after the last commit.
    log_pages: Arc<AtomicU32>,
    /// Pages in the log when nothing more could be done about it.
    retry_at: u32,
    state: Arc<AtomicU8>,
    start: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// `copier` becomes the thread's connection.
    pub(super) fn spawn(writer: &mut Connection, copier: Connection, threshold: u32) -> StoreResult<Self> {
        let log_pages = Arc::new(AtomicU32::new(0));
        hook(writer, Arc::clone(&log_pages)).map_err(|error| read_error(&error, "prepare checkpoints"))?;
        let state = Arc::new(AtomicU8::new(IDLE));
        let (start, started) = sync_channel(1);
        let outcome = Arc::clone(&state);
        let copy = move || {
            while started.recv().is_ok() {
                outcome.store(copy_pages(&copier), Ordering::Release);
            }
        };
        let thread = std::thread::Builder::new().name("store-checkpoint".to_owned()).spawn(copy);
        let thread = thread
            .map_err(|error| StoreError::Io { operation: "start a thread", detail: error.to_string() })?;
        Ok(Self {
            threshold,
            log_pages,
            retry_at: threshold,
            state,
            start: Some(start),
            thread: Some(thread),
        })
    }

    /// To be called between two commits. An error says that the log must not be built upon any more.
    pub(super) fn tend(&mut self, writer: &Connection) -> StoreResult<()> {
        match self.state.load(Ordering::Acquire) {
            BROKEN => Err(StoreError::Unavailable { reason: "the database could not be synced".to_owned() }),
            COPIED => self.complete(writer),
            IDLE if self.log_pages.load(Ordering::Relaxed) >= self.retry_at => {
                self.state.store(RUNNING, Ordering::Release);
                // The thread lives as long as `start`, and the one place is free while it is idle.
                if self.start.as_ref().is_none_or(|start| start.try_send(()).is_err()) {
                    self.state.store(BROKEN, Ordering::Release);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn complete(&mut self, writer: &Connection) -> StoreResult<()> {
        let pages = self.log_pages.load(Ordering::Relaxed);
        let mode = if pages > PATIENCE * self.threshold { "RESTART" } else { "PASSIVE" };
        let left = checkpoint(writer, mode);
        if left.as_ref().is_err_and(sync_failed) {
            self.state.store(BROKEN, Ordering::Release);
            return self.tend(writer);
        }
        self.state.store(IDLE, Ordering::Release);
        // A full disk or a long reader is no reason to stop; it is tried again when the log has grown by half.
        self.retry_at = match left {
            Ok(0) => self.threshold,
            _ => pages.saturating_add(self.threshold / 2),
        };
        Ok(())
    }

    /// Pages in the log after the last commit.
    pub(super) fn log_pages(&self) -> u32 {
        self.log_pages.load(Ordering::Relaxed)
    }

    /// Whether the writer should look again soon although nothing is queued.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), RUNNING | COPIED)
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        drop(self.start.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's checkpoint thread panicked");
        }
    }
}

fn hook(writer: &mut Connection, log_pages: Arc<AtomicU32>) -> rusqlite::Result<()> {
    writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
        log_pages.store(pages.unsigned_abs(), Ordering::Relaxed);
        Ok(())
    }))
}

fn copy_pages(copier: &Connection) -> u8 {
    match checkpoint(copier, "PASSIVE") {
        Err(error) if sync_failed(&error) => BROKEN,
        Ok(_) => COPIED,
        Err(error) => {
            tracing::warn!(%error, "a checkpoint of the store failed and will be repeated");
            COPIED
        }
    }
}

/// Runs a checkpoint and returns how many pages are still only in the log.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    let sql = match mode {
        "RESTART" => "PRAGMA wal_checkpoint(RESTART)",
        "TRUNCATE" => "PRAGMA wal_checkpoint(TRUNCATE)",
        _ => "PRAGMA wal_checkpoint(PASSIVE)",
    };
    let counts = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
    connection.prepare_cached(sql)?.query_row([], counts)
}
