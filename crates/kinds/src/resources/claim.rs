//! What a claim asks for: requests of devices, what they have in common, and configuration for their drivers. It checks wishes,
//! and knows no device. Expressions are bounded here; compiling them is the scheduler's.

use super::taint;
use super::{bounded, driver_name, fully_qualified_name, own_text, raw, unique};
use crate::check::{Errors, messages, wrong};
use crate::tree::{child, count, default, each, get, list, remove, set, text, with};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Map, Value};

pub(super) const MAX_ITEMS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_EXPRESSION_BYTES: usize = 10 * 1024;
const REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
/// What v1beta1 has in the request itself and v1 in `exactly`.
const EXACT: &[&str] =
    &["deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity"];

/// Fills the defaults of `spec.devices`.
pub(super) fn set_defaults(spec: &mut Value) {
    with(spec, "devices", |devices| {
        each(devices, "requests", |request| {
            with(request, "exactly", default_request);
            each(request, "firstAvailable", default_request);
        });
    });
}

/// The same, where requests are flat.
pub(super) fn set_flat_defaults(spec: &mut Value) {
    with(spec, "devices", |devices| {
        each(devices, "requests", |request| {
            if list(request, "firstAvailable").is_empty() {
                default_request(request);
            }
            each(request, "firstAvailable", default_request);
        });
    });
}

fn default_request(request: &mut Value) {
    default(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" && count(request, "count") == 0 {
        set(request, "count", 1);
    }
    taint::default_tolerations(request);
}

/// From flat requests to those of v1.
pub(super) fn to_hub(spec: &mut Value) {
    with(spec, "devices", |devices| {
        each(devices, "requests", |request| {
            let mut exactly = Map::new();
            for key in EXACT {
                if let Some(value) = remove(request, key) {
                    exactly.insert((*key).to_owned(), value);
                }
            }
            if !exactly.is_empty() {
                set(request, "exactly", exactly);
            }
        });
    });
}

/// The way back.
pub(super) fn from_hub(spec: &mut Value) {
    with(spec, "devices", |devices| {
        each(devices, "requests", |request| {
            let exactly = remove(request, "exactly");
            for (key, value) in exactly.as_ref().and_then(Value::as_object).into_iter().flatten() {
                set(request, key, value.clone());
            }
        });
    });
}

/// Checks the spec of a claim.
pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let (devices, path) = (&spec["devices"], path.child("devices"));
    let name = |item: &Value| text(item, "name").to_owned();
    unique(list(devices, "requests"), MAX_ITEMS, &path.child("requests"), errors, name, check_request);
    let references = Requests(devices);
    bounded(
        list(devices, "constraints"),
        MAX_ITEMS,
        &path.child("constraints"),
        errors,
        |own, path, errors| {
            constraint(own, &references, path, errors);
        },
    );
    bounded(list(devices, "config"), MAX_ITEMS, &path.child("config"), errors, |own, path, errors| {
        references.check(own, path, errors);
        configuration(own, path, errors);
    });
}

/// The requests that others may refer to.
pub(super) struct Requests<'a>(pub(super) &'a Value);

impl Requests<'_> {
    fn has(&self, name: &str) -> bool {
        let (request, alternative) = match name.split_once('/') {
            Some((request, alternative)) => (request, Some(alternative)),
            None => (name, None),
        };
        list(self.0, "requests").iter().filter(|own| text(own, "name") == request).any(|own| {
            alternative.is_none_or(|alternative| {
                list(own, "firstAvailable").iter().any(|other| text(other, "name") == alternative)
            })
        })
    }

    /// Checks one reference.
    pub(super) fn check_one(&self, name: &str, path: &Path, errors: &mut Errors) {
        let segments: Vec<&str> = name.split('/').collect();
        if segments.len() > 2 {
            errors.push(FieldError::invalid(path, name, REFERENCE));
            return;
        }
        for segment in segments {
            messages(names::dns1123_label(segment), segment, path, errors);
        }
        if !self.has(name) {
            errors.push(FieldError::invalid(path, name, REFERENCE));
        }
    }

    /// Checks the references of an object's `requests`.
    pub(super) fn check(&self, object: &Value, path: &Path, errors: &mut Errors) {
        let check = |item: &Value, path: &Path, errors: &mut Errors| {
            self.check_one(item.as_str().unwrap_or_default(), path, errors);
        };
        unique(list(object, "requests"), MAX_ITEMS, &path.child("requests"), errors, own_text, check);
    }
}

