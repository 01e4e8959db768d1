//! Conditions as newer kinds have them, all alike: a type, a status, a reason, a message and when it turned. It knows no type.

use crate::check::{Errors, messages};
use crate::tree::{get, list, number, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const MAX_MESSAGE_BYTES: usize = 32_768;
const MAX_REASON_BYTES: usize = 1024;

/// Whether a condition of that type is true.
pub(crate) fn is_true(status: &Value, type_: &str) -> bool {
    let mut conditions = list(status, "conditions").iter();
    conditions.any(|condition| text(condition, "type") == type_ && text(condition, "status") == "True")
}

/// Checks `status.conditions`, which stand at `path`.
pub(crate) fn validate(status: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, condition) in list(status, "conditions").iter().enumerate() {
        let (path, type_) = (path.index(index), text(condition, "type"));
        if seen.contains(&type_) {
            errors.push(FieldError::duplicate(&path.child("type"), type_));
        }
        seen.push(type_);
        check_one(condition, &path, errors);
    }
}

fn check_one(condition: &Value, path: &Path, errors: &mut Errors) {
    let type_ = text(condition, "type");
    messages(names::qualified_name(type_), type_, &path.child("type"), errors);
    let (status, statuses) = (text(condition, "status"), ["False", "True", "Unknown"]);
    if !statuses.contains(&status) {
        errors.push(FieldError::not_supported(&path.child("status"), status, &statuses));
    }
    if number(condition, "observedGeneration").is_some_and(|generation| generation < 0) {
        let generation = number(condition, "observedGeneration").unwrap_or(0);
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("observedGeneration"), generation, detail));
    }
    if get(condition, "lastTransitionTime").is_none() {
        errors.push(FieldError::required(&path.child("lastTransitionTime"), "must be set"));
    }
    if text(condition, "message").len() > MAX_MESSAGE_BYTES {
        errors.push(FieldError::too_long(&path.child("message"), MAX_MESSAGE_BYTES));
    }
    let reason = text(condition, "reason");
    if reason.len() > MAX_REASON_BYTES {
        errors.push(FieldError::too_long(&path.child("reason"), MAX_REASON_BYTES));
    }
    if reason.is_empty() {
        errors.push(FieldError::required(&path.child("reason"), "must be set"));
    } else if !is_reason(reason) {
        let regex = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
        let message = "a condition reason must start with alphabetic character, optionally followed by a string of \
                       alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
        let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
        let detail = names::regex_error(message, regex, &examples);
        errors.push(FieldError::invalid(&path.child("reason"), reason, detail));
    }
}

fn is_reason(reason: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.ends_with(is_word)
        && reason.chars().all(|c| is_word(c) || ",:".contains(c))
}
