//! Asking for the newest revision, once for all who ask at the same time: an answer serves everybody who came before its question was
//! sent. Each consistent read of an API server asks, so this is its cost on etcd.

use crate::{Revision, StoreError, StoreResult};
use nauplius_base::time::{Instant, monotonic};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Semaphore;

pub(super) struct Newest {
    turn: Semaphore,
    last: Mutex<Option<(Instant, Revision)>>,
}

impl Default for Newest {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), last: Mutex::default() }
    }
}

impl Newest {
    pub(super) async fn get<F>(&self, ask: impl FnOnce() -> F) -> StoreResult<Revision>
    where
        F: Future<Output = StoreResult<Revision>>,
    {
        let came = monotonic();
        let _turn = self.turn.acquire().await.map_err(|_| StoreError::Closed)?;
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, revision)) = last.filter(|(asked, _)| *asked >= came) {
            return Ok(revision);
        }
        let asked = monotonic();
        let revision = ask().await?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, revision));
        Ok(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_base::task;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[tokio::test]
    async fn those_who_wait_share_the_next_answer() {
        let (newest, asked) = (Arc::new(Newest::default()), Arc::new(AtomicI64::new(0)));
        let gate = Arc::new(Semaphore::new(0));
        let ask = || {
            let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
            move || async move {
                gate.acquire().await.unwrap().forget();
                Ok(Revision(asked.fetch_add(1, Ordering::SeqCst) + 1))
            }
        };
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let (newest, ask) = (Arc::clone(&newest), ask());
                task::spawn("reader", async move { newest.get(ask).await })
            })
            .collect();
        tokio::task::yield_now().await;
        gate.add_permits(10);
        let mut seen = Vec::new();
        for reader in readers {
            seen.push(reader.await.unwrap().unwrap().0);
        }
        assert_eq!(seen[0], 1, "the first asks for itself");
        assert!(seen[1..].iter().all(|revision| *revision == 2), "the others share one: {seen:?}");
    }
}
