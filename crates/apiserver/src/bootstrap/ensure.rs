//! Makes sure that one object is there as it should be: created when missing, mended when it lost something, untouched when an
//! administrator protects it.

use super::BootstrapError;
use crate::cache::Caches;
use http::Method;
use nauplius_client::{Client, ClientError};
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

/// How often an object that another server writes at the same time is looked at again.
const ATTEMPTS: usize = 10;

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
    for _ in 1..ATTEMPTS {
        match once(client, caches, place, &wanted, mend).await? {
            Err(error) if error.is_conflict() => {
                caches.catch_up().await.map_err(|error| failed(error.to_string()))?;
            }
            outcome => return outcome.map_err(|error| failed(error.to_string())),
        }
    }
    once(client, caches, place, &wanted, mend).await?.map_err(|error| failed(error.to_string()))
}

async fn once(
    client: &Client,
    caches: &Caches,
    place: Place,
    wanted: &Value,
    mend: fn(&mut Value, &Value) -> bool,
) -> Result<Result<(), ClientError>, BootstrapError> {
    let (namespace, name) = (text(wanted, "namespace"), text(wanted, "name"));
    let collection = place.collection(namespace);
    let Some(entry) = caches.get(place.group, place.plural, namespace, name) else {
        let body = Some(wanted.to_string().into_bytes());
        let Err(refusal) = client.request(Method::POST, &collection, JSON, body).await else {
            return Ok(Ok(()));
        };
        // Another server was faster; what it wrote is as we would have it. Its object can also stand behind another refusal: it has the
        // address of the service, for one.
        caches.catch_up().await.map_err(|error| failure(wanted)(error.to_string()))?;
        let is_there = caches.get(place.group, place.plural, namespace, name).is_some();
        return Ok(if is_there { Ok(()) } else { Err(refusal) });
    };
    let mut object = entry.object().map_err(|error| failure(wanted)(error.to_string()))?;
    let protected = object["metadata"]["annotations"][PROTECT] == "false";
    if protected || !mend(&mut object, wanted) {
        return Ok(Ok(()));
    }
    let path = format!("{collection}/{name}");
    let body = Some(object.to_string().into_bytes());
    Ok(client.request(Method::PUT, &path, JSON, body).await.map(drop))
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

/// Finalizers that are missing are added, unless it is too late.
pub fn add_finalizers(object: &mut Value, wanted: &Value) -> bool {
    let is_going = !object["metadata"]["deletionTimestamp"].is_null();
    !is_going && extend(&mut object["metadata"], &wanted["metadata"], "finalizers")
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
    let addresses = |object: &Value| -> Vec<Value> {
        object["endpoints"].as_array().into_iter().flatten().map(|one| one["addresses"].clone()).collect()
    };
    let ports_differ = object["ports"][0]["port"] != wanted["ports"][0]["port"];
    let changed = ports_differ || addresses(object) != addresses(wanted);
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
