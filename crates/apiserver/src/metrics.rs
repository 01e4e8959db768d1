//! `/metrics` under upstream's names: requests by verb, resource and code, what is in flight, and how many objects there are.

use crate::request::Call;
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use http::StatusCode;
use nauplius_kinds::Kind;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

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
    code: u16,
}

/// Counts of what was answered.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: RwLock<HashMap<Labels, Arc<AtomicU64>>>,
}

impl Metrics {
    /// Counts one answered request.
    pub(crate) fn answered(&self, server: &ApiServer, call: &Call, code: StatusCode) {
        self.series(labels(server, call, code.as_u16())).fetch_add(1, Ordering::Relaxed);
    }

    fn series(&self, labels: Labels) -> Arc<AtomicU64> {
        if let Some(series) = self.requests.read().unwrap_or_else(PoisonError::into_inner).get(&labels) {
            return Arc::clone(series);
        }
        let mut requests = self.requests.write().unwrap_or_else(PoisonError::into_inner);
        let labels = if requests.len() < MAX_SERIES { labels } else { Labels::default() };
        Arc::clone(requests.entry(labels).or_default())
    }

    fn counted(&self) -> BTreeMap<Labels, u64> {
        let requests = self.requests.read().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|(labels, count)| (labels.clone(), count.load(Ordering::Relaxed))).collect()
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
    let mut text = String::new();
    requests(server, &mut text);
    in_flight(server, &mut text);
    objects(server, &mut text);
    respond::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes every write");
}

fn requests(server: &ApiServer, text: &mut String) {
    head(text, "apiserver_request_total", "counter", "Requests answered, by verb, resource and code.");
    for (labels, count) in server.metrics.counted() {
        let Labels { verb, group, version, resource, subresource, scope, code } = labels;
        writeln!(
            text,
            "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",group=\"{group}\",\
             resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",\
             version=\"{version}\"}} {count}"
        )
        .expect("a string takes every write");
    }
}

fn in_flight(server: &ApiServer, text: &mut String) {
    let (reads, writes, long_running) = server.in_flight.current();
    head(text, "apiserver_current_inflight_requests", "gauge", "Requests being answered, by kind.");
    for (kind, count) in [("mutating", writes), ("readOnly", reads)] {
        writeln!(text, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {count}")
            .expect("a string takes every write");
    }
    head(text, "apiserver_longrunning_requests", "gauge", "Watches, logs, exec and the like being answered.");
    writeln!(text, "apiserver_longrunning_requests{{component=\"apiserver\"}} {long_running}")
        .expect("a string takes every write");
}

fn objects(server: &ApiServer, text: &mut String) {
    head(text, "apiserver_storage_objects", "gauge", "Objects stored, by resource.");
    let served = server.served();
    let mut counts: Vec<(String, usize)> = served
        .kinds()
        .iter()
        .map(|kind| kind.descriptor())
        .filter(|descriptor| descriptor.stored_as.is_none())
        .filter_map(|descriptor| {
            let cache = server.caches().resource(&descriptor.group, &descriptor.plural)?;
            Some((descriptor.qualified(), cache.snapshot().0.len()))
        })
        .collect();
    counts.sort();
    // A custom resource has a kind for each version.
    counts.dedup();
    for (resource, count) in counts {
        writeln!(text, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}")
            .expect("a string takes every write");
    }
}
