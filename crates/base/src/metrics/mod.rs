//! Counters, gauges and histograms by labels, and the families of this process that components fill wherever they run in it. Who
//! serves them, and what they are called upstream, is not known here.

mod text;

pub use text::{Labels, Text};

use crate::time::{Instant, monotonic};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock};

/// Series of one family at most; what comes with other labels then counts without them.
const MAX_SERIES: usize = 4_096;

/// Something that is only counted up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that goes up and down. Keeps the bits of a floating-point number.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Up or down by so many.
    pub fn add(&self, amount: f64) {
        add(&self.0, amount);
    }

    /// To there.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Where it stands.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

fn add(number: &AtomicU64, amount: f64) {
    let added = |bits| Some((f64::from_bits(bits) + amount).to_bits());
    // It is tried until nobody else has changed the number meanwhile, so it cannot fail.
    let _ = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
}

/// How often values fell below bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    above: AtomicU64,
    /// The bits of a floating-point number.
    sum: AtomicU64,
}

impl Histogram {
    /// With these upper bounds, in ascending order.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(at).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        add(&self.sum, value);
    }

    /// Counts the values that another histogram of the same bounds has.
    pub fn observe_all(&self, other: &Self) {
        let own = self.counts.iter().chain([&self.above]);
        for (own, other) in own.zip(other.counts.iter().chain([&other.above])) {
            let more = other.load(Ordering::Relaxed);
            if more > 0 {
                own.fetch_add(more, Ordering::Relaxed);
            }
        }
        add(&self.sum, f64::from_bits(other.sum.load(Ordering::Relaxed)));
    }

    /// Counts the time since `start`, in seconds.
    pub fn observe_since(&self, start: Instant) {
        self.observe(monotonic().saturating_duration_since(start).as_secs_f64());
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        let counts = self.counts.iter().chain([&self.above]);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// What a family's series are made of.
pub trait Metric: Send + Sync + 'static {
    /// What Prometheus calls it.
    const KIND: &'static str;

    /// One that counted nothing yet.
    fn new(bounds: &'static [f64]) -> Self;

    /// Its samples.
    fn write(&self, name: &str, labels: Labels<'_>, text: &mut Text);
}

impl Metric for Counter {
    const KIND: &'static str = "counter";

    fn new(_: &'static [f64]) -> Self {
        Self::default()
    }

    fn write(&self, name: &str, labels: Labels<'_>, text: &mut Text) {
        text.sample(name, labels, self.value());
    }
}

impl Metric for Gauge {
    const KIND: &'static str = "gauge";

    fn new(_: &'static [f64]) -> Self {
        Self::default()
    }

    fn write(&self, name: &str, labels: Labels<'_>, text: &mut Text) {
        text.sample(name, labels, self.value());
    }
}

impl Metric for Histogram {
    const KIND: &'static str = "histogram";

    fn new(bounds: &'static [f64]) -> Self {
        Self::new(bounds)
    }

    fn write(&self, name: &str, labels: Labels<'_>, text: &mut Text) {
        text.histogram(name, labels, self);
    }
}

/// What a family is: its name, what it is for, and the names of its labels.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Upstream's name.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// In alphabetical order.
    pub labels: &'static [&'static str],
    /// Of histograms.
    pub bounds: &'static [f64],
}

/// The values of a series' labels, and the series.
type Series<M> = (Vec<String>, Arc<M>);

/// Metrics with one name, apart by labels.
pub struct Family<M> {
    about: About,
    /// By their labels, so that one is found without a key being made.
    series: RwLock<Vec<Series<M>>>,
}

fn place<M>(all: &[Series<M>], values: &[&str]) -> Result<usize, usize> {
    all.binary_search_by(|(own, _)| own.iter().map(String::as_str).cmp(values.iter().copied()))
}

impl<M: Metric> Family<M> {
    /// A family without series.
    pub const fn new(about: About) -> Self {
        Self { about, series: RwLock::new(Vec::new()) }
    }

