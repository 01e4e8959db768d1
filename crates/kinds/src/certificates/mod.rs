//! The kinds of the group certificates.k8s.io.

pub(crate) mod certificate_signing_request;
pub(crate) mod cluster_trust_bundle;
pub(crate) mod pod_certificate_request;

use crate::check::{Errors, required_text};
use nauplius_meta::field::{FieldError, Path, quote};
use nauplius_meta::names;
use serde_json::Value;

const GROUP: &str = "certificates.k8s.io";

/// Who signs: a domain and a path, `example.com/signer`.
fn signer_name(object: &Value, path: &Path, errors: &mut Errors) {
    const MAX_DOMAIN: usize = 253;
    const MAX_BYTES: usize = 571;
    if !required_text(object, "signerName", path, errors) {
        return;
    }
    let (name, path) = (crate::tree::text(object, "signerName"), path.child("signerName"));
    let segments: Vec<&str> = name.split('/').collect();
    let [domain, rest] = segments[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(&path, name, detail));
        return;
    };
    if domain.len() > MAX_DOMAIN {
        errors.push(FieldError::too_long(&path, MAX_DOMAIN));
    }
    labels(domain, names::dns1123_label, &path, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(&path, domain, detail));
    }
    labels(rest, names::dns1123_subdomain, &path, errors);
    if name.len() > MAX_BYTES {
        errors.push(FieldError::too_long(&path, MAX_BYTES));
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
