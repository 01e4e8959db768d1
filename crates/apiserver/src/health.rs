//! `/healthz`, `/livez` and `/readyz`: named checks, each alone, all together, and verbosely.

use crate::metrics::CONTENT_TYPE;
use crate::request::Query;
use crate::respond::{self, Reply, plain_error, text};
use crate::server::ApiServer;
use http::header::X_CONTENT_TYPE_OPTIONS;
use http::{HeaderValue, StatusCode};
use nauplius_base::metrics::{About, Counter, Family, Text};
use nauplius_meta::field::quote;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the server says of itself.
pub(crate) struct Health {
    caches: AtomicBool,
    bootstrapped: AtomicBool,
    counted: Family<Counter>,
}

impl Default for Health {
    fn default() -> Self {
        let counted = Family::new(About {
            name: "kubernetes_healthchecks_total",
            help: "This metric records the results of all healthcheck.",
            labels: &["name", "status", "type"],
            bounds: &[],
        });
        Self { caches: AtomicBool::default(), bootstrapped: AtomicBool::default(), counted }
    }
}

impl Health {
    pub(crate) fn caches_loaded(&self) {
        self.caches.store(true, Ordering::Release);
    }

    pub(crate) fn ready(&self) {
        self.bootstrapped.store(true, Ordering::Release);
    }
}

/// What is written when the server starts, under the names of the hooks that do so upstream.
const HOOKS: &[&str] = &[
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/bootstrap-controller",
];

type Check = (&'static str, bool);

async fn checks(server: &ApiServer, endpoint: &str) -> Vec<Check> {
    let store = server.config.store.revision().await.is_ok();
    let mut checks = vec![("ping", true), ("log", true), ("etcd", store)];
    let bootstrapped = server.health.bootstrapped.load(Ordering::Acquire);
    if endpoint != "livez" {
        checks.push(("informer-sync", server.health.caches.load(Ordering::Acquire)));
    }
    checks.extend(HOOKS.iter().map(|name| (*name, bootstrapped)));
    if endpoint == "readyz" {
        checks.push(("shutdown", !server.shutdown.is_cancelled()));
    }
    for (check, passed) in &checks {
        let status = if *passed { "success" } else { "error" };
        server.health.counted.with(&[check, status, endpoint]).increment();
    }
    checks
}

/// Whether a path asks for health: that is answered until the end.
pub(crate) fn is_asked(path: &str) -> bool {
    let path = path.trim_matches('/');
    let (endpoint, _) = path.split_once('/').unwrap_or((path, ""));
    matches!(endpoint, "healthz" | "livez" | "readyz")
}

/// Answers `path`, one of the three endpoints or one check below them.
pub(crate) async fn serve(server: &ApiServer, path: &str, query: &Query) -> Option<Reply> {
    let path = path.trim_matches('/');
    let (endpoint, name) = path.split_once('/').unwrap_or((path, ""));
    if !is_asked(path) {
        return None;
    }
    let checks = checks(server, endpoint).await;
    if name.is_empty() {
        return Some(all(endpoint, &checks, query));
    }
    let (_, passed) = checks.iter().find(|(own, _)| *own == name)?;
    Some(one(name, *passed))
}

/// `/metrics/slis`: how each check ended, now and so far.
pub(crate) async fn slis(server: &ApiServer) -> Reply {
    let mut document = Text::default();
    let mut endpoints = Vec::new();
    for endpoint in ["healthz", "livez", "readyz"] {
        endpoints.push((endpoint, checks(server, endpoint).await));
    }
    let name = "kubernetes_healthcheck";
    document.family(name, "gauge", "This metric records the result of a single healthcheck.");
    for (endpoint, checks) in &endpoints {
        for (check, passed) in checks {
            document.sample(name, &[("name", check), ("type", endpoint)], u8::from(*passed));
        }
    }
    server.health.counted.write(&mut document);
    respond::bytes(StatusCode::OK, CONTENT_TYPE, document.finish())
}

fn one(name: &str, passed: bool) -> Reply {
    if passed {
        text(StatusCode::OK, "ok")
    } else {
        let message = format!("internal server error: {name} is not ready");
        plain_error(StatusCode::INTERNAL_SERVER_ERROR, &message)
    }
}

fn all(endpoint: &str, checks: &[Check], query: &Query) -> Reply {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for (name, passed) in checks {
        let line = if excluded.contains(name) {
            format!("[+]{name} excluded: ok\n")
        } else if *passed {
            format!("[+]{name} ok\n")
        } else {
            failed = true;
            format!("[-]{name} failed: reason withheld\n")
        };
        lines.push_str(&line);
    }
    let mut unknown: Vec<String> = excluded
        .iter()
        .filter(|name| checks.iter().all(|(own, _)| own != *name))
        .map(|name| quote(name))
        .collect();
    unknown.sort();
    unknown.dedup();
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {unknown}\n"));
    }
    if failed {
        let message = format!("{lines}{endpoint} check failed");
        return plain_error(StatusCode::INTERNAL_SERVER_ERROR, &message);
    }
    let verbose = query.get("verbose").is_some();
    let body = if verbose { format!("{lines}{endpoint} check passed\n") } else { "ok".to_owned() };
    let mut reply = text(StatusCode::OK, body);
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
