//! Probes and lifecycle hooks, which share their handlers.

use crate::check::{self, Errors, messages};
use crate::tree::{count, get, is_unset, list, number, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const PROBE_HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "sleep"];

/// Checks the three probes of a container.
pub(super) fn all(container: &Value, grace_period_s: Option<i64>, path: &Path, errors: &mut Errors) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = get(container, key) else { continue };
        let path = path.child(key);
        validate(probe, grace_period_s, &path, errors);
        let grace = "terminationGracePeriodSeconds";
        if key == "readinessProbe" {
            if let Some(seconds) = number(probe, grace) {
                errors.push(FieldError::invalid(
                    &path.child(grace),
                    seconds,
                    "must not be set for readinessProbes",
                ));
            }
        } else if count(probe, "successThreshold") != 1 {
            let successes = count(probe, "successThreshold");
            errors.push(FieldError::invalid(&path.child("successThreshold"), successes, "must be 1"));
        }
    }
}

fn validate(probe: &Value, grace_period_s: Option<i64>, path: &Path, errors: &mut Errors) {
    handler(probe, PROBE_HANDLERS, grace_period_s, path, errors);
    for key in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        check::nonnegative(probe, key, path, errors);
    }
    let key = "terminationGracePeriodSeconds";
    if let Some(seconds) = number(probe, key).filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid(&path.child(key), seconds, "must be greater than 0"));
    }
}

/// Checks `lifecycle`.
pub(super) fn lifecycle(lifecycle: &Value, grace_period_s: Option<i64>, path: &Path, errors: &mut Errors) {
    for key in ["postStart", "preStop"] {
        if let Some(hook) = get(lifecycle, key) {
            handler(hook, HOOK_HANDLERS, grace_period_s, &path.child(key), errors);
        }
    }
}

fn handler(object: &Value, kinds: &[&str], grace_period_s: Option<i64>, path: &Path, errors: &mut Errors) {
    let given: Vec<_> =
        kinds.iter().filter_map(|kind| get(object, kind).map(|action| (*kind, action))).collect();
    for (index, (kind, action)) in given.iter().enumerate() {
        let path = path.child(kind);
        if index > 0 {
            errors.push(FieldError::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        match *kind {
            "exec" if is_unset(action, "command") => {
                errors.push(FieldError::required(&path.child("command"), ""))
            }
            "httpGet" => http_get(action, &path, errors),
            "tcpSocket" => check::port(get(action, "port"), &path.child("port"), errors),
            "grpc" => check::port_number(count(action, "port"), &path.child("port"), errors),
            "sleep" => sleep(action, grace_period_s, &path, errors),
            _ => {}
        }
    }
    if given.is_empty() {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &Value, path: &Path, errors: &mut Errors) {
    check::required_text(action, "path", path, errors);
    check::port(get(action, "port"), &path.child("port"), errors);
    let scheme = text(action, "scheme");
    if !["HTTP", "HTTPS"].contains(&scheme) {
        errors.push(FieldError::not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    for header in list(action, "httpHeaders") {
        let name = text(header, "name");
        messages(names::http_header_name(name), name, &path.child("httpHeaders"), errors);
    }
}

fn sleep(action: &Value, grace_period_s: Option<i64>, path: &Path, errors: &mut Errors) {
    let seconds = count(action, "seconds");
    if let Some(grace) = grace_period_s.filter(|grace| seconds < 0 || seconds > *grace) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(path, seconds, detail));
    }
}
