//! The rules of the schemas that definitions have, as far as they are no matter of structure: keywords that are not supported,
//! extensions that need each other, and where defaults may not stand.

use super::{schema_defaults, structural};
use crate::check::Errors;
use crate::tree::{entries, flag, get, list, text, texts};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const UNSUPPORTED: &[&str] = &["additionalItems", "patternProperties", "definitions", "dependencies"];
const OBJECT_FIELDS: &[&str] = &["metadata", "kind", "apiVersion"];
/// The keywords that upstream looks at before the type.
const BEFORE_TYPE: &[&str] = &["id", "$schema", "$ref"];
/// The keywords that a root schema may have beside a status subresource, with upstream's names for them.
const AT_ROOT: &[(&str, &str)] = &[
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// Checks the whole schema of a version. `path` is that of the schema's parent.
pub(super) fn check(schema: &Value, has_status: bool, path: &Path, errors: &mut Errors) {
    if has_status {
        check_root(schema, path, errors);
    }
    let path = path.child("openAPIV3Schema");
    if flag(schema, "nullable") {
        errors.push(FieldError::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    let mut keywords = Errors::new();
    Walker { errors: &mut keywords }.node(schema, &path, Place::ROOT);
    let invariants = structural::errors(schema, &path);
    if invariants.is_empty() && keywords.is_empty() {
        schema_defaults::check(schema, &path, errors);
    }
    errors.extend(invariants);
    errors.extend(keywords);
}

/// The schema of `status` is taken out of it on its own: nothing at the root may speak of it.
fn check_root(schema: &Value, path: &Path, errors: &mut Errors) {
    // Upstream looks at keywords in its own order, and stops at the first that is wrong.
    let ty = text(schema, "type");
    let is_other_type = !matches!(ty, "" | "object");
    if is_other_type && BEFORE_TYPE.iter().all(|key| get(schema, key).is_none()) {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(&path.child("openAPIV3Schema.type"), ty, detail));
        return;
    }
    let keys = schema.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    if keys.into_iter().any(|key| !AT_ROOT.iter().any(|(known, _)| *known == key)) {
        let names: Vec<&str> = AT_ROOT.iter().map(|(_, name)| *name).collect();
        let detail = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        errors.push(FieldError::invalid(&path.child("openAPIV3Schema"), schema.clone(), detail));
    }
}

/// Where a schema stands, as far as that matters to its defaults.
#[derive(Clone, Copy)]
struct Place {
    root: bool,
    in_metadata: bool,
    /// Why no default may stand here.
    no_defaults: Option<&'static str>,
}

impl Place {
    const ROOT: Self = Self { root: true, in_metadata: false, no_defaults: None };

    fn inner(self) -> Self {
        Self { root: false, ..self }
    }
}

struct Walker<'e> {
    errors: &'e mut Errors,
}

impl Walker<'_> {
    fn forbid(&mut self, path: &Path, key: &str, detail: impl Into<String>) {
        self.errors.push(FieldError::forbidden(&path.child(key), detail));
    }

    fn node(&mut self, schema: &Value, path: &Path, place: Place) {
        self.keywords(schema, path, place);
        if flag(schema, "uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(path, "uniqueItems", detail);
        }
        self.properties(schema, path, place);
        self.single(schema, "not", path, place);
        for key in ["allOf", "oneOf", "anyOf"] {
            for (index, part) in list(schema, key).iter().enumerate() {
                self.node(part, &path.child(key).index(index), place.inner());
            }
        }
        self.single(schema, "items", path, place);
        self.extensions(schema, path);
        self.list_map(schema, path);
        self.list_items(schema, path);
    }

    fn single(&mut self, schema: &Value, key: &str, path: &Path, place: Place) {
        if let Some(part) = get(schema, key).filter(|part| part.is_object()) {
            self.node(part, &path.child(key), place.inner());
        }
    }

    fn keywords(&mut self, schema: &Value, path: &Path, place: Place) {
        let ty = text(schema, "type");
        if !ty.is_empty() && !TYPES.contains(&ty) {
            self.errors.push(FieldError::not_supported(&path.child("type"), ty, TYPES));
        }
        if let Some(reason) = place.no_defaults
            && schema.get("default").is_some()
        {
            self.forbid(path, "default", format!("must not be set {reason}"));
        }
        if !text(schema, "id").is_empty() {
            self.forbid(path, "id", "id is not supported");
        }
        for key in UNSUPPORTED.iter().filter(|key| get(schema, key).is_some()) {
            self.forbid(path, key, format!("{key} is not supported"));
        }
        if get(schema, "$ref").is_some() {
            self.forbid(path, "$ref", "$ref is not supported");
        }
        if ty == "null" {
            self.forbid(path, "type", "type cannot be set to null, use nullable as an alternative");
        }
        if get(schema, "items").is_some_and(Value::is_array) {
            self.forbid(path, "items", "items must be a schema object and not an array");
        }
        if place.in_metadata && flag(schema, "x-kubernetes-embedded-resource") {
            let detail = "must not be used inside of resource meta";
            self.forbid(path, "x-kubernetes-embedded-resource", detail);
        }
        if !list(schema, "x-kubernetes-validations").is_empty() {
            // Rules that nobody evaluates would let everything pass.
            let detail = "validation rules in CEL are not supported by this server yet";
            self.forbid(path, "x-kubernetes-validations", detail);
        }
    }

    fn properties(&mut self, schema: &Value, path: &Path, place: Place) {
        let has_properties =
            get(schema, "properties").and_then(Value::as_object).is_some_and(|own| !own.is_empty());
        if let Some(additional) = get(schema, "additionalProperties") {
            let below = path.child("additionalProperties");
            if has_properties && *additional != Value::Bool(true) {
                let detail = "additionalProperties and properties are mutual exclusive";
                self.errors.push(FieldError::forbidden(&below, detail));
            }
            if additional.is_object() {
                let reason = "inside additionalProperties applying to object metadata";
                let no_defaults = if place.in_metadata { Some(reason) } else { place.no_defaults };
                self.node(additional, &below, Place { no_defaults, ..place.inner() });
            }
        }
        let is_object = place.root || flag(schema, "x-kubernetes-embedded-resource");
        for (name, property) in entries(schema, "properties") {
            let mut below = place.inner();
            if is_object && OBJECT_FIELDS.contains(&name) {
                below.in_metadata = true;
                if place.root {
                    below.no_defaults = Some(match name {
                        "metadata" => "in top-level metadata",
                        "kind" => "in top-level kind",
                        _ => "in top-level apiVersion",
                    });
                }
            }
            self.node(property, &path.child("properties").key(name), below);
        }
    }

    fn extensions(&mut self, schema: &Value, path: &Path) {
        let ty = text(schema, "type");
        if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let path = path.child("x-kubernetes-preserve-unknown-fields");
            self.errors.push(FieldError::invalid(&path, false, "must be true or undefined"));
        }
        for (key, wanted, known) in [
            ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
            ("x-kubernetes-list-type", "array", &["atomic", "set", "map"]),
        ] {
            let Some(value) = get(schema, key).and_then(Value::as_str) else { continue };
            let detail = format!("must be {wanted} if {key} is specified");
            let type_path = path.child("type");
            if ty.is_empty() {
                self.errors.push(FieldError::required(&type_path, detail));
            } else if ty != wanted {
                self.errors.push(FieldError::invalid(&type_path, ty, detail));
            } else if value == "set" {
                self.set_items(&schema["items"], &path.child("items"));
            }
            if !known.contains(&value) {
                self.errors.push(FieldError::not_supported(&path.child(key), value, known));
            }
        }
    }

    fn list_map(&mut self, schema: &Value, path: &Path) {
        let list_type = get(schema, "x-kubernetes-list-type").and_then(Value::as_str);
        let keys = texts(schema, "x-kubernetes-list-map-keys");
        let (type_path, keys_path) =
            (path.child("x-kubernetes-list-type"), path.child("x-kubernetes-list-map-keys"));
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None if !keys.is_empty() => self.errors.push(FieldError::required(&type_path, detail)),
            Some(other) if other != "map" && !keys.is_empty() => {
                self.errors.push(FieldError::invalid(&type_path, other, detail));
            }
            _ => {}
        }
        if list_type != Some("map") {
            return;
        }
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            self.errors.push(FieldError::required(&keys_path, detail));
        }
        let items_path = path.child("items");
        let Some(items) = get(schema, "items") else {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            return self.errors.push(FieldError::required(&items_path, detail));
        };
        if text(items, "type") != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            return self.errors.push(FieldError::invalid(
                &items_path.child("type"),
                text(items, "type"),
                detail,
            ));
        }
        self.map_keys(items, &keys, &items_path, &keys_path);
    }

    fn map_keys(&mut self, items: &Value, keys: &[&str], items_path: &Path, keys_path: &Path) {
        for (index, key) in keys.iter().enumerate() {
            match get(&items["properties"], key) {
                Some(property) if matches!(text(property, "type"), "array" | "object") => {
                    let path = items_path.child("properties").key(key).child("type");
                    let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    self.errors.push(FieldError::invalid(&path, text(items, "type"), detail));
                }
                Some(_) => {}
                None => {
                    let detail = "entries must all be names of item properties";
                    self.errors.push(FieldError::invalid(keys_path, keys.to_vec(), detail));
                }
            }
            if keys[..index].contains(key) {
                let detail = "must not contain duplicate entries";
                self.errors.push(FieldError::invalid(keys_path, keys.to_vec(), detail));
            }
        }
    }

    /// Items of sets and maps can be told apart.
    fn list_items(&mut self, schema: &Value, path: &Path) {
        let list_type = text(schema, "x-kubernetes-list-type");
        let Some(items) = get(schema, "items").filter(|_| matches!(list_type, "set" | "map")) else { return };
        let path = path.child("items");
        if flag(items, "nullable") {
            self.forbid(
                &path,
                "nullable",
                format!("cannot be nullable when x-kubernetes-list-type is {list_type}"),
            );
        }
        if list_type == "set" {
            return;
        }
        let required = texts(items, "required");
        for key in texts(schema, "x-kubernetes-list-map-keys") {
            let Some(property) = get(&items["properties"], key) else { continue };
            let path = path.child("properties").key(key);
            if !required.contains(&key) && property.get("default").is_none() {
                let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.errors.push(FieldError::required(&path.child("default"), detail));
            }
            if flag(property, "nullable") {
                let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.forbid(&path, "nullable", detail);
            }
        }
    }

    /// The value that is shown is that of the list type in both cases, as upstream has it.
    fn set_items(&mut self, items: &Value, path: &Path) {
        let own = get(items, "x-kubernetes-list-type");
        let (key, is_wrong) = match text(items, "type") {
            "array" => ("x-kubernetes-list-type", own.is_some_and(|own| own != "atomic")),
            "object" => ("x-kubernetes-map-type", text(items, "x-kubernetes-map-type") != "atomic"),
            _ => return,
        };
        if is_wrong {
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            let shown = own.cloned().unwrap_or(Value::Null);
            self.errors.push(FieldError::invalid(&path.child(key), shown, detail));
        }
    }
}
