//! `/metrics` under upstream's names: requests by verb, resource and code, how long they took and how large their answers were, what is
//! in flight, events of watches, how many objects there are, and the process itself.

mod process;
mod text;

use crate::request::Call;
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use crate::version::GIT_VERSION;
use http::StatusCode;
use http_body::Body as _;
use nauplius_base::time::{Instant, monotonic};
use nauplius_kinds::Kind;
use nauplius_meta::gvk::GroupVersionResource;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use text::{Histogram, Text};

/// Series of requests that are kept; beyond them requests count under the last labels' catch-all.
const MAX_SERIES: usize = 4_096;

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
struct Labels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    dry_run: bool,
    code: u16,
}

/// Upper bounds of how long requests take, in seconds; upstream's.
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// Upper bounds of answers, in bytes; upstream's.
const BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// What is kept of requests with the same labels.
struct Series {
    count: AtomicU64,
    seconds: Histogram,
    bytes: Histogram,
}

impl Default for Series {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), seconds: Histogram::new(SECONDS), bytes: Histogram::new(BYTES) }
    }
}

/// Counts of what was answered.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: RwLock<HashMap<Labels, Arc<Series>>>,
    events: RwLock<HashMap<GroupVersionResource, Arc<AtomicU64>>>,
    /// Reads and writes that were refused because too many were in flight.
    dropped: [AtomicU64; 2],
}

impl Metrics {
    /// Counts one answered request.
    pub(crate) fn answered(&self, server: &ApiServer, call: &Call, started: Instant, reply: &Reply) {
        let series = self.series(labels(server, call, reply.status().as_u16()));
        series.count.fetch_add(1, Ordering::Relaxed);
        if crate::chain::is_long_running(call) {
            return;
        }
        series.seconds.observe(monotonic().saturating_duration_since(started).as_secs_f64());
        // Lists that stream out are of unknown size and not counted.
        if let (Some(size), "get" | "list") = (reply.body().size_hint().exact(), &*call.info.verb) {
            series.bytes.observe(size as f64);
        }
    }

    /// Counts one request that was refused unseen.
    pub(crate) fn dropped(&self, call: &Call) {
        let write = !matches!(&*call.info.verb, "get" | "list" | "watch");
        self.dropped[usize::from(write)].fetch_add(1, Ordering::Relaxed);
    }

    /// The counter of the events that watches of a resource were sent.
    pub(crate) fn events(&self, resource: GroupVersionResource) -> Arc<AtomicU64> {
        let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(events.entry(resource).or_default())
    }

    fn series(&self, labels: Labels) -> Arc<Series> {
        if let Some(series) = self.requests.read().unwrap_or_else(PoisonError::into_inner).get(&labels) {
            return Arc::clone(series);
        }
        let mut requests = self.requests.write().unwrap_or_else(PoisonError::into_inner);
        let labels = if requests.len() < MAX_SERIES { labels } else { Labels::default() };
        Arc::clone(requests.entry(labels).or_default())
    }

