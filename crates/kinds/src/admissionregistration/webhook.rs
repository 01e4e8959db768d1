//! Webhooks, as both configurations have them: where they are, what they are asked about, and what their silence means.

use super::{FAILURE_POLICIES, MATCH_POLICIES, match_conditions, rule};
use crate::check::{Errors, messages, one_of_if_set, port_number};
use crate::kind::Column;
use crate::label_selector;
use crate::table::{self, integer};
use crate::tree::{default, each, equal, get, list, number, text, texts, with};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

const DEFAULT_TIMEOUT_S: i64 = 10;
const MAX_TIMEOUT_S: i64 = 30;
const DEFAULT_PORT: i64 = 443;
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];

/// Fills what is left out of each webhook.
pub(super) fn set_defaults(configuration: &mut Value) {
    each(configuration, "webhooks", |webhook| {
        default(webhook, "failurePolicy", "Fail");
        default(webhook, "matchPolicy", "Equivalent");
        default(webhook, "namespaceSelector", json!({}));
        default(webhook, "objectSelector", json!({}));
        default(webhook, "timeoutSeconds", DEFAULT_TIMEOUT_S);
        each(webhook, "rules", rule::set_defaults);
        with(webhook, "clientConfig", |config| {
            with(config, "service", |service| default(service, "port", DEFAULT_PORT));
        });
    });
}

/// What is asked of webhooks; of those that were kept before not more than of them then.
struct Asks {
    no_side_effects: bool,
    known_versions: bool,
    unique_names: bool,
    sound_selectors: bool,
}

impl Asks {
    fn all() -> Self {
        Self { no_side_effects: true, known_versions: true, unique_names: true, sound_selectors: true }
    }

    fn as_before(old: &[Value]) -> Self {
        let mut names: Vec<_> = old.iter().map(|webhook| text(webhook, "name")).collect();
        names.sort_unstable();
        Self {
            no_side_effects: old.iter().all(|own| NO_SIDE_EFFECTS.contains(&text(own, "sideEffects"))),
            known_versions: old.iter().all(|own| {
                let versions = texts(own, "admissionReviewVersions");
                versions.is_empty() || versions.iter().any(|version| REVIEW_VERSIONS.contains(version))
            }),
            unique_names: names.windows(2).all(|pair| pair[0] != pair[1]),
            sound_selectors: old.iter().all(|own| {
                let mut errors = Errors::new();
                selectors(own, &Path::root(), &mut errors);
                errors.is_empty()
            }),
        }
    }
}

/// Checks the webhooks of a new configuration; `more` is what only one of the two kinds has.
pub(super) fn validate(configuration: &Value, more: fn(&Value, &Path, &mut Errors)) -> Errors {
    let mut errors = Errors::new();
    check_all(configuration, &Asks::all(), false, more, &mut errors);
    errors
}

/// The same for a new form of one that is kept.
pub(super) fn validate_update(new: &Value, old: &Value, more: fn(&Value, &Path, &mut Errors)) -> Errors {
    let mut errors = Errors::new();
    let (webhooks, before) = (list(new, "webhooks"), list(old, "webhooks"));
    let conditions_stay = webhooks.len() == before.len()
        && webhooks.iter().zip(before).all(|(new, old)| {
            equal(&list(new, "matchConditions").into(), &list(old, "matchConditions").into())
        });
    check_all(new, &Asks::as_before(before), conditions_stay, more, &mut errors);
    errors
}

