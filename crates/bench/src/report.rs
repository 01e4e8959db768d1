//! What was measured, as lines for people and as JSON.

use crate::load::Load;
use crate::process::Cost;
use serde::Serialize;

/// One measurement.
#[derive(Debug, Clone, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// `create configmaps`, `list pods 5000 whole json`, ...
    pub what: String,
    /// Clients or watchers at once.
    pub clients: usize,
    /// Requests or deliveries.
    pub count: usize,
    /// How long it all took.
    pub seconds: f64,
    /// Requests or deliveries per second.
    pub per_second: f64,
    /// Half of them took at most this.
    pub p50_ms: f64,
    /// Of a hundred of them, 99 took at most this.
    pub p99_ms: f64,
    /// Bytes of the bodies that came back, per request.
    pub bytes_each: f64,
    /// CPU seconds of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_s: Option<f64>,
    /// The same per request or delivery, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_ms_each: Option<f64>,
    /// The server's peak memory meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_peak_mib: Option<f64>,
    /// What a reader must know, for example that the server refused this.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Row {
    /// A row of requests.
    pub fn of(what: impl Into<String>, clients: usize, load: &Load, cost: Option<Cost>) -> Self {
        let count = load.latencies_ms.len();
        #[allow(clippy::cast_precision_loss)] // Counts are small.
        let (number, bytes) = (count.max(1) as f64, load.bytes as f64);
        let each = |cost: Cost| cost.cpu_s * 1e3 / number;
        Self {
            what: what.into(),
            clients,
            count,
            seconds: rounded(load.seconds),
            per_second: rounded(if load.seconds > 0.0 { number / load.seconds } else { 0.0 }),
            p50_ms: rounded(load.percentile(0.5)),
            p99_ms: rounded(load.percentile(0.99)),
            bytes_each: (bytes / number).round(),
            server_cpu_s: cost.map(|cost| rounded(cost.cpu_s)),
            server_cpu_ms_each: cost.map(|cost| rounded(each(cost))),
            server_peak_mib: cost.map(|cost| cost.peak_mib.round()),
            note: String::new(),
        }
    }

    /// A measurement that the server refused.
    pub fn refused(what: impl Into<String>, clients: usize, reason: impl Into<String>) -> Self {
        Self { what: what.into(), clients, note: reason.into(), ..Self::default() }
    }

    /// The headings of [`Row::line`].
    pub fn headings() -> String {
        format!(
            "{:<44} {:>7} {:>8} {:>10} {:>9} {:>9} {:>10} {:>10} {:>8}",
            "what", "clients", "count", "per s", "p50 ms", "p99 ms", "bytes", "cpu ms", "peak MiB"
        )
    }

    /// One line for people.
    pub fn line(&self) -> String {
        if self.count == 0 {
            return format!("{:<44} {:>7} {}", self.what, self.clients, self.note);
        }
        let shown = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
        let line = format!(
            "{:<44} {:>7} {:>8} {:>10.1} {:>9.2} {:>9.2} {:>10} {:>10} {:>8}",
            self.what,
            self.clients,
            self.count,
            self.per_second,
            self.p50_ms,
            self.p99_ms,
            self.bytes_each,
            shown(self.server_cpu_ms_each),
            shown(self.server_peak_mib)
        );
        format!("{line} {}", self.note).trim_end().to_owned()
    }
}

/// Three decimals.
fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

/// Everything that was measured of one server.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its address.
    pub server: String,
    /// What `/version` calls it.
    pub version: String,
    /// The processes whose CPU time and memory are reported.
    pub server_pids: Vec<u32>,
    /// The server's memory before anything was asked of it.
    pub rest_mib: f64,
    /// The measurements.
    pub rows: Vec<Row>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_a_request_cost() {
        let load = Load { latencies_ms: vec![1.0, 2.0, 3.0, 100.0], seconds: 2.0, bytes: 4_000 };
        let row = Row::of("get", 2, &load, Some(Cost { cpu_s: 0.5, peak_mib: 10.4 }));
        assert_eq!((row.per_second, row.p50_ms, row.p99_ms), (2.0, 2.0, 100.0));
        assert_eq!(
            (row.bytes_each, row.server_cpu_ms_each, row.server_peak_mib),
            (1_000.0, Some(125.0), Some(10.0))
        );
        assert!(serde_json::to_string(&row).unwrap().contains("\"serverCpuMsEach\":125.0"));
        assert!(Row::refused("apply", 1, "refused with 415").line().ends_with("refused with 415"));
    }
}