    /// The series with these values of the labels.
    pub fn with(&self, values: &[&str]) -> Arc<M> {
        debug_assert_eq!(values.len(), self.about.labels.len(), "{}", self.about.name);
        let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Ok(index) = place(&all, values) {
            return Arc::clone(&all[index].1);
        }
        drop(all);
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let nothing = vec![""; values.len()];
        let values = if all.len() < MAX_SERIES { values } else { &nothing };
        match place(&all, values) {
            Ok(index) => Arc::clone(&all[index].1),
            Err(index) => {
                let series = Arc::new(M::new(self.about.bounds));
                let values = values.iter().map(|value| (*value).to_owned()).collect();
                all.insert(index, (values, Arc::clone(&series)));
                series
            }
        }
    }

    /// Writes the family, if it has series.
    pub fn write(&self, text: &mut Text) {
        let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return;
        }
        text.family(self.about.name, M::KIND, self.about.help);
        for (values, series) in &*all {
            let names = self.about.labels.iter().copied();
            let labels: Vec<_> = names.zip(values.iter().map(String::as_str)).collect();
            series.write(self.about.name, &labels, text);
        }
    }
}

/// What can be written into a document.
trait Written: Send + Sync {
    fn name(&self) -> &'static str;
    fn write_into(&self, text: &mut Text);
}

impl<M: Metric> Written for Family<M> {
    fn name(&self) -> &'static str {
        self.about.name
    }

    fn write_into(&self, text: &mut Text) {
        self.write(text);
    }
}

static OF_PROCESS: Mutex<Vec<&'static dyn Written>> = Mutex::new(Vec::new());

/// A family of the whole process: known to [`write_process`] from its first use on.
pub struct OfProcess<M: Metric> {
    family: Family<M>,
    known: Once,
}

impl<M: Metric> OfProcess<M> {
    /// A family without series.
    pub const fn new(about: About) -> Self {
        Self { family: Family::new(about), known: Once::new() }
    }

    /// The series with these values of the labels.
    pub fn with(&'static self, values: &[&str]) -> Arc<M> {
        self.known.call_once(|| {
            OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner).push(&self.family);
        });
        self.family.with(values)
    }
}

type Refresh = Box<dyn Fn() -> bool + Send>;

static REFRESHED: Mutex<Vec<Refresh>> = Mutex::new(Vec::new());

/// Calls `refresh` before the families of the process are written, so that it can set what only the moment knows; until it returns
/// false, because what it looked at is gone.
pub fn refresh_with(refresh: impl Fn() -> bool + Send + 'static) {
    REFRESHED.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(refresh));
}

/// Writes all families of the process, by name.
pub fn write_process(text: &mut Text) {
    REFRESHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|refresh| refresh());
    let mut families = OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    families.sort_by_key(|family| family.name());
    families.iter().for_each(|family| family.write_into(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About = About { name: "things", help: "Things.", labels: &["a", "b"], bounds: &[] };

    #[test]
    fn series_are_apart_by_labels_and_bounded() {
        let family: Family<Counter> = Family::new(ABOUT);
        family.with(&["1", ""]).increment();
        family.with(&["1", ""]).increment();
        family.with(&["0", "x"]).increment();
        let mut text = Text::default();
        family.write(&mut text);
        let expected = "# HELP things Things.\n# TYPE things counter\nthings{a=\"0\",b=\"x\"} 1\nthings{a=\"1\",b=\"\"} 2\n";
        assert_eq!(text.finish(), expected);
        (0..2 * MAX_SERIES).for_each(|number| family.with(&[&number.to_string(), "y"]).increment());
        assert_eq!(family.series.read().unwrap().len(), MAX_SERIES + 1);
        assert!(family.with(&["", ""]).value() > 1_000);
    }

    #[test]
    fn families_of_the_process_are_written_once() {
        static GAUGE: OfProcess<Gauge> = OfProcess::new(About { name: "own_gauge", labels: &[], ..ABOUT });
        GAUGE.with(&[]).set(5.5);
        refresh_with(|| {
            GAUGE.with(&[]).add(-2.5);
            false
        });
        write_process(&mut Text::default());
        let mut text = Text::default();
        write_process(&mut text);
        let text = text.finish();
        assert_eq!(text.matches("\nown_gauge 3\n").count(), 1, "{text}");
    }
}
