//! Taints of devices, and what tolerates them.

use crate::check::{self, Errors, messages};
use crate::tree::{default, each, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// Tolerations compare unless they say otherwise.
pub(super) fn default_tolerations(request: &mut Value) {
    each(request, "tolerations", |toleration| default(toleration, "operator", "Equal"));
}

/// Taints say since when they are there.
pub(super) fn date(taint: &mut Value, now_s: i64) {
    default(taint, "timeAdded", crate::duration::moment(now_s));
}

/// Checks a taint; an effect that was there before may stay.
pub(super) fn validate(taint: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    check::label_name(text(taint, "key"), &path.child("key"), errors);
    label_value(text(taint, "value"), &path.child("value"), errors);
    if old.is_none_or(|old| text(old, "effect") != text(taint, "effect")) {
        check::one_of(taint, "effect", EFFECTS, path, errors);
    }
}

fn label_value(value: &str, path: &Path, errors: &mut Errors) {
    messages(names::label_value(value), value, path, errors);
}

/// Checks a toleration.
pub(super) fn toleration(toleration: &Value, path: &Path, errors: &mut Errors) {
    let [key, operator, value, effect] =
        ["key", "operator", "value", "effect"].map(|key| text(toleration, key));
    if !key.is_empty() {
        check::label_name(key, &path.child("key"), errors);
    }
    match operator {
        "Exists" if !value.is_empty() => {
            let detail = "must be empty for operator `Exists`";
            errors.push(FieldError::invalid(&path.child("value"), value, detail));
        }
        "Exists" => {}
        "Equal" => label_value(value, &path.child("value"), errors),
        _ => check::one_of(toleration, "operator", &["Equal", "Exists"], path, errors),
    }
    if !effect.is_empty() {
        check::one_of(toleration, "effect", EFFECTS, path, errors);
    }
}
