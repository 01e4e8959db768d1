//! Volumes over iSCSI: the names of targets and initiators.

use crate::check::{self, Errors};
use crate::tree::{flag, get, text};
use nauplius_meta::field::{FieldError, Path};
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

const FORMAT: &str = "must be valid format";
const FORMAT_OF_POD: &str = "must be valid format starting with iqn, eui, or naa";

/// The three sorts of names and how they look.
static NAMES: LazyLock<[(&str, Regex); 3]> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("the pattern is a constant");
    [
        ("iqn", regex(r"iqn\.[0-9]{4}-[0-9]{2}\.([[:alnum:].-]+)(:[^,;*&$|\s]+)$")),
        ("eui", regex("^eui.[[:alnum:]]{16}$")),
        ("naa", regex("^naa.[[:alnum:]]{32}$")),
    ]
});

/// Checks the source of a pod's volume.
pub(super) fn validate(source: &Value, path: &Path, errors: &mut Errors) {
    validate_with(source, FORMAT_OF_POD, path, errors);
}

/// Checks the source of a persistent volume.
pub(crate) fn validate_persistent(source: &Value, path: &Path, errors: &mut Errors) {
    validate_with(source, FORMAT, path, errors);
}

fn validate_with(source: &Value, unknown: &str, path: &Path, errors: &mut Errors) {
    let target = text(source, "iqn");
    if !target.is_empty() {
        name(target, unknown, &path.child("iqn"), errors);
    }
    check::within(source, "lun", (0, 255), path, errors);
    if ["chapAuthDiscovery", "chapAuthSession"].iter().any(|key| flag(source, key))
        && get(source, "secretRef").is_none()
    {
        errors.push(FieldError::required(&path.child("secretRef"), ""));
    }
    if let Some(initiator) = get(source, "initiatorName").and_then(Value::as_str) {
        // Upstream writes it so.
        name(initiator, unknown, &path.child("initiatorname"), errors);
    }
}

fn name(name: &str, unknown: &str, path: &Path, errors: &mut Errors) {
    match NAMES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        None => errors.push(FieldError::invalid(path, name, unknown)),
        Some((_, regex)) if !regex.is_match(name) => errors.push(FieldError::invalid(path, name, FORMAT)),
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_have_a_form() {
        let check = |iqn: &str, expected: &[&str]| {
            let mut errors = Errors::new();
            validate(&json!({"iqn": iqn}), &Path::new("iscsi"), &mut errors);
            let texts: Vec<_> = errors.into_iter().map(|error| error.detail).collect();
            assert_eq!(texts, expected, "{iqn}");
        };
        check("iqn.2015-02.example.com:test", &[]);
        check("eui.0123456789abcdef", &[]);
        check("naa.0123456789abcdef0123456789abcdef", &[]);
        check("iqn.2015-02.example.com", &[FORMAT]);
        check("eui.0123", &[FORMAT]);
        check("other", &[FORMAT_OF_POD]);
    }
}
