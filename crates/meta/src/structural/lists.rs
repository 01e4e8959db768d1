//! Lists that are sets or maps: no value, and no combination of keys, may be there twice.
use super::{Additional, ListType, Schema};
use crate::field::{FieldError, Path};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Checks every list below `value`.
pub fn validate_lists(value: &Value, schema: &Schema, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(value, schema, path, &mut errors);
    errors
}

fn walk(value: &Value, schema: &Schema, path: &Path, errors: &mut Vec<FieldError>) {
    if !schema.flags.lists {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Additional::Schema(additional) = schema.additional() {
                    walk(value, additional, &path.key(name), errors);
                }
                if let Some(property) = schema.property(name) {
                    walk(value, property, &path.child(name), errors);
                }
            }
        }
        Value::Array(items) => {
            list(items, schema, path, errors);
            if let Some(schema) = schema.items() {
                let items = items.iter().enumerate();
                items.for_each(|(index, item)| walk(item, schema, &path.index(index), errors));
            }
        }
        _ => {}
    }
}

fn list(items: &[Value], schema: &Schema, path: &Path, errors: &mut Vec<FieldError>) {
    match schema.list_type() {
        ListType::Atomic => {}
        ListType::Set => {
            let keys = items.to_vec();
            errors.extend(
                repeated(keys).into_iter().map(|(at, key)| FieldError::duplicate(&path.index(at), key)),
            );
        }
        ListType::Map => map(items, schema, path, errors),
    }
}

fn map(items: &[Value], schema: &Schema, path: &Path, errors: &mut Vec<FieldError>) {
    let odd = items.iter().enumerate().filter(|(_, item)| !item.is_object() && !item.is_null());
    let odd: Vec<_> = odd
        .map(|(at, item)| {
            let detail = "must be an object for an array of list-type map";
            FieldError::invalid(&path.index(at), item.clone(), detail)
        })
        .collect();
    if !odd.is_empty() {
        errors.extend(odd);
        return;
    }
    let keys = items.iter().map(|item| key_of(item, schema)).collect();
    errors.extend(repeated(keys).into_iter().map(|(at, key)| FieldError::duplicate(&path.index(at), key)));
}

/// The key fields of an item; one that is absent has its default.
fn key_of(item: &Value, schema: &Schema) -> Value {
    let mut keys = Map::new();
    for name in schema.map_keys() {
        let default = || schema.items()?.property(name)?.default_value().cloned();
        if let Some(value) = item.get(name).cloned().or_else(default) {
            keys.insert(name.to_owned(), value);
        }
    }
    keys.into()
}

/// Each value that was there before, once.
fn repeated(values: Vec<Value>) -> Vec<(usize, Value)> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut repeated = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let count = seen.entry(value.to_string()).or_insert(0);
        *count += 1;
        if *count == 2 {
            repeated.push((index, value));
        }
    }
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, value: Value, expected: &[&str]) {
        let errors = validate_lists(&value, &Schema::read(&schema), &Path::root());
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn sets_and_maps_have_no_duplicates() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {"port": {"type": "integer"},
                    "protocol": {"type": "string", "default": "TCP"}}}},
            "atomic": {"type": "array", "items": {"type": "string"}},
        }}}});
        check(
            schema,
            json!({"spec": {"set": ["a", "b", "a", "a"], "atomic": ["x", "x"],
                "ports": [{"port": 1}, {"port": 1, "protocol": "UDP"}, {"port": 1, "protocol": "TCP"}]}}),
            &[
                "spec.ports[2]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}",
                "spec.set[2]: Duplicate value: \"a\"",
            ],
        );
    }
}
