//! `/metrics` under upstream's names: requests by verb, resource and code, how long they took and how large their answers were, what is
//! in flight, events of watches, how many objects there are, what other components of the process count, and the process itself.

pub(crate) mod access;
pub(crate) mod admission;
mod process;
pub(crate) mod storage;

pub(crate) use process::started as process_started;

use crate::body;
use crate::request::Call;
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use crate::version::GIT_VERSION;
use http::StatusCode;
use http_body::Body as _;
use nauplius_base::metrics::{Counter, Gauge, Histogram, Text, write_process};
use nauplius_base::time::{Instant, timeout};
use nauplius_kinds::Kind;
use nauplius_meta::gvk::GroupVersionResource;
use nauplius_store::StoreError;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// How long the store may take to say how large it is; upstream's.
const SIZE_PATIENCE: Duration = Duration::from_secs(1);
/// The media type of Prometheus' text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The media types of server-side apply begin so.
const APPLY: &str = "application/apply-patch+";
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
}

/// Upper bounds of how long requests take, in seconds; upstream's.
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// The lowest bound that upstream's measure of service has.
const LOWEST_SLI_SECONDS: f64 = 0.05;
/// Upper bounds of answers, in bytes; upstream's.
const BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Upper bounds of a watch's events, in bytes; upstream's.
const EVENT_BYTES: &[f64] = &[1_024.0, 2_048.0, 4_096.0, 8_192.0, 16_384.0, 32_768.0, 65_536.0, 131_072.0];

/// What is kept of requests with the same labels.
struct Series {
    codes: Mutex<BTreeMap<u16, u64>>,
    /// Of requests that the server gave up or refused unseen.
    terminated: Mutex<BTreeMap<u16, u64>>,
    seconds: Histogram,
    bytes: Histogram,
    lasting: Arc<Gauge>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            codes: Mutex::default(),
            terminated: Mutex::default(),
            seconds: Histogram::new(SECONDS),
            bytes: Histogram::new(BYTES),
            lasting: Arc::default(),
        }
    }
}

/// What the watches of a resource were sent.
pub(crate) struct Events {
    count: Counter,
    bytes: Histogram,
}

impl Default for Events {
    fn default() -> Self {
        Self { count: Counter::default(), bytes: Histogram::new(EVENT_BYTES) }
    }
}

impl Events {
    /// Counts one whose object is so large.
    pub(crate) fn add(&self, bytes: usize) {
        self.count.add(1);
        self.bytes.observe(bytes as f64);
    }

    /// Counts all that others have.
    pub(crate) fn add_all(&self, others: &Self) {
        self.count.add(others.count.value());
        self.bytes.observe_all(&others.bytes);
    }
}

/// Counts of what was answered.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: RwLock<HashMap<Labels, Arc<Series>>>,
    events: RwLock<HashMap<GroupVersionResource, Arc<Events>>>,
    /// Reads and writes that were refused because too many were in flight.
    dropped: [Counter; 2],
    /// TLS handshakes that failed.
    pub handshake_errors: Counter,
}

impl Metrics {
    /// Counts one answered request.
    pub(crate) fn answered(&self, server: &ApiServer, call: &Call, started: Instant, reply: &Reply) {
        let series = self.series(labels(server, call));
        count(&series.codes, reply.status());
        if crate::chain::is_long_running(call) {
            return;
        }
        series.seconds.observe_since(started);
        // Lists that stream out are of unknown size and not counted.
        if let (Some(size), "get" | "list") = (reply.body().size_hint().exact(), &*call.info.verb) {
            series.bytes.observe(size as f64);
        }
    }

    /// Counts a request that was given up, or refused because of what else goes on.
    pub(crate) fn terminated(&self, server: &ApiServer, call: &Call, code: StatusCode) {
        let labels = Labels { dry_run: false, ..labels(server, call) };
        count(&self.series(labels).terminated, code);
    }

    /// How many requests last that are like this one.
    pub(crate) fn lasting(&self, server: &ApiServer, call: &Call) -> Arc<Gauge> {
        let labels = Labels { dry_run: false, ..labels(server, call) };
        Arc::clone(&self.series(labels).lasting)
    }

    /// Counts one request that was refused unseen.
    pub(crate) fn dropped(&self, call: &Call) {
        let write = !matches!(&*call.info.verb, "get" | "list" | "watch");
        self.dropped[usize::from(write)].increment();
    }

    /// The counter of the events that watches of a resource were sent.
    pub(crate) fn events(&self, resource: GroupVersionResource) -> Arc<Events> {
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

fn count(codes: &Mutex<BTreeMap<u16, u64>>, code: StatusCode) {
    *codes.lock().unwrap_or_else(PoisonError::into_inner).entry(code.as_u16()).or_default() += 1;
}

/// Paths that name nothing we serve count together, so that a scan makes no series.
fn labels(server: &ApiServer, call: &Call) -> Labels {
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
        return Labels { verb: verb(call), ..Labels::default() };
    }
    let scope = match (info.name.is_empty(), info.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    };
    Labels {
        verb: verb(call),
        group: info.group.clone(),
        version: info.version.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        scope,
        dry_run: call.query.get("dryRun").is_some(),
    }
}

fn verb(call: &Call) -> &'static str {
    if matches!(&*call.info.subresource, "exec" | "attach" | "portforward" | "proxy") {
        return "CONNECT";
    }
    match &*call.info.verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if body::media_type(&call.parts.headers).is_some_and(|own| own.starts_with(APPLY)) => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "proxy" => "CONNECT",
        _ => "other",
    }
}

