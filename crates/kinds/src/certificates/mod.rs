//! The kinds of the group certificates.k8s.io.

pub(crate) mod certificate_signing_request;
pub(crate) mod cluster_trust_bundle;
mod issued_certificate;
pub(crate) mod pod_certificate_request;

pub(crate) use cluster_trust_bundle::name_problems as bundle_name_problems;

use crate::check::Errors;
use crate::tree::{child, each, list, set, text};
use nauplius_meta::field::{FieldError, Path, quote};
use nauplius_meta::names;
use serde_json::Value;

const GROUP: &str = "certificates.k8s.io";

/// The places of the conditions of that type.
fn places(status: &Value, type_: &str) -> Vec<usize> {
    let conditions = list(status, "conditions").iter().enumerate();
    conditions.filter(|(_, own)| text(own, "type") == type_).map(|(place, _)| place).collect()
}

/// Conditions of these types stay as they are, unless some come or go: then it is validation that refuses it.
fn keep_conditions(new: &mut Value, old: &Value, types: &[&str]) {
    for type_ in types {
        let (now, before) = (places(&new["status"], type_), places(&old["status"], type_));
        if now.len() != before.len() {
            continue;
        }
        for (now, before) in now.into_iter().zip(before) {
            new["status"]["conditions"][now] = old["status"]["conditions"][before].clone();
        }
    }
}

/// Conditions say when they turned: now, unless one of that type and status was there before.
fn date_conditions(new: &mut Value, old: &Value, now: &str) {
    let before = list(&old["status"], "conditions");
    each(child(new, "status"), "conditions", |condition| {
        if !text(condition, "lastTransitionTime").is_empty() {
            return;
        }
        let is_same = |own: &&Value| {
            own["type"] == condition["type"]
                && own["status"] == condition["status"]
                && !text(own, "lastTransitionTime").is_empty()
        };
        let turned = before.iter().find(is_same).map_or(now, |own| text(own, "lastTransitionTime"));
        set(condition, "lastTransitionTime", turned.to_owned());
    });
}

/// Who signs: a domain and a path, `example.com/signer`.
fn signer_name(object: &Value, path: &Path, errors: &mut Errors) {
    check_signer(text(object, "signerName"), &path.child("signerName"), errors);
}

/// Whether Kubernetes itself signs.
pub(crate) fn is_kubernetes_signer(name: &str) -> bool {
    let domain = name.split('/').next().unwrap_or_default();
    domain == "kubernetes.io" || domain.ends_with(".kubernetes.io")
}

/// The name of a signer.
pub(crate) fn check_signer(name: &str, path: &Path, errors: &mut Errors) {
    const MAX_DOMAIN: usize = 253;
    const MAX_BYTES: usize = 571;
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let segments: Vec<&str> = name.split('/').collect();
    let [domain, rest] = segments[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, name, detail));
        return;
    };
    if domain.len() > MAX_DOMAIN {
        errors.push(FieldError::too_long(path, MAX_DOMAIN));
    }
    labels(domain, names::dns1123_label, path, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, detail));
    }
    labels(rest, names::dns1123_subdomain, path, errors);
    if name.len() > MAX_BYTES {
        errors.push(FieldError::too_long(path, MAX_BYTES));
    }
}

/// The first part that breaks a rule.
fn labels(segment: &str, rule: fn(&str) -> Vec<String>, path: &Path, errors: &mut Errors) {
    let problems = segment.split('.').map(|label| (label, rule(label))).find(|(_, found)| !found.is_empty());
    for (label, problem) in
        problems.into_iter().flat_map(|(label, all)| all.into_iter().map(move |p| (label, p)))
    {
        let detail = format!("validating label {}: {problem}", quote(label));
        errors.push(FieldError::invalid(path, segment, detail));
    }
}
