//! What every object's metadata must keep to, on create and on update. It must not know any kind: how a name looks is passed in.
use serde_json::Value;

use crate::field::{self, FieldError, Path};
use crate::names::{self, Problems};
use crate::object::{self, Object};

/// Most bytes that all annotations of an object may have together.
pub const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;
/// Longest name of a field manager.
pub const FIELD_MANAGER_MAX: usize = 128;
/// Longest subresource in managed fields.
const SUBRESOURCE_MAX: usize = 256;
/// What upstream says of a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";
/// The finalizer that orphans dependents.
pub const ORPHAN_DEPENDENTS: &str = "orphan";
/// The finalizer that waits for dependents to be deleted.
pub const DELETE_DEPENDENTS: &str = "foregroundDeletion";

/// What is wrong with a name.
pub type NameCheck = fn(&str) -> Problems;

/// Checks the metadata of an object that is created.
pub fn validate(object: &Value, namespaced: bool, check_name: NameCheck, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let generate_name = object::generate_name(object);
    if !generate_name.is_empty() {
        let at = path.child("generateName");
        let problems = check_name(&names::masked_prefix(generate_name));
        errors.extend(problems.into_iter().map(|problem| FieldError::invalid(&at, generate_name, problem)));
    }
    let name = object::name(object);
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
    }
    if !name.is_empty() {
        let at = path.child("name");
        errors.extend(check_name(name).into_iter().map(|problem| FieldError::invalid(&at, name, problem)));
    }
    errors.extend(validate_namespace(object::namespace(object), namespaced, &path.child("namespace")));
    let generation = object::generation(object);
    if generation < 0 {
        let problem = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child("generation"), generation, problem));
    }
    errors.extend(validate_collections(object, path));
    errors
}

/// Checks the metadata of an object that is updated.
pub fn validate_update(new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object::deletion_timestamp(old).is_some() {
        errors.extend(no_new_finalizers(new, old, &path.child("finalizers")));
    }
    if object::resource_version(new).is_empty() {
        let at = path.child("resourceVersion");
        errors.push(FieldError::invalid(&at, "", "must be specified for an update"));
    }
    if object::generation(new) < object::generation(old) {
        let at = path.child("generation");
        errors.push(FieldError::invalid(&at, object::generation(new), "must not be decremented"));
    }
    for name in ["name", "namespace", "uid"] {
        let text = |object| object::get_str(object, &["metadata", name]);
        if text(new) != text(old) {
            errors.push(FieldError::invalid(&path.child(name), text(new), IMMUTABLE));
        }
    }
    for name in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let value = |object| object::get(object, &["metadata", name]).cloned();
        errors.extend(immutable(value(new), value(old), &path.child(name)));
    }
    errors.extend(validate_collections(new, path));
    errors
}

/// Checks that a value did not change; an absent value is a null.
pub fn immutable(new: Option<Value>, old: Option<Value>, path: &Path) -> Option<FieldError> {
    if new == old { None } else { Some(FieldError::invalid(path, new.unwrap_or(Value::Null), IMMUTABLE)) }
}

fn validate_namespace(namespace: &str, namespaced: bool, path: &Path) -> Vec<FieldError> {
    match (namespaced, namespace.is_empty()) {
        (true, true) => vec![FieldError::required(path, "")],
        (false, false) => vec![FieldError::forbidden(path, "not allowed on this type")],
        (true, false) => names::dns1123_label(namespace)
            .into_iter()
            .map(|problem| FieldError::invalid(path, namespace, problem))
            .collect(),
        (false, true) => Vec::new(),
    }
}

fn validate_collections(object: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = validate_labels(object::labels(object), &path.child("labels"));
    errors.extend(validate_annotations(object::annotations(object), &path.child("annotations")));
    errors.extend(validate_owners(object::owner_references(object), &path.child("ownerReferences")));
    errors.extend(validate_finalizers(&object::finalizers(object), &path.child("finalizers")));
    errors.extend(validate_managed_fields(object::managed_fields(object), &path.child("managedFields")));
    errors
}

/// Checks label keys and values.
pub fn validate_labels(labels: &Object, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels {
        errors.extend(validate_label_name(key, path));
        let value = value.as_str().unwrap_or_default();
        let problems = names::label_value(value);
        errors.extend(problems.into_iter().map(|problem| FieldError::invalid(path, value, problem)));
    }
    errors
}

/// Checks one label key.
pub fn validate_label_name(key: &str, path: &Path) -> Vec<FieldError> {
    names::qualified_name(key).into_iter().map(|problem| FieldError::invalid(path, key, problem)).collect()
}

/// Checks annotation keys, whose case does not matter, and the size of all together.
pub fn validate_annotations(annotations: &Object, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in annotations {
        let problems = names::qualified_name(&key.to_lowercase());
        errors.extend(problems.into_iter().map(|problem| FieldError::invalid(path, key.as_str(), problem)));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_MAX_BYTES {
        errors.push(FieldError::too_long(path, ANNOTATIONS_MAX_BYTES));
    }
    errors
}

fn validate_owners(owners: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for owner in owners {
        errors.extend(validate_owner(owner, path));
        if object::get_bool(owner, &["controller"]) != Some(true) {
            continue;
        }
        let current = format!("{}/{}", object::get_str(owner, &["kind"]), object::get_str(owner, &["name"]));
        match &controller {
            None => controller = Some(current),
            Some(first) => errors.push(FieldError::invalid(
                path,
                owners.to_vec(),
                format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {current}"
                ),
            )),
        }
    }
    errors
}

