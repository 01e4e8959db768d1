//! How a definition converts between its versions.

use crate::check::Errors;
use crate::tree::{get, number, text, texts};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const STRATEGIES: &[&str] = &["None", "Webhook"];
const REVIEWS: &[&str] = &["v1", "v1beta1"];
const FORM: &str = "; desired format: https://host[/path]";

/// Checks `spec.conversion`. Paths are those of upstream's internal form.
pub(super) fn check(conversion: &Value, path: &Path, errors: &mut Errors) {
    let strategy = text(conversion, "strategy");
    let client_path = path.child("webhookClientConfig");
    let reviews_path = path.child("conversionReviewVersions");
    if strategy.is_empty() {
        errors.push(FieldError::required(&path.child("strategy"), ""));
    } else if !STRATEGIES.contains(&strategy) {
        errors.push(FieldError::not_supported(&path.child("strategy"), strategy, STRATEGIES));
    }
    let webhook = get(conversion, "webhook");
    let client = webhook.and_then(|webhook| get(webhook, "clientConfig"));
    let reviews = webhook.map(|webhook| texts(webhook, "conversionReviewVersions")).unwrap_or_default();
    if strategy == "Webhook" {
        match client {
            Some(client) => check_client(client, &client_path, errors),
            None => {
                errors.push(FieldError::required(&client_path, "required when strategy is set to Webhook"))
            }
        }
        check_reviews(&reviews, &reviews_path, errors);
        return;
    }
    let detail = "should not be set when strategy is not set to Webhook";
    if client.is_some() {
        errors.push(FieldError::forbidden(&client_path, detail));
    }
    if !reviews.is_empty() {
        errors.push(FieldError::forbidden(&reviews_path, detail));
    }
}

fn check_client(client: &Value, path: &Path, errors: &mut Errors) {
    match (get(client, "url").and_then(Value::as_str), get(client, "service")) {
        (Some(url), None) => check_url(url, &path.child("url"), errors),
        (None, Some(service)) => check_service(service, &path.child("service"), errors),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn check_url(url: &str, path: &Path, errors: &mut Errors) {
    let Some((scheme, rest)) = url.split_once(':') else {
        errors.push(FieldError::invalid(path, "", format!("'https' is the only allowed URL scheme{FORM}")));
        errors.push(FieldError::invalid(path, "", format!("host must be specified{FORM}")));
        return;
    };
    if scheme != "https" {
        errors.push(FieldError::invalid(
            path,
            scheme,
            format!("'https' is the only allowed URL scheme{FORM}"),
        ));
    }
    let rest = rest.strip_prefix("//").unwrap_or_default();
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        errors.push(FieldError::invalid(path, host, format!("host must be specified{FORM}")));
    }
    for (part, what) in
        [(user, "user information is"), (fragment, "fragments are"), (query, "query parameters are")]
    {
        if !part.is_empty() {
            errors.push(FieldError::invalid(path, part, format!("{what} not permitted in the URL")));
        }
    }
}

fn check_service(service: &Value, path: &Path, errors: &mut Errors) {
    for (field, detail) in
        [("name", "service name is required"), ("namespace", "service namespace is required")]
    {
        if text(service, field).is_empty() {
            errors.push(FieldError::required(&path.child(field), detail));
        }
    }
    let port = number(service, "port").unwrap_or(443);
    let problems = names::port_number(port);
    if !problems.is_empty() {
        let detail = format!("port is not valid: {}", problems.join(","));
        errors.push(FieldError::invalid(&path.child("port"), port, detail));
    }
    check_path(text(service, "path"), &path.child("path"), errors);
}

fn check_path(value: &str, path: &Path, errors: &mut Errors) {
    if matches!(value, "" | "/") {
        return;
    }
    if value == "//" {
        errors.push(FieldError::invalid(path, value, "segment[0] may not be empty"));
        return;
    }
    if !value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must start with a '/'"));
    }
    let inner = &value[value.chars().next().map_or(0, char::len_utf8)..];
    for (index, segment) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if segment.is_empty() {
            errors.push(FieldError::invalid(path, value, format!("segment[{index}] may not be empty")));
            continue;
        }
        for problem in names::dns1123_subdomain(segment) {
            errors.push(FieldError::invalid(path, value, format!("segment[{index}]: {problem}")));
        }
    }
}

fn check_reviews(reviews: &[&str], path: &Path, errors: &mut Errors) {
    if reviews.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    for (index, version) in reviews.iter().enumerate() {
        if reviews[..index].contains(version) {
            errors.push(FieldError::invalid(&path.index(index), *version, "duplicate version"));
            continue;
        }
        for problem in names::dns1035_label(version) {
            errors.push(FieldError::invalid(&path.index(index), *version, problem));
        }
    }
    if !reviews.iter().any(|version| REVIEWS.contains(version)) {
        let detail = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(path, reviews.to_vec(), detail));
    }
}
