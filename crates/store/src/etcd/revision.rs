//! Asking for the newest revision, once for all who ask at the same time: an answer serves everybody who came before its question was
//! sent, and so does a failure: those who wait for an etcd that is slow do not wait one after the other. Each consistent read of an API
//! server asks, so this is its cost on etcd.

use crate::{Revision, StoreError, StoreResult};
use nauplius_base::time::{Instant, monotonic};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Semaphore;

pub(super) struct Newest {
    turn: Semaphore,
    last: Mutex<Option<(Instant, StoreResult<Revision>)>>,
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
        if let Some(answer) = self.since(came) {
            return answer;
        }
        let asked = monotonic();
        let answer = ask().await;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, answer.clone()));
        answer
    }

    /// The last answer, if it was asked for since then.
    fn since(&self, came: Instant) -> Option<StoreResult<Revision>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(asked, _)| *asked >= came).map(|(_, answer)| answer.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_base::task;
    use nauplius_base::time::sleep;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

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

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_a_slow_etcd_share_its_failure() {
        const PATIENCE: Duration = Duration::from_secs(10);
        let newest = Arc::new(Newest::default());
        let start = monotonic();
        let readers: Vec<_> = (0..50)
            .map(|_| {
                let newest = Arc::clone(&newest);
                let late = StoreError::TimedOut { operation: "ask" };
                let ask = move || async move {
                    sleep(PATIENCE).await;
                    Err(late)
                };
                task::spawn("reader", async move { newest.get(ask).await })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.unwrap(), Err(StoreError::TimedOut { operation: "ask" }));
        }
        let waited = start.elapsed();
        assert!(waited <= 2 * PATIENCE, "the first one's failure, and one for all others: {waited:?}");
        assert_eq!(newest.get(|| async { Ok(Revision(7)) }).await, Ok(Revision(7)), "who comes later asks");
    }
}
