//! Pods that wait for a node: those to look at now in order of priority, those that back off, and those that fit nowhere until the
//! cluster changes.

use nauplius_base::time::Instant;
use nauplius_reconcile::Key;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Upstream's back-off: one second, doubling to ten.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod that fits nowhere is looked at again after this long even when nothing seems to have changed.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    BackingOff,
    Unschedulable,
    Deciding,
}

#[derive(Debug)]
struct Waiting {
    uid: String,
    priority: i32,
    sequence: u64,
    attempts: u32,
    state: State,
    until: Option<Instant>,
    /// When it was decided last.
    tried_at: Option<Instant>,
    /// The cluster changed while the pod was looked at.
    moved: bool,
}

/// The queue.
#[derive(Default)]
pub struct Pending {
    pods: HashMap<Key, Waiting>,
    ready: BTreeSet<(Reverse<i32>, u64, Key)>,
    later: BTreeMap<(Instant, u64), Key>,
    sequence: u64,
}

impl Pending {
    /// A pod without a node was seen.
    pub fn add(&mut self, key: &Key, uid: &str, priority: i32) {
        if self.pods.get(key).is_some_and(|known| known.uid == uid) {
            return;
        }
        self.remove(key);
        self.sequence += 1;
        let waiting = Waiting {
            uid: uid.to_owned(),
            priority,
            sequence: self.sequence,
            attempts: 0,
            state: State::Ready,
            until: None,
            tried_at: None,
            moved: false,
        };
        self.ready.insert((Reverse(priority), waiting.sequence, key.clone()));
        self.pods.insert(key.clone(), waiting);
    }

    /// The pod is gone or has its node.
    pub fn remove(&mut self, key: &Key) {
        let Some(known) = self.pods.remove(key) else { return };
        self.ready.remove(&(Reverse(known.priority), known.sequence, key.clone()));
        if let Some(until) = known.until {
            self.later.remove(&(until, known.sequence));
        }
    }

    /// The next pod to look at; it is being decided until [`Pending::failed`] or [`Pending::remove`].
    pub fn next(&mut self, now: Instant) -> Option<Key> {
        self.promote(now);
        let (_, _, key) = self.ready.pop_first()?;
        if let Some(waiting) = self.pods.get_mut(&key) {
            waiting.state = State::Deciding;
            waiting.attempts += 1;
            waiting.moved = false;
        }
        Some(key)
    }

    /// When something becomes due without any change.
    pub fn next_due(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let key = entry.remove();
            if let Some(waiting) = self.pods.get_mut(&key) {
                waiting.until = None;
                waiting.state = State::Ready;
                self.ready.insert((Reverse(waiting.priority), waiting.sequence, key));
            }
        }
    }

    /// It fits nowhere: wait for a change, but not for ever.
    pub fn unschedulable(&mut self, key: &Key, now: Instant) {
        let Some(waiting) = self.pods.get_mut(key) else { return };
        waiting.tried_at = Some(now);
        if waiting.moved {
            self.back_off(key, now);
        } else {
            self.wait(key, State::Unschedulable, now + UNSCHEDULABLE_MAX);
        }
    }

    /// The decision failed for a reason outside the cluster's state: try again after a while.
    pub fn back_off(&mut self, key: &Key, now: Instant) {
        let attempts = self.pods.get(key).map_or(0, |waiting| waiting.attempts);
        let delay = BACKOFF_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(8)).min(BACKOFF_MAX);
        self.wait(key, State::BackingOff, now + delay);
    }

    fn wait(&mut self, key: &Key, state: State, until: Instant) {
        let Some(waiting) = self.pods.get_mut(key) else { return };
        if let Some(before) = waiting.until.replace(until) {
            self.later.remove(&(before, waiting.sequence));
        }
        waiting.state = state;
        self.later.insert((until, waiting.sequence), key.clone());
    }

    /// The cluster changed in a way that may help these pods: those that fitted nowhere try again, once what they have to wait since
    /// the last try is over.
    pub fn changed(&mut self, now: Instant, helps: impl Fn(&Key) -> bool) {
        let helped = self.pods.iter_mut().filter(|(key, _)| helps(key));
        let waiting: Vec<(Key, Instant)> = helped
            .filter_map(|(key, waiting)| {
                waiting.moved = true;
                let tried_at = waiting.tried_at.unwrap_or(now);
                (waiting.state == State::Unschedulable).then(|| (key.clone(), tried_at))
            })
            .collect();
        for (key, tried_at) in waiting {
            self.back_off(&key, tried_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("d", name)
    }

    #[tokio::test(start_paused = true)]
    async fn priority_first_then_age() {
        let mut pending = Pending::default();
        let now = nauplius_base::time::monotonic();
        pending.add(&key("old"), "1", 0);
        pending.add(&key("young"), "2", 0);
        pending.add(&key("vip"), "3", 10);
        let order: Vec<Key> = std::iter::from_fn(|| pending.next(now)).collect();
        assert_eq!(order, [key("vip"), key("old"), key("young")]);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_room_and_backs_off() {
        let mut pending = Pending::default();
        let now = nauplius_base::time::monotonic();
        pending.add(&key("a"), "1", 0);
        assert_eq!(pending.next(now), Some(key("a")));
        pending.unschedulable(&key("a"), now);
        assert_eq!(pending.next(now + Duration::from_secs(60)), None);
        pending.changed(now, |_| true);
        assert_eq!(pending.next(now), None);
        assert_eq!(pending.next(now + Duration::from_secs(1)), Some(key("a")));
        pending.changed(now, |_| true);
        pending.unschedulable(&key("a"), now);
        assert_eq!(pending.next_due(), Some(now + Duration::from_secs(2)));
        pending.remove(&key("a"));
        assert_eq!(pending.next_due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_wakes_whom_it_helps_and_at_once_when_the_wait_is_over() {
        let mut pending = Pending::default();
        let now = nauplius_base::time::monotonic();
        for name in ["a", "b"] {
            pending.add(&key(name), name, 0);
            assert_eq!(pending.next(now), Some(key(name)));
            pending.unschedulable(&key(name), now);
        }
        let later = now + Duration::from_secs(5);
        pending.changed(later, |pod| *pod == key("b"));
        assert_eq!(pending.next(later), Some(key("b")));
        assert_eq!(pending.next(later), None);
    }
}
