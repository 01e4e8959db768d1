//! What plugins look up: objects of other kinds, out of the watch caches. It knows no kind.

use crate::cache::{Caches, Entry};
use crate::error::{ApiResult, stale, unreadable};
use serde_json::Value;
use std::sync::Arc;

/// All objects of a resource, of all namespaces or of the one that is named. What cannot be read is left out, and told to the log.
pub(super) fn objects(caches: &Caches, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
    let Some(cache) = caches.resource(group, plural) else { return Vec::new() };
    let (entries, _) = cache.snapshot();
    let of_namespace = |entry: &&Arc<Entry>| namespace.is_empty() || entry.namespace() == namespace;
    let read = |entry: &Arc<Entry>| match entry.object() {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(%error, plural, "an object cannot be read");
            None
        }
    };
    entries.iter().filter(of_namespace).filter_map(read).collect()
}

/// One object, also if it was made a moment ago.
pub(super) async fn object(
    caches: &Caches,
    (group, plural): (&str, &str),
    namespace: &str,
    name: &str,
) -> ApiResult<Option<Value>> {
    let known = || caches.get(group, plural, namespace, name);
    let entry = match known() {
        Some(entry) => Some(entry),
        None => {
            caches.catch_up().await.map_err(stale)?;
            known()
        }
    };
    entry.map(|entry| entry.object().map_err(unreadable)).transpose()
}

/// The object that an annotation makes the default: the newest of them, and of those the first by name.
pub(super) fn annotated_default(objects: Vec<Value>, annotations: &[&str]) -> Option<Value> {
    let is_default = |object: &Value| {
        annotations.iter().any(|annotation| object["metadata"]["annotations"][*annotation] == "true")
    };
    let text =
        |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    // Times are of one length and one zone, so their texts are in order.
    let order = |left: &Value, right: &Value| {
        let newer = text(right, "creationTimestamp").cmp(&text(left, "creationTimestamp"));
        newer.then_with(|| text(left, "name").cmp(&text(right, "name")))
    };
    objects.into_iter().filter(is_default).min_by(order)
}
