//! The text format of Prometheus. It knows families, labels and buckets, and no metric.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// A document in the making.
#[derive(Default)]
pub(super) struct Text(String);

/// Label names and values, in order.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Text {
    /// Starts a family.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(&format!("# HELP {name} {help}"));
        self.line(&format!("# TYPE {name} {kind}"));
    }

    /// One sample.
    pub(super) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        self.line(&format!("{name}{} {value}", shown(labels, None)));
    }

    /// The samples of a histogram.
    pub(super) fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count.load(Ordering::Relaxed);
            self.line(&format!("{name}_bucket{} {below}", shown(labels, Some(&bound.to_string()))));
        }
        let count = below + histogram.above.load(Ordering::Relaxed);
        self.line(&format!("{name}_bucket{} {count}", shown(labels, Some("+Inf"))));
        let sum = histogram.sum_micro.load(Ordering::Relaxed) as f64 / 1e6;
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, count);
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// The whole document.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

fn shown(labels: Labels<'_>, bound: Option<&str>) -> String {
    if labels.is_empty() && bound.is_none() {
        return String::new();
    }
    let mut text = String::from("{");
    for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
        if text.len() > 1 {
            text.push(',');
        }
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(text, "{name}=\"{escaped}\"").expect("a string takes every write");
    }
    text.push('}');
    text
}

/// How often values fell below bounds.
pub(super) struct Histogram {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    above: AtomicU64,
    sum_micro: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, above: AtomicU64::new(0), sum_micro: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(at).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        // Sums are kept in millionths; what is lost is below what anyone reads.
        self.sum_micro.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_read_as_prometheus_wants_them() {
        let histogram = Histogram::new(&[0.5, 1.0]);
        [0.5, 0.75, 2.0].iter().for_each(|value| histogram.observe(*value));
        let mut text = Text::default();
        text.family("seconds", "histogram", "How long.");
        text.histogram("seconds", &[("verb", "a\"b")], &histogram);
        text.sample("plain", &[], 7);
        let expected = "# HELP seconds How long.\n# TYPE seconds histogram\n\
            seconds_bucket{verb=\"a\\\"b\",le=\"0.5\"} 1\nseconds_bucket{verb=\"a\\\"b\",le=\"1\"} 2\n\
            seconds_bucket{verb=\"a\\\"b\",le=\"+Inf\"} 3\nseconds_sum{verb=\"a\\\"b\"} 3.25\n\
            seconds_count{verb=\"a\\\"b\"} 3\nplain 7\n";
        assert_eq!(text.finish(), expected);
    }
}
