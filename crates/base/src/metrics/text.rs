//! The text format of Prometheus. It knows families, labels and buckets, and no metric.

use super::Histogram;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

/// A document in the making.
#[derive(Default)]
pub struct Text(String);

/// Label names and values, in order.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

impl Text {
    /// Starts a family.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(&format!("# HELP {name} {help}"));
        self.line(&format!("# TYPE {name} {kind}"));
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        self.line(&format!("{name}{} {value}", shown(labels, None)));
    }

    /// The samples of a histogram.
    pub fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        self.histogram_from(name, labels, histogram, f64::MIN);
    }

    /// The same with no bounds below `lowest`: what is smaller counts for that one.
    pub fn histogram_from(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram, lowest: f64) {
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count.load(Ordering::Relaxed);
            if *bound < lowest {
                continue;
            }
            self.line(&format!("{name}_bucket{} {below}", shown(labels, Some(&bound.to_string()))));
        }
        let count = below + histogram.above.load(Ordering::Relaxed);
        self.line(&format!("{name}_bucket{} {count}", shown(labels, Some("+Inf"))));
        let sum = f64::from_bits(histogram.sum.load(Ordering::Relaxed));
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, count);
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// The whole document.
    pub fn finish(self) -> String {
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
