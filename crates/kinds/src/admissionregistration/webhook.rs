//! Webhooks, as both configurations have them: where they are, what they are asked about, and what their silence means. Both kinds
//! of configurations ask and show the same, but for what only webhooks of one of them have.

use super::registration::{Own, no_status};
use super::{FAILURE_POLICIES, MATCH_POLICIES, match_conditions, rule};
use crate::check::{Errors, one_of_if_set};
use crate::kind::Column;
use crate::label_selector;
use crate::table::{self, integer};
use crate::tree::{default, each, equal, get, list, number, text, texts, with};
use crate::webhook_client::{self, REVIEW_VERSIONS};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

const DEFAULT_TIMEOUT_S: i64 = 10;
const MAX_TIMEOUT_S: i64 = 30;
const DEFAULT_PORT: i64 = 443;
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];

/// Checks one webhook at its path.
type More = fn(&Value, &Path, &mut Errors);

/// What configurations ask and show.
pub(super) fn own(validate: fn(&Value, Option<&Value>) -> Errors) -> Own {
    Own { validate, validate_status: no_status, columns, cells }
}

fn columns() -> Vec<Column> {
    vec![table::name(), integer("Webhooks", "How many webhooks it has."), table::age()]
}

fn cells(object: &Value, now_s: i64) -> Vec<Value> {
    vec![table::name_cell(object), rule::counted(object, "webhooks"), table::age_cell(object, now_s)]
}

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

/// Checks a configuration, which replaces another one or is new; `more` is what only webhooks of one of the two kinds have.
pub(super) fn validate(new: &Value, old: Option<&Value>, more: More) -> Errors {
    let mut errors = Errors::new();
    let Some(old) = old else {
        check_all(new, &Asks::all(), false, more, &mut errors);
        return errors;
    };
    let (webhooks, before) = (list(new, "webhooks"), list(old, "webhooks"));
    let conditions_stay = webhooks.len() == before.len()
        && webhooks.iter().zip(before).all(|(new, old)| {
            equal(&list(new, "matchConditions").into(), &list(old, "matchConditions").into())
        });
    check_all(new, &Asks::as_before(before), conditions_stay, more, &mut errors);
    errors
}

fn check_all(configuration: &Value, asks: &Asks, conditions_stay: bool, more: More, errors: &mut Errors) {
    let path = Path::new("webhooks");
    let mut seen = Vec::new();
    for (index, webhook) in list(configuration, "webhooks").iter().enumerate() {
        let (path, name) = (path.index(index), text(webhook, "name"));
        check_one(webhook, asks, &path, errors);
        more(webhook, &path, errors);
        webhook_client::check(&webhook["clientConfig"], &path.child("clientConfig"), errors);
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

/// In which versions it can be asked.
fn review_versions(webhook: &Value, known: bool, path: &Path, errors: &mut Errors) {
    let versions = texts(webhook, "admissionReviewVersions");
    if versions.is_empty() {
        let detail = format!("must specify one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(FieldError::required(path, detail));
    } else {
        webhook_client::review_versions(&versions, known, path, errors);
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
