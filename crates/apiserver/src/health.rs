//! `/healthz`, `/livez` and `/readyz`: named checks, each alone, all together, and verbosely.

use crate::request::Query;
use crate::respond::{Reply, text};
use crate::server::ApiServer;
use http::StatusCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the server says of itself.
#[derive(Default)]
pub(crate) struct Health {
    caches: AtomicBool,
    bootstrapped: AtomicBool,
}

impl Health {
    pub(crate) fn caches_loaded(&self) {
        self.caches.store(true, Ordering::Release);
    }

    pub(crate) fn ready(&self) {
        self.bootstrapped.store(true, Ordering::Release);
    }
}

type Check = (&'static str, bool);

async fn checks(server: &ApiServer, endpoint: &str) -> Vec<Check> {
    let store = server.config.store.revision().await.is_ok();
    let mut checks = vec![("ping", true), ("log", true), ("etcd", store)];
    let bootstrapped = server.health.bootstrapped.load(Ordering::Acquire);
    if endpoint != "livez" {
        checks.push(("informer-sync", server.health.caches.load(Ordering::Acquire)));
    }
    checks.push(("poststarthook/bootstrap-controller", bootstrapped));
    checks.push(("poststarthook/rbac/bootstrap-roles", bootstrapped));
    checks.push(("poststarthook/scheduling/bootstrap-system-priority-classes", bootstrapped));
    if endpoint == "readyz" {
        checks.push(("shutdown", !server.shutdown.is_cancelled()));
    }
    checks
}

/// Answers `path`, one of the three endpoints or one check below them.
pub(crate) async fn serve(server: &ApiServer, path: &str, query: &Query) -> Option<Reply> {
    let path = path.trim_matches('/');
    let (endpoint, name) = path.split_once('/').unwrap_or((path, ""));
    if !matches!(endpoint, "healthz" | "livez" | "readyz") {
        return None;
    }
    let checks = checks(server, endpoint).await;
    if name.is_empty() {
        return Some(all(endpoint, &checks, query));
    }
    let (_, passed) = checks.iter().find(|(own, _)| *own == name)?;
    Some(one(name, *passed))
}

fn one(name: &str, passed: bool) -> Reply {
    if passed {
        text(StatusCode::OK, "ok")
    } else {
        text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {name} is not ready\n"))
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
    if failed {
        return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"));
    }
    let verbose = query.get("verbose").is_some();
    text(StatusCode::OK, if verbose { format!("{lines}{endpoint} check passed\n") } else { "ok".to_owned() })
}
