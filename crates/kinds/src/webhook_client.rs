//! Where a webhook is, be it for admission or for conversion: a URL or a service, and in which versions it can be asked. It calls
//! nothing.

use crate::check::{Errors, messages};
use crate::pem;
use crate::tree::{get, number, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

/// The versions of reviews that are spoken here.
pub(crate) const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const DEFAULT_PORT: i64 = 443;

/// Checks a client's configuration: exactly one of a URL and a service.
pub(crate) fn check(config: &Value, path: &Path, errors: &mut Errors) {
    match (get(config, "url"), get(config, "service")) {
        (Some(url), None) => check_url(url.as_str().unwrap_or_default(), &path.child("url"), errors),
        (None, Some(service)) => check_service(service, &path.child("service"), errors),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

/// A URL that is called: https, a host and a path, and nothing else.
fn check_url(url: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(FieldError::invalid(path, scheme, detail));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.strip_prefix("//").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        errors.push(FieldError::invalid(path, "", format!("host must be specified{FORM}")));
    }
    let parts = [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ];
    for (part, detail) in parts.into_iter().filter(|(part, _)| !part.is_empty()) {
        errors.push(FieldError::invalid(path, part, detail));
    }
}

fn check_service(service: &Value, path: &Path, errors: &mut Errors) {
    for key in ["name", "namespace"] {
        if text(service, key).is_empty() {
            errors.push(FieldError::required(&path.child(key), format!("service {key} is required")));
        }
    }
    let port = number(service, "port").unwrap_or(DEFAULT_PORT);
    let problems = names::port_number(port);
    if !problems.is_empty() {
        let detail = format!("port is not valid: {}", problems.join(","));
        errors.push(FieldError::invalid(&path.child("port"), port, detail));
    }
    url_path(text(service, "path"), &path.child("path"), errors);
}

fn url_path(own: &str, path: &Path, errors: &mut Errors) {
    let mut invalid = |detail: String| errors.push(FieldError::invalid(path, own, detail));
    match own {
        "" | "/" => return,
        "//" => return invalid("segment[0] may not be empty".to_owned()),
        _ => {}
    }
    if !own.starts_with('/') {
        invalid("must start with a '/'".to_owned());
    }
    // Upstream takes the first character away whatever it is.
    let rest = own.chars().skip(1).collect::<String>();
    for (index, segment) in rest.strip_suffix('/').unwrap_or(&rest).split('/').enumerate() {
        if segment.is_empty() {
            invalid(format!("segment[{index}] may not be empty"));
            continue;
        }
        for problem in names::dns1123_subdomain(segment) {
            invalid(format!("segment[{index}]: {problem}"));
        }
    }
}

/// Versions of reviews that there are, each once and, if `known`, at least one that is spoken here.
pub(crate) fn review_versions(versions: &[&str], known: bool, path: &Path, errors: &mut Errors) {
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if versions[..index].contains(version) {
            errors.push(FieldError::invalid(&path, *version, "duplicate version"));
        } else {
            messages(names::dns1035_label(version), version, &path, errors);
        }
    }
    if known && !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(FieldError::invalid(path, json!(versions), detail));
    }
}

/// Whether the encoded bundle has a certificate in it, and none that cannot be read.
pub(crate) fn is_bundle(encoded: &str) -> bool {
    let bytes = pem::base64(encoded).unwrap_or_default();
    let blocks = pem::blocks(&String::from_utf8_lossy(&bytes));
    let mut certificates = blocks.iter().filter(|block| block.label == "CERTIFICATE" && !block.has_headers);
    let mut count = 0;
    certificates.by_ref().all(|block| {
        count += 1;
        x509_parser::parse_x509_certificate(&block.content).is_ok()
    }) && count > 0
}

/// Checks a bundle of the certificates of authorities.
pub(crate) fn ca_bundle(encoded: &str, path: &Path, errors: &mut Errors) {
    if !is_bundle(encoded) {
        let detail =
            "unable to load root certificates: data does not contain any valid RSA or ECDSA certificates";
        errors.push(FieldError::invalid(path, encoded, detail));
    }
}
