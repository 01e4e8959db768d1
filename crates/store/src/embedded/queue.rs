//! The bounded queue in front of the writer. Callers wait for a place; the writer takes all there is at once.

use crate::{LeaseId, Revision, StoreError, StoreResult, Txn, TxnOutcome};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<StoreResult<T>>;

/// What the writer can be asked.
pub(super) enum Command {
    Txn(Txn, Reply<TxnOutcome>),
    Compact(Revision, Reply<()>),
    Grant(u64, Reply<LeaseId>),
    KeepAlive(LeaseId, Reply<()>),
    Revoke(LeaseId, Reply<()>),
    Expire(Reply<()>),
    Settle(Reply<()>),
}

/// What the writer finds when it looks.
pub(super) enum Taken {
    Commands(VecDeque<Command>),
    /// Nothing came in time.
    Nothing,
    /// Nothing more will come.
    Closed,
}

pub(super) struct Queue {
    places: Semaphore,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { places: Semaphore::new(limit), state: Mutex::default(), arrived: Condvar::new() }
    }

    /// Waits for a place and queues.
    pub(super) async fn push(&self, command: Command) -> StoreResult<()> {
        let place = self.places.acquire().await.map_err(|_| StoreError::Closed)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(StoreError::Closed);
        }
        // The place is free again when the writer takes the command.
        place.forget();
        state.commands.push_back(command);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Refuses what comes from now on; what is queued is still taken.
    pub(super) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.places.close();
        self.arrived.notify_one();
    }

    /// Everything that is queued; waits for something as long as `patience`, or for ever.
    pub(super) fn take(&self, patience: Option<Duration>) -> Taken {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = |state: &mut State| state.commands.is_empty() && !state.closed;
        let mut state = match patience {
            None => self.arrived.wait_while(state, empty).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.arrived.wait_timeout_while(state, limit, empty).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if !state.commands.is_empty() {
            self.places.add_permits(state.commands.len());
            return Taken::Commands(std::mem::take(&mut state.commands));
        }
        if state.closed { Taken::Closed } else { Taken::Nothing }
    }
}
