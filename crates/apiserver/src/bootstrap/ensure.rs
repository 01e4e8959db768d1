//! Makes sure that one object is there as it should be: created when missing, mended when it lost something, untouched when an
//! administrator protects it.

use super::BootstrapError;
use crate::cache::Caches;
use http::Method;
use nauplius_client::Client;
use serde_json::Value;

const PROTECT: &str = "rbac.authorization.kubernetes.io/autoupdate";
const JSON: Option<&str> = Some("application/json");

/// Where an object lives: group, version and plural.
#[derive(Clone, Copy)]
pub struct Place {
    /// `""` for the core group.
    pub group: &'static str,
    /// `v1`
    pub version: &'static str,
    /// `namespaces`
    pub plural: &'static str,
}

impl Place {
    /// A resource of the core group.
    pub const fn core(plural: &'static str) -> Self {
        Self { group: "", version: "v1", plural }
    }

    fn collection(self, namespace: &str) -> String {
        let prefix = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace {
            "" => format!("{prefix}/{}", self.plural),
            namespace => format!("{prefix}/namespaces/{namespace}/{}", self.plural),
        }
    }
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}

fn failure(object: &Value) -> impl Fn(String) -> BootstrapError {
    let name = format!("{} {}", object["kind"].as_str().unwrap_or_default(), text(object, "name"));
    move |reason| BootstrapError { object: name.clone(), reason }
}

/// Creates `wanted`, or lets `mend` change what is there (it returns whether it did).
///
/// # Errors
/// When the API refuses.
pub async fn ensure(
    client: &Client,
    caches: &Caches,
    place: Place,
    wanted: Value,
    mend: fn(&mut Value, &Value) -> bool,
) -> Result<(), BootstrapError> {
    let failed = failure(&wanted);
    let (namespace, name) = (text(&wanted, "namespace").to_owned(), text(&wanted, "name").to_owned());
    let collection = place.collection(&namespace);
    let Some(entry) = caches.get(place.group, place.plural, &namespace, &name) else {
        let created =
            client.request(Method::POST, &collection, JSON, Some(wanted.to_string().into_bytes())).await;
        return match created {
            Err(error) if !error.is_already_exists() => Err(failed(error.to_string())),
            _ => Ok(()),
        };
    };
    let mut object = entry.object().map_err(|error| failed(error.to_string()))?;
    let protected = object["metadata"]["annotations"][PROTECT] == "false";
    if protected || !mend(&mut object, &wanted) {
        return Ok(());
    }
    let path = format!("{collection}/{name}");
    let body = Some(object.to_string().into_bytes());
    client.request(Method::PUT, &path, JSON, body).await.map(drop).map_err(|error| failed(error.to_string()))
}

/// What is there stays as it is.
pub fn keep(_object: &mut Value, _wanted: &Value) -> bool {
    false
}

/// Rules, subjects and labels that are missing are added; what an administrator added stays.
pub fn add_missing(object: &mut Value, wanted: &Value) -> bool {
    let mut changed = false;
    for key in ["rules", "subjects"] {
        // An aggregated role's rules belong to the aggregation.
        if object.get("aggregationRule").is_none() {
            changed |= extend(object, wanted, key);
        }
    }
    for map in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][map].as_object().into_iter().flatten() {
            if object["metadata"][map].get(key).is_none() {
                object["metadata"][map][key] = value.clone();
                changed = true;
            }
        }
    }
    changed
}

fn extend(object: &mut Value, wanted: &Value, key: &str) -> bool {
    let known = object[key].as_array().cloned().unwrap_or_default();
    let missing: Vec<Value> =
        wanted[key].as_array().into_iter().flatten().filter(|item| !known.contains(item)).cloned().collect();
    let changed = !missing.is_empty();
    if changed {
        object[key] = Value::from([known, missing].concat());
    }
    changed
}

/// `key` of the object becomes what is wanted.
fn replace(object: &mut Value, wanted: &Value, key: &str) -> bool {
    let changed = object.get(key) != wanted.get(key);
    if changed {
        object[key] = wanted[key].clone();
    }
    changed
}

/// For config maps whose data is ours.
pub fn replace_data(object: &mut Value, wanted: &Value) -> bool {
    replace(object, wanted, "data")
}

/// For Endpoints that are ours.
pub fn replace_subsets(object: &mut Value, wanted: &Value) -> bool {
    replace(object, wanted, "subsets")
}

/// For EndpointSlices that are ours.
pub fn replace_endpoints(object: &mut Value, wanted: &Value) -> bool {
    let differs = |key: &str, inner: &str| object[key][0][inner] != wanted[key][0][inner];
    let changed = differs("endpoints", "addresses") || differs("ports", "port");
    if changed {
        object["endpoints"] = wanted["endpoints"].clone();
        object["ports"] = wanted["ports"].clone();
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn adds_what_is_missing_and_keeps_what_was_added() {
        let wanted = json!({"metadata": {"labels": {"a": "1"}}, "rules": [{"verbs": ["get"]}]});
        let mut object = json!({"metadata": {"labels": {"b": "2"}}, "rules": [{"verbs": ["list"]}]});
        assert!(add_missing(&mut object, &wanted));
        assert_eq!(object["rules"], json!([{"verbs": ["list"]}, {"verbs": ["get"]}]));
        assert_eq!(object["metadata"]["labels"], json!({"a": "1", "b": "2"}));
        assert!(!add_missing(&mut object, &wanted));
    }
}
