//! A queue of keys to look at again. A key waits in it at most once, is never handed to two workers at a time, and one that
//! was added while it was worked on comes again afterwards.

use crate::metrics::QueueMetrics;
use nauplius_base::time::{self, Instant};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The first retry waits 5 ms, then twice as long each time up to 1,000 s: upstream's default rate limiter.
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(1000);

struct State<K> {
    ready: VecDeque<K>,
    waiting: HashSet<K>,
    /// Since when.
    working: HashMap<K, Instant>,
    /// Since when keys wait, of a queue that is counted.
    since: HashMap<K, Instant>,
    metrics: Option<QueueMetrics>,
    later: BinaryHeap<Reverse<(Instant, u64)>>,
    later_keys: HashMap<u64, K>,
    due: HashMap<K, (Instant, u64)>,
    sequence: u64,
    failures: HashMap<K, u32>,
    closed: bool,
}

/// Clones share the queue. It is bounded by the number of distinct keys, that is, of objects.
pub struct Queue<K>(Arc<(Mutex<State<K>>, Notify)>);

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            working: HashMap::new(),
            since: HashMap::new(),
            metrics: None,
            later: BinaryHeap::new(),
            later_keys: HashMap::new(),
            due: HashMap::new(),
            sequence: 0,
            failures: HashMap::new(),
            closed: false,
        };
        Self(Arc::new((Mutex::new(state), Notify::new())))
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Look at `key` as soon as possible.
    pub fn add(&self, key: K) {
        self.state().add(key);
        self.0.1.notify_one();
    }

    /// Look at `key` after `delay`, or sooner if that was asked for already: a key waits for one time only.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.state().add_at(key, time::monotonic() + delay);
        self.0.1.notify_one();
    }

    /// Look at `key` again after a delay that grows with its failures.
    pub fn retry(&self, key: K) {
        let failures = {
            let mut state = self.state();
            state.metrics.iter().for_each(|metrics| metrics.retries.increment());
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures += 1;
            *failures - 1
        };
        let delay =
            RETRY_MIN.saturating_mul(1_u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX)).min(RETRY_MAX);
        self.add_after(key, delay);
    }

    /// How often [`Queue::retry`] was called for `key` since the last [`Queue::forget`].
    pub fn failures(&self, key: &K) -> u32 {
        self.state().failures.get(key).copied().unwrap_or(0)
    }

    /// `key` succeeded: its next failure waits the shortest time again.
    pub fn forget(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// The next key, or `None` once the queue is closed. Its worker must call [`Queue::done`]. Safe to cancel.
    pub async fn next(&self) -> Option<K> {
        loop {
            let notified = self.0.1.notified();
            let due = {
                let mut state = self.state();
                if state.closed {
                    return None;
                }
                state.promote(time::monotonic());
                if let Some(key) = state.take() {
                    // Another worker may have missed its wake-up while we took the lock.
                    if !state.ready.is_empty() {
                        self.0.1.notify_one();
                    }
                    return Some(key);
                }
                state.later.peek().map(|Reverse((at, _))| *at)
            };
            match due {
                Some(at) => tokio::select! {
                    () = notified => {}
                    () = time::sleep_until(at) => {}
                },
                None => notified.await,
            }
        }
    }

    /// The worker is through with `key`.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        state.finished(key);
        if state.waiting.contains(key) {
            state.make_ready(key.clone());
            drop(state);
            self.0.1.notify_one();
        }
    }

    /// Ends the queue: every worker gets `None`.
    pub fn close(&self) {
        self.state().closed = true;
        self.0.1.notify_waiters();
        self.0.1.notify_one();
    }

    /// How many keys are due now.
    pub fn len(&self) -> usize {
        self.state().ready.len()
    }

    /// Whether none is due.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Queue<K> {
    /// From now on the queue is counted in the process' metrics, under this name.
    pub fn count_as(&self, name: &str) {
        let metrics = QueueMetrics::of(name);
        let mut state = self.state();
        metrics.depth.add(state.ready.len() as f64);
        state.metrics = Some(metrics.clone());
        drop(state);
        let queue = Arc::downgrade(&self.0);
        nauplius_base::metrics::refresh_with(move || {
            let Some(queue) = queue.upgrade() else {
                metrics.unfinished(std::iter::empty());
                return false;
            };
            let state = queue.0.lock().unwrap_or_else(PoisonError::into_inner);
            metrics.unfinished(state.working.values().map(Instant::elapsed));
            true
        });
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if !self.waiting.insert(key.clone()) {
            return;
        }
        if let Some(metrics) = &self.metrics {
            metrics.adds.increment();
            self.since.insert(key.clone(), time::monotonic());
        }
        if !self.working.contains_key(&key) {
            self.make_ready(key);
        }
    }

    fn make_ready(&mut self, key: K) {
        self.metrics.iter().for_each(|metrics| metrics.depth.add(1.0));
        self.ready.push_back(key);
    }

    fn finished(&mut self, key: &K) {
        let Some(since) = self.working.remove(key) else { return };
        self.metrics.iter().for_each(|metrics| metrics.work.observe_since(since));
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if let Some((known, sequence)) = self.due.get(&key) {
            if *known <= at {
                return;
            }
            self.later_keys.remove(sequence);
        }
        self.sequence += 1;
        self.later.push(Reverse((at, self.sequence)));
        self.due.insert(key.clone(), (at, self.sequence));
        self.later_keys.insert(self.sequence, key);
    }

    fn promote(&mut self, now: Instant) {
        while let Some(Reverse((at, sequence))) = self.later.peek().copied() {
            if at > now {
                break;
            }
            self.later.pop();
            if let Some(key) = self.later_keys.remove(&sequence) {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        let since = self.since.remove(&key);
        if let Some(metrics) = &self.metrics {
            metrics.depth.add(-1.0);
            since.iter().for_each(|since| metrics.waited.observe_since(*since));
        }
        self.working.insert(key.clone(), time::monotonic());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_handed_out_once_and_again_when_added_meanwhile() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert!(queue.is_empty());
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn later_keys_come_in_order_and_retries_grow() {
        let queue = Queue::new();
        queue.add_after("late", Duration::from_secs(20));
        queue.add_after("soon", Duration::from_secs(10));
        assert_eq!(queue.next().await, Some("soon"));
        assert_eq!(queue.next().await, Some("late"));
        queue.done(&"late");
        let start = time::monotonic();
        for _ in 0..3 {
            queue.retry("late");
            assert_eq!(queue.next().await, Some("late"));
            queue.done(&"late");
        }
        assert!(start.elapsed() >= Duration::from_millis(35));
        assert_eq!(queue.failures(&"late"), 3);
        queue.forget(&"late");
        assert_eq!(queue.failures(&"late"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_for_the_earliest_time_only() {
        let queue = Queue::new();
        let start = time::monotonic();
        for delay_s in [30, 10, 20] {
            queue.add_after("a", Duration::from_secs(delay_s));
        }
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        assert!(start.elapsed() < Duration::from_secs(11));
        assert!(time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_counted_under_its_name() {
        let queue = Queue::new();
        queue.add("early");
        queue.count_as("tests_of_queues");
        queue.add("a");
        queue.add("a");
        time::sleep(Duration::from_secs(2)).await;
        assert_eq!(queue.next().await, Some("early"));
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        queue.retry("b");
        time::sleep(Duration::from_secs(3)).await;
        let mut text = nauplius_base::metrics::Text::default();
        nauplius_base::metrics::write_process(&mut text);
        let text = text.finish();
        for line in [
            "workqueue_adds_total{name=\"tests_of_queues\"} 2",
            "workqueue_depth{name=\"tests_of_queues\"} 0",
            "workqueue_retries_total{name=\"tests_of_queues\"} 1",
            "workqueue_queue_duration_seconds_count{name=\"tests_of_queues\"} 1",
            "workqueue_queue_duration_seconds_bucket{name=\"tests_of_queues\",le=\"1\"} 0",
            "workqueue_work_duration_seconds_count{name=\"tests_of_queues\"} 0",
            "workqueue_unfinished_work_seconds{name=\"tests_of_queues\"} 6",
            "workqueue_longest_running_processor_seconds{name=\"tests_of_queues\"} 3",
        ] {
            assert!(text.lines().any(|own| own.starts_with(line)), "{line} is not in\n{text}");
        }
        queue.done(&"a");
        assert_eq!(QueueMetrics::of("tests_of_queues").work.count(), 1);
    }

    #[tokio::test]
    async fn close_wakes_every_worker() {
        let queue: Queue<u8> = Queue::new();
        let other = queue.clone();
        let worker = nauplius_base::task::spawn("worker", async move { other.next().await });
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(worker.await.unwrap(), None);
        assert_eq!(queue.next().await, None);
    }
}