fn request_name(object: &Value, path: &Path, errors: &mut Errors) {
    let name = text(object, "name");
    messages(names::dns1123_label(name), name, &path.child("name"), errors);
}

fn check_request(request: &Value, path: &Path, errors: &mut Errors) {
    request_name(request, path, errors);
    let alternatives = list(request, "firstAvailable");
    match (get(request, "exactly"), alternatives.is_empty()) {
        (None, true) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required";
            errors.push(FieldError::required(path, detail));
        }
        (Some(_), false) => {
            let detail =
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(FieldError::invalid(path, Value::Null, detail));
        }
        (Some(exactly), true) => check_exact(exactly, &path.child("exactly"), errors),
        (None, false) => {
            let name = |item: &Value| text(item, "name").to_owned();
            let path = path.child("firstAvailable");
            unique(alternatives, MAX_ALTERNATIVES, &path, errors, name, |own, path, errors| {
                request_name(own, path, errors);
                check_exact(own, path, errors);
            });
        }
    }
}

fn check_exact(request: &Value, path: &Path, errors: &mut Errors) {
    let class = text(request, "deviceClassName");
    if class.is_empty() {
        errors.push(FieldError::required(&path.child("deviceClassName"), ""));
    } else {
        messages(names::dns1123_subdomain(class), class, &path.child("deviceClassName"), errors);
    }
    selectors(request, path, errors);
    let number = count(request, "count");
    match text(request, "allocationMode") {
        "All" if number != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.push(FieldError::invalid(&path.child("count"), number, detail));
        }
        "All" => {}
        "ExactCount" if number <= 0 => {
            errors.push(FieldError::invalid(&path.child("count"), number, "must be greater than zero"));
        }
        "ExactCount" => {}
        other => {
            let modes = ["All", "ExactCount"];
            errors.push(FieldError::not_supported(&path.child("allocationMode"), other, &modes));
        }
    }
    for (index, toleration) in list(request, "tolerations").iter().enumerate() {
        taint::toleration(toleration, &path.child("tolerations").index(index), errors);
    }
}

/// Checks the selectors of a request or a class.
pub(super) fn selectors(object: &Value, path: &Path, errors: &mut Errors) {
    bounded(list(object, "selectors"), MAX_ITEMS, &path.child("selectors"), errors, |own, path, errors| {
        let path = path.child("cel");
        let Some(cel) = get(own, "cel") else {
            errors.push(FieldError::required(&path, ""));
            return;
        };
        let expression = text(cel, "expression");
        let path = path.child("expression");
        if expression.len() > MAX_EXPRESSION_BYTES {
            errors.push(FieldError::too_long(&path, MAX_EXPRESSION_BYTES));
        } else if expression.trim().is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
    });
}

fn constraint(constraint: &Value, requests: &Requests<'_>, path: &Path, errors: &mut Errors) {
    requests.check(constraint, path, errors);
    let key = ["matchAttribute", "distinctAttribute"].into_iter().find(|key| get(constraint, key).is_some());
    match key {
        Some(key) => fully_qualified_name(text(constraint, key), &path.child(key), errors),
        None => {
            let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.push(FieldError::required(path, detail));
        }
    }
}

/// Checks what is handed to a driver.
pub(super) fn configuration(config: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("opaque");
    let Some(opaque) = get(config, "opaque") else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    driver_name(text(opaque, "driver"), &path.child("driver"), errors);
    raw(&opaque["parameters"], &path.child("parameters"), errors);
}

/// The spec stays; the message shows all of it.
pub(super) fn immutable_spec(new: &Value, old: &Value, errors: &mut Errors) {
    crate::check::immutable(new, old, "spec", &Path::root(), errors);
}

/// Makes a missing spec, for defaults.
pub(super) fn spec(object: &mut Value) -> &mut Value {
    child(object, "spec")
}

/// What is said of a device that the claim has not got.
pub(super) fn not_allocated(path: &Path, device: &str) -> FieldError {
    let mut error = wrong(path, "must be an allocated device in the claim");
    error.bad_value = Some(device.into());
    error
}
