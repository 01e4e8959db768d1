//! Secret: bytes by key, with a type that says which keys must be there. It never shows a value.

use super::config_map::{MAX_DATA_BYTES, base64_bytes, immutable_data};
use crate::check::{self, Errors, messages};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::tree::{self, at, child, default, entries, get, size, text};
use crate::{name, table};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

pub(crate) struct Secret(Descriptor);

pub(crate) fn kind() -> Secret {
    Secret(describe("", "v1", "Secret", "secrets").defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    default(object, "type", "Opaque");
    merge_string_data(object);
}

/// Moves `stringData`, which is only ever written, into `data`.
fn merge_string_data(object: &mut Value) {
    let Some(Value::Object(texts)) = tree::remove(object, "stringData") else { return };
    for (key, value) in texts {
        let encoded = base64(value.as_str().unwrap_or_default().as_bytes());
        tree::set(child(object, "data"), &key, encoded);
    }
}

fn base64(bytes: &[u8]) -> String {
    // The codec of Kubernetes' byte fields, so that there is one alphabet.
    let quoted = serde_json::to_value(crate::api::ByteString(bytes.to_vec()));
    quoted.expect("bytes are a JSON string").as_str().unwrap_or_default().to_owned()
}

impl Kind for Secret {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("data");
        for (key, _) in entries(object, "data") {
            messages(names::config_map_key(key), key, &path.key(key), &mut errors);
        }
        let bytes: usize = entries(object, "data").map(|(_, value)| base64_bytes(value)).sum();
        if bytes > MAX_DATA_BYTES {
            errors.push(FieldError::too_long(&path, MAX_DATA_BYTES));
        }
        check_type(object, &path, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check::immutable(new, old, "type", &Path::root(), &mut errors);
        errors.extend(immutable_data(new, old, &["data"]));
        errors.extend(self.validate(new));
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn selectable_field(&self, object: &Value, name: &str) -> String {
        text(object, name).to_owned()
    }

    fn columns(&self) -> Vec<Column> {
        let kind = table::string("Type", "What the secret is for.");
        vec![table::name(), kind, table::string("Data", "How many keys it has."), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let keys = size(object, "data");
        vec![
            table::name_cell(object),
            text(object, "type").into(),
            keys.into(),
            table::age_cell(object, now_s),
        ]
    }
}

fn check_type(object: &Value, path: &Path, errors: &mut Errors) {
    let has = |key: &str| get(&object["data"], key).is_some();
    let mut require = |key: &str| errors.push(FieldError::required(&path.key(key), ""));
    match text(object, "type") {
        "kubernetes.io/service-account-token"
            if text(at(object, &["metadata", "annotations"]), SERVICE_ACCOUNT_NAME).is_empty() =>
        {
            let path = Path::new("metadata").child("annotations").key(SERVICE_ACCOUNT_NAME);
            errors.push(FieldError::required(&path, ""));
        }
        "kubernetes.io/dockercfg" => check_json(object, ".dockercfg", path, errors),
        "kubernetes.io/dockerconfigjson" => check_json(object, ".dockerconfigjson", path, errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            ["username", "password"].into_iter().for_each(require);
        }
        "kubernetes.io/ssh-auth" if text(&object["data"], "ssh-privatekey").is_empty() => {
            require("ssh-privatekey")
        }
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)).for_each(require),
        _ => {}
    }
}

/// The value of `key` must be there and be a JSON object.
fn check_json(object: &Value, key: &str, path: &Path, errors: &mut Errors) {
    let path = path.key(key);
    let Some(value) = get(&object["data"], key) else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    // The schema has refused what is no base64.
    let bytes: crate::api::ByteString = serde_json::from_value(value.clone()).unwrap_or_default();
    let problem = match nauplius_meta::json::decode(&bytes.0) {
        Ok(Value::Object(_) | Value::Null) => None,
        Ok(other) => {
            let kind = nauplius_meta::json::kind_of(&other);
            Some(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
        }
        Err(error) => Some(error.to_string()),
    };
    if let Some(detail) = problem {
        errors.push(FieldError::invalid(&path, "<secret contents redacted>", detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};
    use serde_json::json;

    #[test]
    fn the_type_is_defaulted_and_string_data_is_merged() {
        let secret = created(&kind(), json!({"data": {"a": "MQ=="}, "stringData": {"a": "2", "b": "x"}}));
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "Mg==", "b": "eA=="}}));
    }

    #[test]
    fn each_type_has_its_keys() {
        creation(
            &kind(),
            json!({"type": "kubernetes.io/tls"}),
            &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
        );
        creation(
            &kind(),
            json!({"type": "kubernetes.io/basic-auth"}),
            &["data[username]: Required value", "data[password]: Required value"],
        );
        creation(&kind(), json!({"type": "kubernetes.io/basic-auth", "data": {"username": ""}}), &[]);
        creation(
            &kind(),
            json!({"type": "kubernetes.io/ssh-auth"}),
            &["data[ssh-privatekey]: Required value"],
        );
        creation(
            &kind(),
            json!({"type": "kubernetes.io/service-account-token"}),
            &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        );
        creation(
            &kind(),
            json!({"type": "kubernetes.io/dockerconfigjson"}),
            &["data[.dockerconfigjson]: Required value"],
        );
        let good =
            json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{}"}});
        creation(&kind(), good, &[]);
    }

    #[test]
    fn the_type_and_immutable_data_stay() {
        let old = json!({"type": "Opaque", "data": {"a": "MQ=="}, "immutable": true});
        updated(
            &kind(),
            &old,
            json!({"type": "other", "data": {"a": "MQ=="}, "immutable": true}),
            &["type: Invalid value: \"other\": field is immutable"],
        );
        updated(
            &kind(),
            &old,
            json!({"immutable": true}),
            &["data: Forbidden: field is immutable when `immutable` is set"],
        );
    }

    #[test]
    fn the_row_shows_no_value() {
        row(&kind(), json!({"type": "Opaque", "data": {"a": "MQ=="}}), json!(["x", "Opaque", 1, "75s"]));
    }
}
