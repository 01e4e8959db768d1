//! What makes a schema structural: its skeleton says the type of everything, once, and the parts that only validate say nothing of
//! the kind.

use crate::tree::{entries, flag, get, list, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::structural::Pattern;
use serde_json::{Value, json};

type Errors = Vec<FieldError>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What keeps a schema from being structural, by its text.
pub fn errors(schema: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Errors::new();
    invariants(schema, Level::Root, path, &mut errors);
    completeness(schema, path, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

fn invariants(schema: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let ty = text(schema, "type");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    if ty == "array" && get(schema, "items").is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = get(schema, "items").filter(|items| items.is_object()) {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in entries(schema, "properties") {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    if let Some(additional) = get(schema, "additionalProperties") {
        let below = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&below, "must not be used at the root"));
        }
        if additional.is_object() {
            invariants(additional, Level::Field, &below, errors);
        }
        if embedded {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(FieldError::forbidden(&below, detail));
        }
    }
    extensions(schema, path, errors);
    validation(schema, is_int_or_string(schema), starts_with_int_or_string(schema), path, errors);
    types(schema, level, path, errors);
    object_fields(schema, level, path, errors);
    let has_properties =
        get(schema, "properties").and_then(Value::as_object).is_some_and(|own| !own.is_empty());
    if embedded && !flag(schema, "x-kubernetes-preserve-unknown-fields") && !has_properties {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
}

fn types(schema: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let (ty, path) = (text(schema, "type"), path.child("type"));
    let free =
        flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    if flag(schema, "x-kubernetes-embedded-resource") && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if ty.is_empty() {
            FieldError::required(&path, detail)
        } else {
            FieldError::invalid(&path, ty, detail)
        });
    } else if ty.is_empty() && !free {
        errors.push(FieldError::required(
            &path,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    }
    if level == Level::Root && !matches!(ty, "" | "object") {
        errors.push(FieldError::invalid(&path, ty, "must be object at the root"));
    }
}

fn object_fields(schema: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let is_object = level == Level::Root || flag(schema, "x-kubernetes-embedded-resource");
    let properties = &schema["properties"];
    for name in ["kind", "apiVersion"] {
        let Some(property) = get(properties, name).filter(|_| is_object) else { continue };
        let ty = text(property, "type");
        if ty != "string" {
            let path = path.child("properties").key(name).child("type");
            errors.push(FieldError::invalid(&path, ty, "must be string"));
        }
    }
    let Some(metadata) = get(properties, "metadata") else { return };
    let path = path.child("properties").key("metadata");
    let ty = text(metadata, "type");
    if is_object && ty != "object" {
        errors.push(FieldError::invalid(&path.child("type"), ty, "must be object"));
    }
    if level == Level::Root && restricts_more_than_names(metadata) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn restricts_more_than_names(metadata: &Value) -> bool {
    let names_only = entries(metadata, "properties").all(|(name, _)| matches!(name, "name" | "generateName"));
    let known = ["type", "default", "properties"];
    let others = metadata.as_object().into_iter().flatten().any(|(key, _)| !known.contains(&key.as_str()));
    !names_only || others
}

fn int_or_string() -> Value {
    json!([{"type": "integer"}, {"type": "string"}])
}

fn is_int_or_string(schema: &Value) -> bool {
    schema.get("anyOf") == Some(&int_or_string())
}

fn starts_with_int_or_string(schema: &Value) -> bool {
    list(schema, "allOf").first().is_some_and(is_int_or_string)
}

fn extensions(schema: &Value, path: &Path, errors: &mut Errors) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(schema, key) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&path.child(key), true, detail));
        }
    }
}

/// What only validates. The two forms of an int-or-string may say types.
fn validation(schema: &Value, skip_any_of: bool, skip_first_all_of: bool, path: &Path, errors: &mut Errors) {
    for (index, part) in list(schema, "anyOf").iter().enumerate().filter(|_| !skip_any_of) {
        nested(part, false, &path.child("anyOf").index(index), errors);
    }
    for (index, part) in list(schema, "allOf").iter().enumerate() {
        nested(part, skip_first_all_of && index == 0, &path.child("allOf").index(index), errors);
    }
    for (index, part) in list(schema, "oneOf").iter().enumerate() {
        nested(part, false, &path.child("oneOf").index(index), errors);
    }
    if let Some(part) = get(schema, "not").filter(|part| part.is_object()) {
        nested(part, false, &path.child("not"), errors);
    }
    let pattern = text(schema, "pattern");
    if let Err(error) = Pattern::check(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, detail));
    }
}

/// Keywords that validating parts may not have, and what they must be.
const FORBIDDEN: &[(&str, &str)] = &[
    ("type", "empty"),
    ("additionalProperties", "undefined"),
    ("default", "undefined"),
    ("title", "empty"),
    ("description", "empty"),
    ("nullable", "false"),
    ("externalDocs", "undefined"),
    ("x-kubernetes-preserve-unknown-fields", "false"),
    ("x-kubernetes-embedded-resource", "false"),
    ("x-kubernetes-int-or-string", "false"),
    ("x-kubernetes-list-map-keys", "empty"),
    ("x-kubernetes-list-type", "undefined"),
    ("x-kubernetes-map-type", "undefined"),
    ("x-kubernetes-validations", "empty"),
];

fn nested(schema: &Value, skip_any_of: bool, path: &Path, errors: &mut Errors) {
    validation(schema, skip_any_of, false, path, errors);
    if let Some(items) = get(schema, "items").filter(|items| items.is_object()) {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, property) in entries(schema, "properties") {
        nested(property, false, &path.child("properties").key(name), errors);
    }
    for (key, wanted) in FORBIDDEN {
        let is_said = match schema.get(*key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        if is_said {
            errors
                .push(FieldError::forbidden(&path.child(key), format!("must be {wanted} to be structural")));
        }
    }
    if get(&schema["properties"], "metadata").is_some() {
        let path = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(&path, "must not be specified in a nested context"));
    }
}

/// Every field that validating parts speak of is in the skeleton.
fn completeness(schema: &Value, path: &Path, errors: &mut Errors) {
    complete_junctors(schema, Some(schema), path, path, errors);
    for (name, property) in entries(schema, "properties") {
        completeness(property, &path.child("properties").key(name), errors);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = get(schema, key).filter(|below| below.is_object()) {
            completeness(below, &path.child(key), errors);
        }
    }
}

fn complete_junctors(
    part: &Value,
    skeleton: Option<&Value>,
    skeleton_path: &Path,
    path: &Path,
    errors: &mut Errors,
) {
    if let Some(not) = get(part, "not") {
        complete(not, skeleton, skeleton_path, &path.child("not"), errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (index, part) in list(part, key).iter().enumerate() {
            complete(part, skeleton, skeleton_path, &path.child(key).index(index), errors);
        }
    }
}

fn complete(part: &Value, skeleton: Option<&Value>, skeleton_path: &Path, path: &Path, errors: &mut Errors) {
    let Some(skeleton) = skeleton else {
        errors.push(FieldError::required(skeleton_path, format!("because it is defined in {path}")));
        return;
    };
    complete_junctors(part, Some(skeleton), skeleton_path, path, errors);
    if let Some(items) = get(part, "items") {
        complete(items, get(skeleton, "items"), &skeleton_path.child("items"), &path.child("items"), errors);
    }
    for (name, property) in entries(part, "properties") {
        let own = |path: &Path| path.child("properties").key(name);
        complete(property, get(&skeleton["properties"], name), &own(skeleton_path), &own(path), errors);
    }
}