fn validate_owner(owner: &Value, path: &Path) -> Vec<FieldError> {
    let text = |name| object::get_str(owner, &[name]);
    let version = text("apiVersion").rsplit('/').next().unwrap_or_default();
    let mut errors = Vec::new();
    if version.is_empty() {
        let at = path.child("apiVersion");
        errors.push(FieldError::invalid(&at, text("apiVersion"), "version must not be empty"));
    }
    for name in ["kind", "name", "uid"] {
        if text(name).is_empty() {
            errors.push(FieldError::invalid(&path.child(name), "", "must not be empty"));
        }
    }
    if text("apiVersion") == "v1" && text("kind") == "Event" {
        let problem = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(FieldError::invalid(path, owner.clone(), problem));
    }
    errors
}

fn validate_finalizers(finalizers: &[&str], path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<_> = finalizers
        .iter()
        .flat_map(|finalizer| {
            names::qualified_name(finalizer)
                .into_iter()
                .map(|problem| FieldError::invalid(path, *finalizer, problem))
        })
        .collect();
    if finalizers.contains(&ORPHAN_DEPENDENTS) && finalizers.contains(&DELETE_DEPENDENTS) {
        let problem = format!("finalizer {ORPHAN_DEPENDENTS} and {DELETE_DEPENDENTS} cannot be both set");
        errors.push(FieldError::invalid(path, finalizers.to_vec(), problem));
    }
    errors
}

fn no_new_finalizers(new: &Value, old: &Value, path: &Path) -> Option<FieldError> {
    let known = object::finalizers(old);
    let mut extra: Vec<_> =
        object::finalizers(new).into_iter().filter(|name| !known.contains(name)).collect();
    extra.sort_unstable();
    extra.dedup();
    if extra.is_empty() {
        return None;
    }
    let quoted: Vec<_> = extra.into_iter().map(field::quote).collect();
    // The Go syntax is upstream's.
    let problem = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        quoted.join(", ")
    );
    Some(FieldError::forbidden(path, problem))
}

/// Checks managed fields.
pub fn validate_managed_fields(entries: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = path.index(index);
        let text = |name| object::get_str(entry, &[name]);
        if !matches!(text("operation"), "Apply" | "Update") {
            let at = path.child("operation");
            errors.push(FieldError::invalid(&at, text("operation"), "must be `Apply` or `Update`"));
        }
        if !matches!(text("fieldsType"), "" | "FieldsV1") {
            let at = path.child("fieldsType");
            errors.push(FieldError::invalid(&at, text("fieldsType"), "must be `FieldsV1`"));
        }
        errors.extend(validate_field_manager(text("manager"), &path.child("manager")));
        if text("subresource").len() > SUBRESOURCE_MAX {
            errors.push(FieldError::too_long(&path.child("subresource"), SUBRESOURCE_MAX));
        }
    }
    errors
}

/// Checks the name of a field manager.
pub fn validate_field_manager(name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if name.len() > FIELD_MANAGER_MAX {
        errors.push(FieldError::too_long(path, FIELD_MANAGER_MAX));
    }
    for (position, character) in name.char_indices().filter(|(_, character)| character.is_control()) {
        let problem = format!("invalid character U+{:04X} (at position {position})", character as u32);
        errors.push(FieldError::invalid(path, name, problem));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(metadata: Value, expected: &[&str]) {
        let errors =
            validate(&json!({"metadata": metadata}), true, names::dns1123_subdomain, &Path::new("metadata"));
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn creation_is_checked() {
        check(json!({"name": "a", "namespace": "b"}), &[]);
        check(
            json!({"namespace": "b"}),
            &["metadata.name: Required value: name or generateName is required"],
        );
        check(
            json!({"name": "A", "namespace": "b"}),
            &["metadata.name: Invalid value: \"A\": a lowercase RFC 1123"],
        );
        check(json!({"name": "a", "generateName": "a-", "namespace": "b"}), &[]);
        check(json!({"name": "a"}), &["metadata.namespace: Required value"]);
        check(
            json!({"name": "a", "namespace": "b.c"}),
            &["metadata.namespace: Invalid value: \"b.c\": must not contain dots"],
        );
        check(
            json!({"name": "a", "namespace": "b", "labels": {"-": "x", "y": "-"}}),
            &[
                "metadata.labels: Invalid value: \"-\": name part must consist",
                "metadata.labels: Invalid value: \"-\": a valid label",
            ],
        );
        check(
            json!({"name": "a", "namespace": "b", "annotations": {"UPPER.example/X": "x".repeat(300_000)}}),
            &["metadata.annotations: Too long: may not be more than 262144 bytes"],
        );
        check(
            json!({"name": "a", "namespace": "b", "finalizers": ["orphan", "foregroundDeletion"]}),
            &[
                "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and foregroundDeletion cannot be both set",
            ],
        );
        check(
            json!({"name": "a", "namespace": "b", "ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e"}]}),
            &[
                "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
                "/v1, Kind=Event is disallowed from being an owner",
            ],
        );
        check(
            json!({"name": "a", "namespace": "b", "managedFields": [{"operation": "Patch", "fieldsType": "X", "manager": "a\nb"}]}),
            &[
                "must be `Apply` or `Update`",
                "must be `FieldsV1`",
                "invalid character U+000A (at position 1)",
            ],
        );
    }

    #[test]
    fn updates_are_checked() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "generation": 2, "deletionTimestamp": "2020-01-01T00:00:00Z"}});
        let new = json!({"metadata": {"name": "b", "uid": "1", "generation": 1, "finalizers": ["x.y/z"]}});
        let texts: Vec<_> =
            validate_update(&new, &old, &Path::new("metadata")).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.y/z\"}",
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.generation: Invalid value: 1: must not be decremented",
                "metadata.name: Invalid value: \"b\": field is immutable",
                "metadata.deletionTimestamp: Invalid value: null: field is immutable",
            ]
        );
    }
}