fn check_all(
    configuration: &Value,
    asks: &Asks,
    conditions_stay: bool,
    more: fn(&Value, &Path, &mut Errors),
    errors: &mut Errors,
) {
    let path = Path::new("webhooks");
    let mut seen = Vec::new();
    for (index, webhook) in list(configuration, "webhooks").iter().enumerate() {
        let (path, name) = (path.index(index), text(webhook, "name"));
        check_one(webhook, asks, &path, errors);
        more(webhook, &path, errors);
        client_config(&webhook["clientConfig"], &path.child("clientConfig"), errors);
        if !conditions_stay {
            match_conditions(webhook, &path, errors);
        }
        review_versions(webhook, asks.known_versions, &path.child("admissionReviewVersions"), errors);
        if asks.unique_names && seen.contains(&name) && !name.is_empty() {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        seen.push(name);
    }
}

fn check_one(webhook: &Value, asks: &Asks, path: &Path, errors: &mut Errors) {
    qualified_name(text(webhook, "name"), &path.child("name"), errors);
    for (index, own) in list(webhook, "rules").iter().enumerate() {
        rule::validate(own, &path.child("rules").index(index), errors);
    }
    one_of_if_set(webhook, "failurePolicy", FAILURE_POLICIES, path, errors);
    one_of_if_set(webhook, "matchPolicy", MATCH_POLICIES, path, errors);
    let allowed = if asks.no_side_effects { NO_SIDE_EFFECTS } else { SIDE_EFFECTS };
    if get(webhook, "sideEffects").is_none() {
        let detail = format!("must specify one of {}", allowed.join(", "));
        errors.push(FieldError::required(&path.child("sideEffects"), detail));
    }
    one_of_if_set(webhook, "sideEffects", allowed, path, errors);
    if let Some(timeout_s) = number(webhook, "timeoutSeconds").filter(|s| !(1..=MAX_TIMEOUT_S).contains(s)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(&path.child("timeoutSeconds"), timeout_s, detail));
    }
    if asks.sound_selectors {
        selectors(webhook, path, errors);
    }
}

/// A name of three parts at least.
fn qualified_name(name: &str, path: &Path, errors: &mut Errors) {
    let problems = names::dns1123_subdomain(name);
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !problems.is_empty() {
        errors.push(FieldError::invalid(path, name, problems.join(",")));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

fn selectors(webhook: &Value, path: &Path, errors: &mut Errors) {
    for key in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = get(webhook, key) {
            label_selector::validate(selector, &path.child(key), errors);
        }
    }
}

fn client_config(config: &Value, path: &Path, errors: &mut Errors) {
    match (get(config, "url"), get(config, "service")) {
        (Some(url), None) => check_url(url.as_str().unwrap_or_default(), &path.child("url"), errors),
        (None, Some(service)) => check_service(service, &path.child("service"), errors),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

/// A URL that is called: https, a host and a path, and nothing else.
fn check_url(url: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(FieldError::invalid(path, scheme, detail));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
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
    let port = number(service, "port").unwrap_or(0);
    let mut problems = Errors::new();
    port_number(port, &path.child("port"), &mut problems);
    errors.extend(problems.into_iter().map(|problem| {
        FieldError::invalid(&path.child("port"), port, format!("port is not valid: {}", problem.detail))
    }));
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

fn review_versions(webhook: &Value, known: bool, path: &Path, errors: &mut Errors) {
    let versions = texts(webhook, "admissionReviewVersions");
    let all = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        errors.push(FieldError::required(path, format!("must specify one of {all}")));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if versions[..index].contains(version) {
            errors.push(FieldError::invalid(&path, *version, "duplicate version"));
        } else {
            messages(names::dns1035_label(version), version, &path, errors);
        }
    }
    if known && !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let value = list(webhook, "admissionReviewVersions").to_vec();
        errors.push(FieldError::invalid(path, value, format!("must include at least one of {all}")));
    }
}

/// The columns of both kinds.
pub(super) fn columns() -> Vec<Column> {
    vec![table::name(), integer("Webhooks", "How many webhooks it has."), table::age()]
}

/// Their cells.
pub(super) fn cells(object: &Value, now_s: i64) -> Vec<Value> {
    vec![table::name_cell(object), rule::counted(object, "webhooks"), table::age_cell(object, now_s)]
}
