//! What is counted of admission: each plugin, and each of its two steps.

use crate::admission::Operation;
use nauplius_base::metrics::{About, Histogram, OfProcess};
use nauplius_base::time::Instant;

/// Upstream's.
const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

static PLUGINS: OfProcess<Histogram> = OfProcess::new(About {
    name: "apiserver_admission_controller_admission_duration_seconds",
    help: "Admission controller latency in seconds, identified by name and broken out for each operation and type.",
    labels: &["name", "operation", "rejected", "type"],
    bounds: SECONDS,
});
static STEPS: OfProcess<Histogram> = OfProcess::new(About {
    name: "apiserver_admission_step_admission_duration_seconds",
    help: "Admission sub-step latency in seconds, broken out for each operation and type.",
    labels: &["operation", "rejected", "type"],
    bounds: SECONDS,
});

fn shown(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// One of the two steps: `admit` or `validate`.
#[derive(Clone, Copy)]
pub(crate) struct Step(pub &'static str, pub Operation);

impl Step {
    /// Counts one plugin's answer.
    pub fn plugin<T, E>(self, name: &str, outcome: &Result<T, E>, start: Instant) {
        let rejected = if outcome.is_err() { "true" } else { "false" };
        PLUGINS.with(&[name, shown(self.1), rejected, self.0]).observe_since(start);
    }

    /// Counts the answer of all.
    pub fn all<T, E>(self, outcome: &Result<T, E>, start: Instant) {
        let rejected = if outcome.is_err() { "true" } else { "false" };
        STEPS.with(&[shown(self.1), rejected, self.0]).observe_since(start);
    }
}
