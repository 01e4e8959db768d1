//! Reading and changing an object as a tree: metadata by name, anything else by path. It must not know any kind.
use serde_json::{Map, Value};

use crate::gvk::{GroupVersionKind, ParseGroupVersionError};

/// The fields of an object.
pub type Object = Map<String, Value>;

static EMPTY: std::sync::LazyLock<Object> = std::sync::LazyLock::new(Map::new);

/// The value at the path, if there is one. A null counts as none.
pub fn get<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let found = path.iter().try_fold(value, |value, name| value.get(name))?;
    if found.is_null() { None } else { Some(found) }
}

/// The value at the path, to change.
pub fn get_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, name| value.get_mut(name))
}

/// The string at the path; empty when there is none.
pub fn get_str<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    get(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at the path.
pub fn get_i64(value: &Value, path: &[&str]) -> Option<i64> {
    get(value, path).and_then(Value::as_i64)
}

/// The boolean at the path.
pub fn get_bool(value: &Value, path: &[&str]) -> Option<bool> {
    get(value, path).and_then(Value::as_bool)
}

/// The list at the path; empty when there is none.
pub fn get_array<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    get(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The fields at the path; empty when there are none.
pub fn get_object<'a>(value: &'a Value, path: &[&str]) -> &'a Object {
    get(value, path).and_then(Value::as_object).unwrap_or(&EMPTY)
}

/// The strings of the list at the path.
pub fn get_strings<'a>(value: &'a Value, path: &[&str]) -> Vec<&'a str> {
    get_array(value, path).iter().filter_map(Value::as_str).collect()
}

/// The fields at the path, made where they are missing or something else.
pub fn object_at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Object {
    let mut fields = as_fields(value);
    for name in path {
        fields = as_fields(fields.entry(*name).or_insert(Value::Null));
    }
    fields
}

fn as_fields(value: &mut Value) -> &mut Object {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made an object")
}

/// Sets the value at the path; a path of no names is not allowed and changes nothing.
pub fn set(value: &mut Value, path: &[&str], new: impl Into<Value>) {
    if let Some((last, parents)) = path.split_last() {
        object_at(value, parents).insert((*last).to_owned(), new.into());
    }
}

/// Sets the value at the path unless there is one.
pub fn set_default(value: &mut Value, path: &[&str], new: impl Into<Value>) {
    if get(value, path).is_none() {
        set(value, path, new);
    }
}

/// Removes and returns the value at the path.
pub fn remove(value: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    get_mut(value, parents)?.as_object_mut()?.remove(*last)
}

/// `metadata.name`
pub fn name(object: &Value) -> &str {
    get_str(object, &["metadata", "name"])
}

/// `metadata.generateName`
pub fn generate_name(object: &Value) -> &str {
    get_str(object, &["metadata", "generateName"])
}

/// `metadata.namespace`
pub fn namespace(object: &Value) -> &str {
    get_str(object, &["metadata", "namespace"])
}

/// `metadata.uid`
pub fn uid(object: &Value) -> &str {
    get_str(object, &["metadata", "uid"])
}

/// `metadata.resourceVersion`
pub fn resource_version(object: &Value) -> &str {
    get_str(object, &["metadata", "resourceVersion"])
}

/// `metadata.generation`, 0 when unset.
pub fn generation(object: &Value) -> i64 {
    get_i64(object, &["metadata", "generation"]).unwrap_or_default()
}

/// `metadata.creationTimestamp`
pub fn creation_timestamp(object: &Value) -> Option<&str> {
    get(object, &["metadata", "creationTimestamp"]).and_then(Value::as_str)
}

/// `metadata.deletionTimestamp`
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    get(object, &["metadata", "deletionTimestamp"]).and_then(Value::as_str)
}

/// `metadata.deletionGracePeriodSeconds`
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    get_i64(object, &["metadata", "deletionGracePeriodSeconds"])
}

/// `metadata.labels`
pub fn labels(object: &Value) -> &Object {
    get_object(object, &["metadata", "labels"])
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object).get(key).and_then(Value::as_str)
}

/// `metadata.annotations`
pub fn annotations(object: &Value) -> &Object {
    get_object(object, &["metadata", "annotations"])
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object).get(key).and_then(Value::as_str)
}

