//! Wakes the watchers of a resource. A few are woken by every change. Many are woken no more often than pays: to wake a thousand for each
//! of a thousand changes is a million turns and a million small frames, and the next change is there before the last one of them has run.
//! The first change after a pause wakes at once, so that who waits for a quiet resource waits no longer.

use nauplius_base::task::spawn;
use nauplius_base::time::{Instant, monotonic, sleep_until};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// So many are woken by every change.
const FEW: usize = 16;
/// How long a resource rests after its watchers were woken, for each of them: about what it costs to wake one.
const REST: Duration = Duration::from_micros(10);
/// However many there are.
const LONGEST_REST: Duration = Duration::from_millis(5);

/// Wakes its holder when the resource changed.
pub struct Subscription(watch::Receiver<i64>);

impl Subscription {
    /// Waits for a change since the last call. Safe to cancel.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The cache is gone with its sender, so nothing will ever change; its owner ends the watch.
            std::future::pending::<()>().await;
        }
    }
}

/// The watchers of a resource.
pub(super) struct Wakes(Arc<Shared>);

struct Shared {
    /// The revision of the newest change that they were woken for.
    changed: watch::Sender<i64>,
    pace: Mutex<Pace>,
}

#[derive(Default)]
struct Pace {
    rests_until: Option<Instant>,
    /// What they will be woken for when the rest is over.
    due: Option<i64>,
}

impl Wakes {
    pub fn new() -> Self {
        Self(Arc::new(Shared { changed: watch::Sender::new(0), pace: Mutex::default() }))
    }

    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.changed.subscribe())
    }

    /// How many there are.
    pub fn watchers(&self) -> usize {
        self.0.changed.receiver_count()
    }

    /// At once, whatever the pace.
    pub fn wake_now(&self) {
        self.0.changed.send_modify(|_| {});
    }

    /// For a change; soon, if there was one just now and there are many watchers.
    pub fn wake(&self, revision: i64) {
        let watchers = self.watchers();
        if watchers < FEW {
            self.0.changed.send_replace(revision);
            return;
        }
        let now = monotonic();
        let mut pace = self.0.pace();
        match (pace.due, pace.rests_until) {
            // Somebody waits to wake them.
            (Some(_), _) => pace.due = Some(revision),
            (None, Some(until)) if until > now => {
                pace.due = Some(revision);
                let shared = Arc::clone(&self.0);
                spawn("wake watchers", async move {
                    sleep_until(until).await;
                    shared.wake_due();
                });
            }
            (None, _) => {
                pace.rests_until = Some(now + rest(watchers));
                drop(pace);
                self.0.changed.send_replace(revision);
            }
        }
    }
}

impl Shared {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_due(&self) {
        let mut pace = self.pace();
        pace.rests_until = Some(monotonic() + rest(self.changed.receiver_count()));
        let due = pace.due.take();
        drop(pace);
        if let Some(revision) = due {
            self.changed.send_replace(revision);
        }
    }
}

fn rest(watchers: usize) -> Duration {
    REST.saturating_mul(u32::try_from(watchers).unwrap_or(u32::MAX)).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_base::time::sleep;

    fn woken(subscriptions: &mut [Subscription]) -> Vec<i64> {
        let changed = subscriptions.iter_mut().filter(|subscription| subscription.0.has_changed().unwrap());
        changed.map(|subscription| *subscription.0.borrow_and_update()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_woken_by_every_change() {
        let wakes = Wakes::new();
        let mut few: Vec<_> = (0..FEW - 1).map(|_| wakes.subscribe()).collect();
        for revision in 1..5 {
            wakes.wake(revision);
            assert_eq!(woken(&mut few), vec![revision; FEW - 1]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_woken_at_once_and_then_at_a_pace_and_for_the_last_change_too() {
        let wakes = Wakes::new();
        let mut many: Vec<_> = (0..400).map(|_| wakes.subscribe()).collect();
        wakes.wake(1);
        assert_eq!(woken(&mut many), vec![1; 400]);
        for revision in 2..10 {
            wakes.wake(revision);
        }
        assert_eq!(woken(&mut many), Vec::<i64>::new());
        sleep(rest(400) + Duration::from_millis(1)).await;
        assert_eq!(woken(&mut many), vec![9; 400]);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(woken(&mut many), Vec::<i64>::new());
        wakes.wake(10);
        assert_eq!(woken(&mut many), vec![10; 400], "after a pause at once");
    }

    #[test]
    fn rests_are_bounded() {
        assert_eq!(rest(100), Duration::from_millis(1));
        assert_eq!(rest(usize::MAX), LONGEST_REST);
    }
}