/// Answers `/metrics`.
pub(crate) async fn serve(server: &ApiServer) -> Reply {
    let mut text = Text::default();
    let size = timeout(SIZE_PATIENCE, server.config.store.size_bytes()).await;
    in_flight(server, &mut text);
    requests(server, &mut text);
    events(server, &mut text);
    objects(server, &mut text);
    storage_size(size, &mut text);
    write_process(&mut text);
    build(&mut text);
    process::write(&mut text);
    respond::bytes(StatusCode::OK, CONTENT_TYPE, text.finish())
}

impl Labels {
    /// The same for what does not tell trials apart.
    fn without_dry_run(&self) -> Vec<(&'static str, &str)> {
        self.pairs().into_iter().filter(|(name, _)| *name != "dry_run").collect()
    }

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
        for (code, count) in &*series.codes.lock().unwrap_or_else(PoisonError::into_inner) {
            let code = code.to_string();
            let labels: Vec<_> = std::iter::once(("code", &*code)).chain(labels.pairs()).collect();
            text.sample(name, &labels, count);
        }
    }
    let name = "apiserver_request_terminations_total";
    text.family(name, "counter", "Requests that the server gave up, or refused to protect itself.");
    for (labels, series) in counted.iter().filter(|(labels, _)| !labels.dry_run) {
        for (code, count) in &*series.terminated.lock().unwrap_or_else(PoisonError::into_inner) {
            let code = code.to_string();
            let labels: Vec<_> = std::iter::once(("code", &*code)).chain(labels.without_dry_run()).collect();
            text.sample(name, &labels, count);
        }
    }
    // Durations and sizes do not tell codes apart.
    let timed = || counted.iter().filter(|(_, series)| series.seconds.count() > 0);
    // Where trials are not told apart, they are left out.
    let real = |labels: &Labels| !labels.dry_run;
    let name = "apiserver_request_duration_seconds";
    text.family(name, "histogram", "How long requests took, by verb and resource.");
    for (labels, series) in timed() {
        text.histogram(name, &labels.pairs(), &series.seconds);
    }
    let name = "apiserver_request_sli_duration_seconds";
    text.family(name, "histogram", "The same without what others than the server took.");
    for (labels, series) in timed().filter(|(labels, _)| real(labels)) {
        text.histogram_from(name, &labels.without_dry_run(), &series.seconds, LOWEST_SLI_SECONDS);
    }
    let name = "apiserver_response_sizes";
    text.family(name, "histogram", "How large answers to reads were, in bytes.");
    for (labels, series) in counted.iter().filter(|(labels, series)| real(labels) && series.bytes.count() > 0)
    {
        text.histogram(name, &labels.without_dry_run(), &series.bytes);
    }
    let name = "apiserver_longrunning_requests";
    text.family(name, "gauge", "Watches, logs, exec and the like being answered.");
    for (labels, series) in counted.iter().filter(|(labels, _)| real(labels)) {
        if crate::chain::lasts(&labels.verb.to_ascii_lowercase(), &labels.subresource) {
            text.sample(name, &labels.without_dry_run(), series.lasting.value());
        }
    }
}

fn in_flight(server: &ApiServer, text: &mut Text) {
    let (reads, writes) = server.in_flight.current();
    let name = "apiserver_current_inflight_requests";
    text.family(name, "gauge", "Requests being answered, by kind.");
    text.sample(name, &[("request_kind", "mutating")], writes);
    text.sample(name, &[("request_kind", "readOnly")], reads);
    let name = "apiserver_dropped_requests_total";
    text.family(name, "counter", "Requests refused because too many were being answered, by kind.");
    let [reads, writes] = &server.metrics.dropped;
    text.sample(name, &[("request_kind", "mutating")], writes.value());
    text.sample(name, &[("request_kind", "readOnly")], reads.value());
    let name = "apiserver_tls_handshake_errors_total";
    text.family(name, "counter", "TLS handshakes that failed.");
    text.sample(name, &[], server.metrics.handshake_errors.value());
}

fn events(server: &ApiServer, text: &mut Text) {
    let events = server.metrics.events.read().unwrap_or_else(PoisonError::into_inner);
    let mut counted: Vec<_> = events.iter().collect();
    counted.sort_by_key(|(of, _)| (&of.group, &of.resource, &of.version));
    let pairs = |of: &GroupVersionResource| {
        [("group", of.group.clone()), ("resource", of.resource.clone()), ("version", of.version.clone())]
    };
    let name = "apiserver_watch_events_total";
    text.family(name, "counter", "Events sent to watches, by resource.");
    for (of, events) in &counted {
        text.sample(name, &pairs(of).each_ref().map(|(name, value)| (*name, &**value)), events.count.value());
    }
    let name = "apiserver_watch_events_sizes";
    text.family(name, "histogram", "How large the objects in events sent to watches were, in bytes.");
    for (of, events) in &counted {
        text.histogram(name, &pairs(of).each_ref().map(|(name, value)| (*name, &**value)), &events.bytes);
    }
}

fn storage_size<T>(size: Result<Result<u64, StoreError>, T>, text: &mut Text) {
    // Without an answer of the store there is no sample, as upstream has it.
    let Ok(Ok(size)) = size else { return };
    let name = "apiserver_storage_size_bytes";
    text.family(name, "gauge", "Size of the storage database file physically allocated in bytes.");
    text.sample(name, &[("storage_cluster_id", "etcd-0")], size);
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
