//! Objects as an API server keeps them, as far as controllers can tell: revisions, generations, uids, finalizers, status apart
//! from spec, preconditions. It never defaults and never validates.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Group and version, plural, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub api: String,
    pub plural: String,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
}

impl Place {
    /// From `/api/v1/namespaces/n/pods/p/status` and the like.
    pub fn parse(path: &str) -> Self {
        let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let api = parts.drain(..if parts[0] == "api" { 2 } else { 3 }).collect::<Vec<_>>().join("/");
        let is_scope =
            parts.len() > 2 && parts[0] == "namespaces" && !["status", "finalize"].contains(&parts[2]);
        let namespace = if is_scope { parts.drain(..2).nth(1).unwrap_or("") } else { "" };
        let part = |index: usize| parts.get(index).copied().unwrap_or("").to_owned();
        Self { api, plural: part(0), namespace: namespace.to_owned(), name: part(1), subresource: part(2) }
    }

    fn whole(&self) -> Self {
        Self { subresource: String::new(), ..self.clone() }
    }
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub type_: &'static str,
    pub place: Place,
    pub object: Value,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    objects: BTreeMap<Place, Value>,
    pub changes: Vec<Change>,
    ids: u64,
}

pub(crate) type Answer = Result<Value, Value>;

fn refusal(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "code": code, "reason": reason, "message": reason})
}

impl World {
    pub fn revision(&self) -> usize {
        self.changes.len()
    }

    pub fn list(&self, place: &Place) -> Vec<Value> {
        let alike = self.objects.iter().filter(|(known, _)| {
            known.api == place.api
                && known.plural == place.plural
                && (place.namespace.is_empty() || known.namespace == place.namespace)
        });
        alike.map(|(_, object)| object.clone()).collect()
    }

    pub fn get(&self, place: &Place) -> Answer {
        self.objects.get(&place.whole()).cloned().ok_or_else(|| refusal(404, "NotFound"))
    }

    fn store(&mut self, place: &Place, type_: &'static str, mut object: Value) -> Value {
        let revision = self.changes.len() + 1;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        self.objects.insert(place.whole(), object.clone());
        self.changes.push(Change { type_, place: place.whole(), object: object.clone() });
        object
    }

    fn remove(&mut self, place: &Place) {
        let Some(mut object) = self.objects.remove(&place.whole()) else { return };
        object["metadata"]["resourceVersion"] = (self.changes.len() + 1).to_string().into();
        self.changes.push(Change { type_: "DELETED", place: place.whole(), object });
    }

    pub fn create(&mut self, place: &Place, mut object: Value, now: &str) -> Answer {
        self.ids += 1;
        let metadata = &mut object["metadata"];
        if metadata["name"].is_null() {
            let prefix = metadata["generateName"].as_str().unwrap_or("x-");
            metadata["name"] = format!("{prefix}{:05}", self.ids).into();
        }
        metadata["namespace"] = place.namespace.clone().into();
        if place.namespace.is_empty() {
            metadata.as_object_mut().map(|metadata| metadata.remove("namespace"));
        }
        metadata["uid"] = format!("uid-{}", self.ids).into();
        metadata["creationTimestamp"] = now.into();
        metadata["generation"] = 1.into();
        let place = Place { name: metadata["name"].as_str().unwrap_or("").to_owned(), ..place.clone() };
        if self.objects.contains_key(&place) {
            return Err(refusal(409, "AlreadyExists"));
        }
        Ok(self.store(&place, "ADDED", object))
    }

    pub fn update(&mut self, place: &Place, new: Value) -> Answer {
        let old = self.get(place)?;
        let version = new["metadata"]["resourceVersion"].as_str().unwrap_or("");
        if !version.is_empty() && old["metadata"]["resourceVersion"] != version {
            return Err(refusal(409, "Conflict"));
        }
        let mut merged = match place.subresource.as_str() {
            "status" => {
                let mut merged = old.clone();
                merged["status"] = new["status"].clone();
                merged["metadata"]["annotations"] = new["metadata"]["annotations"].clone();
                merged
            }
            _ => {
                let mut merged = new;
                merged["status"] = old["status"].clone();
                merged
            }
        };
        prune(&mut merged);
        let mut old = old;
        prune(&mut old);
        if merged["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            merged["metadata"]["generation"] = (generation + 1).into();
        }
        if merged == old {
            return Ok(old);
        }
        let empty =
            |pointer: &str| merged.pointer(pointer).and_then(Value::as_array).is_none_or(Vec::is_empty);
        let gone = !merged["metadata"]["deletionTimestamp"].is_null()
            && empty("/metadata/finalizers")
            && empty("/spec/finalizers");
        if gone {
            self.remove(place);
            return Ok(merged);
        }
        Ok(self.store(place, "MODIFIED", merged))
    }

    pub fn patch(&mut self, place: &Place, patch: &Value) -> Answer {
        let mut object = self.get(place)?;
        merge(&mut object, patch);
        object["metadata"].as_object_mut().map(|metadata| metadata.remove("resourceVersion"));
        self.update(place, object)
    }

    pub fn delete(&mut self, place: &Place, options: &Value, now: &str) -> Answer {
        let mut object = self.get(place)?;
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return Err(refusal(409, "Conflict"));
        }
        let finalizer = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(finalizer) = finalizer.filter(|_| object["metadata"]["deletionTimestamp"].is_null()) {
            match object["metadata"]["finalizers"].as_array_mut() {
                Some(finalizers) => finalizers.push(finalizer.into()),
                None => object["metadata"]["finalizers"] = json!([finalizer]),
            }
        }
        let waits = |pointer: &str| {
            object.pointer(pointer).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
        };
        if waits("/metadata/finalizers") || waits("/spec/finalizers") {
            if object["metadata"]["deletionTimestamp"].is_null() {
                object["metadata"]["deletionTimestamp"] = now.into();
                object = self.store(place, "MODIFIED", object);
            }
        } else {
            self.remove(place);
        }
        Ok(object)
    }

    pub fn delete_all(&mut self, place: &Place, now: &str) -> Answer {
        for object in self.list(place) {
            let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
            self.delete(&Place { name, ..place.clone() }, &Value::Null, now)?;
        }
        Ok(json!({"kind": "List"}))
    }
}

/// Nulls and empty lists and maps are as absent.
fn prune(value: &mut Value) {
    if let Value::Object(map) = value {
        map.values_mut().for_each(prune);
        map.retain(|_, value| !value.is_null() && *value != json!([]) && *value != json!({}));
    }
}

/// Merges, with owner references, conditions and taints as lists of upstream's merge keys.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (key, value) in patch {
        let merge_key = match key.as_str() {
            "ownerReferences" => Some("uid"),
            "conditions" => Some("type"),
            _ => None,
        };
        match (merge_key, value) {
            (Some(merge_key), Value::Array(items)) => merge_list(&mut target[key], items, merge_key),
            (_, Value::Null) => {
                target.as_object_mut().map(|target| target.remove(key));
            }
            _ => merge(&mut target[key], value),
        }
    }
}

fn merge_list(target: &mut Value, items: &[Value], merge_key: &str) {
    let mut list = target.as_array().cloned().unwrap_or_default();
    for item in items {
        let known = list.iter().position(|known| known[merge_key] == item[merge_key]);
        match (known, item["$patch"] == "delete") {
            (Some(index), true) => drop(list.remove(index)),
            (Some(index), false) => merge(&mut list[index], item),
            (None, true) => {}
            (None, false) => list.push(item.clone()),
        }
    }
    *target = list.into();
}