/// `metadata.finalizers`
pub fn finalizers(object: &Value) -> Vec<&str> {
    get_strings(object, &["metadata", "finalizers"])
}

/// `metadata.ownerReferences`
pub fn owner_references(object: &Value) -> &[Value] {
    get_array(object, &["metadata", "ownerReferences"])
}

/// The owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|owner| get_bool(owner, &["controller"]) == Some(true))
}

/// `metadata.managedFields`
pub fn managed_fields(object: &Value) -> &[Value] {
    get_array(object, &["metadata", "managedFields"])
}

/// What the object says it is.
pub fn gvk(object: &Value) -> Result<GroupVersionKind, ParseGroupVersionError> {
    GroupVersionKind::of(object)
}

/// Sets `apiVersion` and `kind`.
pub fn set_gvk(object: &mut Value, gvk: &GroupVersionKind) {
    set(object, &["apiVersion"], gvk.api_version());
    set(object, &["kind"], gvk.kind.as_str());
}

/// Sets a field of the metadata; an empty string or a null removes it.
pub fn set_metadata(object: &mut Value, field: &str, value: impl Into<Value>) {
    let value = value.into();
    if value.is_null() || value.as_str() == Some("") {
        remove(object, &["metadata", field]);
    } else {
        set(object, &["metadata", field], value);
    }
}

/// Sets `metadata.name`
pub fn set_name(object: &mut Value, name: &str) {
    set_metadata(object, "name", name);
}

/// Sets `metadata.namespace`
pub fn set_namespace(object: &mut Value, namespace: &str) {
    set_metadata(object, "namespace", namespace);
}

/// Sets `metadata.uid`
pub fn set_uid(object: &mut Value, uid: &str) {
    set_metadata(object, "uid", uid);
}

/// Sets `metadata.resourceVersion`
pub fn set_resource_version(object: &mut Value, revision: &str) {
    set_metadata(object, "resourceVersion", revision);
}

/// Sets `metadata.generation`
pub fn set_generation(object: &mut Value, generation: i64) {
    set_metadata(object, "generation", generation);
}

/// Sets one label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    set(object, &["metadata", "labels", key], value);
}

/// Sets one annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    set(object, &["metadata", "annotations", key], value);
}

/// Sets the finalizers; none removes the field.
pub fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let value = if finalizers.is_empty() { Value::Null } else { Value::from(finalizers.to_vec()) };
    set_metadata(object, "finalizers", value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_is_read_and_changed() {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "b", "uid": null, "labels": {"app": "web"},
                "ownerReferences": [{"name": "x"}, {"name": "y", "controller": true}]},
            "spec": {"replicas": 2, "hostNetwork": true, "args": ["a", "b"]},
        });
        assert_eq!((name(&pod), namespace(&pod), uid(&pod), generation(&pod)), ("a", "b", "", 0));
        assert_eq!(label(&pod, "app"), Some("web"));
        assert_eq!(controller_of(&pod).map(|owner| get_str(owner, &["name"])), Some("y"));
        assert_eq!(get_i64(&pod, &["spec", "replicas"]), Some(2));
        assert_eq!(get_bool(&pod, &["spec", "hostNetwork"]), Some(true));
        assert_eq!(get_strings(&pod, &["spec", "args"]), ["a", "b"]);
        assert_eq!(gvk(&pod).unwrap().kind, "Pod");
        set_uid(&mut pod, "u");
        set_annotation(&mut pod, "k", "v");
        set_finalizers(&mut pod, &["f".to_owned()]);
        assert_eq!((uid(&pod), annotation(&pod, "k"), finalizers(&pod)), ("u", Some("v"), vec!["f"]));
        set_finalizers(&mut pod, &[]);
        assert!(pod["metadata"].get("finalizers").is_none());
        set_default(&mut pod, &["spec", "replicas"], 3);
        set_default(&mut pod, &["spec", "new", "deep"], 3);
        assert_eq!((&pod["spec"]["replicas"], &pod["spec"]["new"]["deep"]), (&json!(2), &json!(3)));
        assert_eq!(remove(&mut pod, &["spec", "new"]), Some(json!({"deep": 3})));
        assert_eq!(remove(&mut pod, &["none", "new"]), None);
    }
}
