//! The pool of reading connections. A read takes one to a blocking thread, sees one snapshot and never waits for the writer.

use super::connection::{self, read as read_error};
use super::directory::Directory;
use super::{Options, blocking};
use crate::{StoreError, StoreResult};
use rusqlite::Connection;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

pub(super) struct Readers {
    turns: Arc<Semaphore>,
    count: u32,
    pool: Arc<Mutex<Pool>>,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    /// Keeps the directory's lock until the connections are closed; dropped after them.
    _directory: Option<Arc<Directory>>,
}

impl Readers {
    pub(super) fn open(directory: &Arc<Directory>, options: &Options) -> StoreResult<Self> {
        let count = options.readers.clamp(1, 64);
        let connections: StoreResult<Vec<_>> =
            (0..count).map(|_| connection::reading(directory, options)).collect();
        let pool = Pool { idle: connections?, _directory: Some(Arc::clone(directory)) };
        Ok(Self {
            turns: Arc::new(Semaphore::new(count)),
            count: count as u32,
            pool: Arc::new(Mutex::new(pool)),
        })
    }

    /// Runs a read in one snapshot.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let pool = Arc::clone(&self.pool);
        blocking(move || {
            let taken = pool.lock().unwrap_or_else(PoisonError::into_inner).idle.pop();
            // One is missing after a read that panicked.
            let connection =
                taken.ok_or_else(|| StoreError::Unavailable { reason: "a read failed".to_owned() })?;
            let result = snapshot(&connection, read);
            pool.lock().unwrap_or_else(PoisonError::into_inner).idle.push(connection);
            // Only now may the next one look for an idle connection.
            drop(turn);
            result
        })
        .await
    }

    /// Waits for the reads that run, refuses others and closes the connections.
    pub(super) async fn close(&self) {
        // An error says that it is closed already.
        if let Ok(all) = self.turns.acquire_many(self.count).await {
            all.forget();
            self.turns.close();
            *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = Pool::default();
        }
    }
}

fn snapshot<T>(connection: &Connection, read: impl FnOnce(&Connection) -> StoreResult<T>) -> StoreResult<T> {
    let transaction = connection.unchecked_transaction().map_err(|error| read_error(&error, "read"))?;
    read(&transaction)
}
