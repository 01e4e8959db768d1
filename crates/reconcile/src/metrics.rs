//! What is counted of work queues, under upstream's names.

use nauplius_base::metrics::{About, Counter, Gauge, Histogram, OfProcess};
use std::sync::Arc;
use std::time::Duration;

/// Upstream's, from 10 ns to 1,000 s.
const SECONDS: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e3];

const fn about(name: &'static str, help: &'static str) -> About {
    About { name, help, labels: &["name"], bounds: SECONDS }
}

static DEPTH: OfProcess<Gauge> = OfProcess::new(about("workqueue_depth", "Current depth of workqueue"));
static ADDS: OfProcess<Counter> =
    OfProcess::new(about("workqueue_adds_total", "Total number of adds handled by workqueue"));
static WAITED: OfProcess<Histogram> = OfProcess::new(about(
    "workqueue_queue_duration_seconds",
    "How long in seconds an item stays in workqueue before being requested.",
));
static WORK: OfProcess<Histogram> = OfProcess::new(about(
    "workqueue_work_duration_seconds",
    "How long in seconds processing an item from workqueue takes.",
));
static UNFINISHED: OfProcess<Gauge> = OfProcess::new(about(
    "workqueue_unfinished_work_seconds",
    "How many seconds of work is in progress and hasn't been observed by work_duration.",
));
static LONGEST: OfProcess<Gauge> = OfProcess::new(about(
    "workqueue_longest_running_processor_seconds",
    "How many seconds has the longest running processor for workqueue been running.",
));
static RETRIES: OfProcess<Counter> =
    OfProcess::new(about("workqueue_retries_total", "Total number of retries handled by workqueue"));

/// The series of one queue.
#[derive(Clone)]
pub(crate) struct QueueMetrics {
    pub depth: Arc<Gauge>,
    pub adds: Arc<Counter>,
    pub waited: Arc<Histogram>,
    pub work: Arc<Histogram>,
    pub retries: Arc<Counter>,
    unfinished: Arc<Gauge>,
    longest: Arc<Gauge>,
}

impl QueueMetrics {
    pub fn of(name: &str) -> Self {
        Self {
            depth: DEPTH.with(&[name]),
            adds: ADDS.with(&[name]),
            waited: WAITED.with(&[name]),
            work: WORK.with(&[name]),
            retries: RETRIES.with(&[name]),
            unfinished: UNFINISHED.with(&[name]),
            longest: LONGEST.with(&[name]),
        }
    }

    /// Notes for how long keys have been worked on.
    pub fn unfinished(&self, running: impl Iterator<Item = Duration>) {
        let (mut sum, mut longest) = (Duration::ZERO, Duration::ZERO);
        for one in running {
            sum += one;
            longest = longest.max(one);
        }
        self.unfinished.set(sum.as_secs_f64());
        self.longest.set(longest.as_secs_f64());
    }
}
