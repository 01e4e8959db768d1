//! ConfigMap: strings and bytes by key. It knows nothing of who mounts them.

use crate::check::{Errors, messages};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::tree::{entries, flag, get, same, size};
use crate::{name, table};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

/// The bytes that all values of a ConfigMap or Secret may have together.
pub(crate) const MAX_DATA_BYTES: usize = 1024 * 1024;

pub(crate) struct ConfigMap(Descriptor);

pub(crate) fn kind() -> ConfigMap {
    ConfigMap(describe("", "v1", "ConfigMap", "configmaps").short(&["cm"]).done())
}

impl Kind for ConfigMap {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let mut bytes = 0;
        for (key, value) in entries(object, "data") {
            check_key(object, "data", key, &mut errors);
            bytes += value.as_str().map_or(0, str::len);
        }
        for (key, value) in entries(object, "binaryData") {
            check_key(object, "binaryData", key, &mut errors);
            bytes += base64_bytes(value);
        }
        if bytes > MAX_DATA_BYTES {
            // Upstream names the whole object by an empty field.
            errors.push(FieldError::too_long(&Path::root().key(""), MAX_DATA_BYTES));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = immutable_data(new, old, &["data", "binaryData"]);
        errors.extend(self.validate(new));
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::string("Data", "How many keys it has."), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let keys = size(object, "data") + size(object, "binaryData");
        vec![table::name_cell(object), keys.into(), table::age_cell(object, now_s)]
    }
}

fn check_key(object: &Value, field: &str, key: &str, errors: &mut Errors) {
    let path = Path::new(field).key(key);
    messages(names::config_map_key(key), key, &path, errors);
    if field == "data" && get(&object["binaryData"], key).is_some() {
        errors.push(FieldError::invalid(&path, key, "duplicate of key present in binaryData"));
    }
}

/// What `immutable: true` of the old object forbids.
pub(crate) fn immutable_data(new: &Value, old: &Value, fields: &[&str]) -> Errors {
    let mut errors = Errors::new();
    if !flag(old, "immutable") {
        return errors;
    }
    let detail = "field is immutable when `immutable` is set";
    if !flag(new, "immutable") {
        errors.push(FieldError::forbidden(&Path::new("immutable"), detail));
    }
    for field in fields.iter().filter(|field| !same(new, old, field)) {
        errors.push(FieldError::forbidden(&Path::new(*field), detail));
    }
    errors
}

/// How many bytes a base64 text stands for.
pub(crate) fn base64_bytes(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default().trim_end_matches('=');
    text.len() * 3 / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, refused, row, updated};
    use serde_json::json;

    #[test]
    fn a_bad_key_is_refused() {
        refused(
            &kind(),
            json!({"data": {"a b": "x"}}),
            "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' \
             (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        );
        refused(
            &kind(),
            json!({"data": {"a": "x"}, "binaryData": {"a": "eA=="}}),
            "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
        );
    }

    #[test]
    fn what_is_immutable_stays() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        updated(
            &kind(),
            &old,
            json!({"data": {"a": "2"}}),
            &[
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ],
        );
        updated(&kind(), &old, old.clone(), &[]);
    }

    #[test]
    fn nothing_is_defaulted() {
        assert_eq!(created(&kind(), json!({"metadata": {"name": "c"}})), json!({"metadata": {"name": "c"}}));
    }

    #[test]
    fn the_row_counts_keys() {
        let object = json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "eA=="}});
        row(&kind(), object, json!(["x", 3, "75s"]));
    }
}
