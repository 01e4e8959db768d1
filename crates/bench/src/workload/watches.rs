//! Events to many watchers at once: when the last one has the last event, and how long after its write was sent an event arrives.

use crate::error::BenchError;
use crate::load::{Budget, Load, closed_loop};
use crate::objects::{config_map, name};
use crate::options::Resource;
use crate::report::Row;
use crate::run::Bench;
use crate::wire::{Ask, Wire, patient_piece};
use bytes::Bytes;
use http::Method;
use hyper::body::Incoming;
use memchr::{memchr, memmem};
use nauplius_base::time::{Instant, monotonic, timeout};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The moment of sending stands behind this, in microseconds since the run began.
const MARK: &[u8] = b"\"mark\":\"sent-";
const DIGITS: usize = 12;

pub async fn run(bench: &mut Bench<'_>) -> Result<(), BenchError> {
    let writers = bench.args.writers.max(1);
    bench.fill(Resource::Configmaps, "watches", 0, writers).await?;
    for watchers in bench.args.watchers.clone() {
        let wire = Arc::new(bench.target.connect(watchers).await?);
        let writing = bench.target.connect(writers).await?;
        let events = bench.args.events / writers * writers;
        let collection = bench.collection(Resource::Configmaps);
        let meter = bench.meter();
        let origin = monotonic();
        let mut open = open(&wire, watchers, &collection, events, origin).await?;
        let opened_s = origin.elapsed().as_secs_f64();
        let began = monotonic();
        write(&writing, writers, events, &collection, origin).await?;
        let lags_ms = gather(&mut open).await?;
        let load = Load { latencies_ms: lags_ms, seconds: began.elapsed().as_secs_f64(), bytes: 0 };
        let mut row = Row::of(format!("watch x {events} events"), watchers, &load, meter.read());
        row.note = format!("last delivery after {:.2} s, opened in {opened_s:.2} s", load.seconds);
        bench.row(row);
    }
    bench.remove(Resource::Configmaps).await
}

type Lags = Result<Vec<f64>, BenchError>;

/// Opens the watches from the revision that is there; each returns its lags when it has seen every event.
async fn open(
    wire: &Arc<Wire>,
    watchers: usize,
    collection: &str,
    events: usize,
    origin: Instant,
) -> Result<JoinSet<Lags>, BenchError> {
    let ask = from_now(wire, collection).await?;
    let mut open = JoinSet::new();
    for client in 0..watchers {
        let body = wire.good(client, &ask).await?.into_body();
        let ask = ask.clone();
        open.spawn(async move { read(body, &ask, events, origin).await });
    }
    Ok(open)
}

/// A watch of what changes from now on.
pub async fn from_now(wire: &Wire, collection: &str) -> Result<Ask, BenchError> {
    let list = wire.text(0, &Ask::get(format!("{collection}?limit=1"))).await?;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap_or_default(); // Then the watch is refused.
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    Ok(Ask::get(format!("{collection}?watch=1&timeoutSeconds=1800&resourceVersion={version}")))
}

async fn write(
    wire: &Wire,
    writers: usize,
    events: usize,
    collection: &str,
    origin: Instant,
) -> Result<Load, BenchError> {
    let budget = Budget { time: super::PATIENCE, requests: events };
    closed_loop(writers, budget, |client, _| async move {
        let name = name("watches", client);
        let path = format!("{collection}/{name}");
        wire.ok(client, &Ask::new(Method::PUT, path, config_map(&name, client, &mark(origin)))).await
    })
    .await
}

async fn gather(open: &mut JoinSet<Lags>) -> Lags {
    let all = async {
        let mut lags_ms = Vec::new();
        while let Some(ended) = open.join_next().await {
            let reason = |error: tokio::task::JoinError| error.to_string();
            let ended = ended
                .map_err(|error| BenchError::Broken { request: "WATCH".to_owned(), reason: reason(error) })?;
            lags_ms.extend(ended?);
        }
        Ok(lags_ms)
    };
    let late = || BenchError::Broken { request: "WATCH".to_owned(), reason: "events are missing".to_owned() };
    timeout(super::PATIENCE, all).await.unwrap_or_else(|_| Err(late()))
}

async fn read(mut body: Incoming, ask: &Ask, events: usize, origin: Instant) -> Lags {
    let mut lines = Lines::default();
    let mut lags_ms = Vec::with_capacity(events);
    while lags_ms.len() < events {
        let ended = BenchError::WatchEnded { seen: lags_ms.len(), wanted: events };
        let data = patient_piece(&mut body, ask).await?.ok_or(ended)?;
        let now = origin.elapsed();
        lines.take(&data, |line| lags_ms.extend(lag_of(line, now)));
    }
    Ok(lags_ms)
}

/// How long ago the write of an event was sent; `None` for events of others.
pub fn lag_of(line: &[u8], now: Duration) -> Option<f64> {
    Some(lag_ms(now, sent_at(line)?))
}

fn lag_ms(now: Duration, sent: Duration) -> f64 {
    now.saturating_sub(sent).as_secs_f64() * 1e3
}

/// What a write carries, so that its event tells when it was sent.
pub fn mark(origin: Instant) -> String {
    format!("sent-{:0DIGITS$}", origin.elapsed().as_micros())
}

/// When the write of an event was sent; `None` for events of others.
fn sent_at(line: &[u8]) -> Option<Duration> {
    let start = memmem::find(line, MARK)? + MARK.len();
    let digits = std::str::from_utf8(line.get(start..start + DIGITS)?).ok()?;
    Some(Duration::from_micros(digits.parse().ok()?))
}

/// Cuts a stream into lines; only what a piece leaves unfinished is copied.
#[derive(Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Shows each line that ends within `data`.
    pub fn take(&mut self, data: &Bytes, mut each: impl FnMut(&[u8])) {
        let mut data = &data[..];
        while let Some(end) = memchr(b'\n', data) {
            if self.rest.is_empty() {
                each(&data[..end]);
            } else {
                self.rest.extend_from_slice(&data[..end]);
                each(&self.rest);
                self.rest.clear();
            }
            data = &data[end + 1..];
        }
        self.rest.extend_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_wherever_the_stream_is_cut() {
        let stream =
            b"{\"a\":{\"mark\":\"sent-000000001000\"}}\n{\"mark\":\"sent-000000002000\"}\n{\"x\":1}\n";
        for cut in 0..stream.len() {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                lines.take(&Bytes::copy_from_slice(part), |line| seen.extend(sent_at(line)));
            }
            assert_eq!(seen, [Duration::from_millis(1), Duration::from_millis(2)], "cut at {cut}");
        }
        assert_eq!(lag_ms(Duration::from_millis(3), Duration::from_millis(1)), 2.0);
    }
}