    fn counted(&self) -> Vec<(Labels, Arc<Series>)> {
        let requests = self.requests.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> =
            requests.iter().map(|(labels, series)| (labels.clone(), Arc::clone(series))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

/// Paths that name nothing we serve count together, so that a scan makes no series.
fn labels(server: &ApiServer, call: &Call, code: u16) -> Labels {
    let info = &call.info;
    let has = |kind: &dyn Kind| {
        let descriptor = kind.descriptor();
        descriptor.group == info.group
            && descriptor.plural == info.resource
            && descriptor.version(&info.version).is_some()
            && (info.subresource.is_empty() || descriptor.has_subresource(&info.subresource))
    };
    let served = server.served();
    let stored = served.version(&info.group, &info.version, &info.resource);
    let served = match stored {
        Some(resource) => has(&*resource.kind),
        // Reviews and the like have no stored resource.
        None => server.config.kinds.iter().any(|kind| has(&**kind)),
    };
    if !served {
        return Labels { verb: verb(&info.verb), code, ..Labels::default() };
    }
    let scope = match (info.name.is_empty(), info.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    };
    Labels {
        verb: verb(&info.verb),
        group: info.group.clone(),
        version: info.version.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        scope,
        dry_run: call.query.get("dryRun").is_some(),
        code,
    }
}

fn verb(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "proxy" => "CONNECT",
        _ => "other",
    }
}

/// Answers `/metrics`.
pub(crate) fn serve(server: &ApiServer) -> Reply {
    let mut text = Text::default();
    in_flight(server, &mut text);
    requests(server, &mut text);
    events(server, &mut text);
    objects(server, &mut text);
    build(&mut text);
    process::write(&mut text);
    respond::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.finish())
}

impl Labels {
    /// As upstream orders them, without the code.
    fn pairs(&self) -> [(&'static str, &str); 8] {
        [
            ("component", "apiserver"),
            ("dry_run", if self.dry_run { "All" } else { "" }),
            ("group", &self.group),
            ("resource", &self.resource),
            ("scope", self.scope),
            ("subresource", &self.subresource),
            ("verb", self.verb),
            ("version", &self.version),
        ]
    }
}

fn requests(server: &ApiServer, text: &mut Text) {
    let counted = server.metrics.counted();
    let name = "apiserver_request_total";
    text.family(name, "counter", "Requests answered, by verb, resource and code.");
    for (labels, series) in &counted {
        let code = labels.code.to_string();
        let labels: Vec<_> = std::iter::once(("code", &*code)).chain(labels.pairs()).collect();
        text.sample(name, &labels, series.count.load(Ordering::Relaxed));
    }
    // Durations and sizes do not tell codes apart.
    let name = "apiserver_request_duration_seconds";
    text.family(name, "histogram", "How long requests took, by verb and resource.");
    for (labels, series) in &counted {
        if labels.code < 300 && !matches!(labels.verb, "WATCH" | "CONNECT") {
            text.histogram(name, &labels.pairs(), &series.seconds);
        }
    }
    let name = "apiserver_response_sizes";
    text.family(name, "histogram", "How large answers to reads were, in bytes.");
    for (labels, series) in &counted {
        if labels.code < 300 && matches!(labels.verb, "GET" | "LIST") {
            let pairs = labels.pairs();
            let pairs: Vec<_> = pairs.iter().copied().filter(|(name, _)| *name != "dry_run").collect();
            text.histogram(name, &pairs, &series.bytes);
        }
    }
}

fn in_flight(server: &ApiServer, text: &mut Text) {
    let (reads, writes, long_running) = server.in_flight.current();
    let name = "apiserver_current_inflight_requests";
    text.family(name, "gauge", "Requests being answered, by kind.");
    text.sample(name, &[("request_kind", "mutating")], writes);
    text.sample(name, &[("request_kind", "readOnly")], reads);
    let name = "apiserver_longrunning_requests";
    text.family(name, "gauge", "Watches, logs, exec and the like being answered.");
    text.sample(name, &[("component", "apiserver")], long_running);
    let name = "apiserver_dropped_requests_total";
    text.family(name, "counter", "Requests refused because too many were being answered, by kind.");
    let [reads, writes] = &server.metrics.dropped;
    text.sample(name, &[("request_kind", "mutating")], writes.load(Ordering::Relaxed));
    text.sample(name, &[("request_kind", "readOnly")], reads.load(Ordering::Relaxed));
}

fn events(server: &ApiServer, text: &mut Text) {
    let events = server.metrics.events.read().unwrap_or_else(PoisonError::into_inner);
    let mut counted: Vec<_> = events.iter().map(|(of, count)| (of, count.load(Ordering::Relaxed))).collect();
    counted.sort_by(|a, b| (&a.0.group, &a.0.resource).cmp(&(&b.0.group, &b.0.resource)));
    let name = "apiserver_watch_events_total";
    text.family(name, "counter", "Events sent to watches, by resource.");
    for (of, count) in counted {
        text.sample(
            name,
            &[("group", &of.group), ("resource", &of.resource), ("version", &of.version)],
            count,
        );
    }
}

fn objects(server: &ApiServer, text: &mut Text) {
    let served = server.served();
    let mut counts: Vec<(String, String, String, usize)> = served
        .kinds()
        .iter()
        .map(|kind| kind.descriptor())
        .filter(|descriptor| descriptor.stored_as.is_none())
        .filter_map(|descriptor| {
            let cache = server.caches().resource(&descriptor.group, &descriptor.plural)?;
            let (group, plural) = (descriptor.group.to_string(), descriptor.plural.to_string());
            Some((descriptor.qualified(), group, plural, cache.snapshot().0.len()))
        })
        .collect();
    counts.sort();
    // A custom resource has a kind for each version.
    counts.dedup();
    let name = "apiserver_resource_objects";
    text.family(name, "gauge", "Objects stored, by group and resource.");
    for (_, group, resource, count) in &counts {
        text.sample(name, &[("group", group), ("resource", resource)], count);
    }
    let name = "apiserver_storage_objects";
    text.family(name, "gauge", "Objects stored, by resource; replaced by apiserver_resource_objects.");
    for (qualified, _, _, count) in &counts {
        text.sample(name, &[("resource", qualified)], count);
    }
}

fn build(text: &mut Text) {
    let name = "kubernetes_build_info";
    text.family(name, "gauge", "A metric with a constant '1' value labeled by what was built.");
    text.sample(name, &[("git_version", GIT_VERSION), ("major", "1"), ("minor", "37")], 1);
}
