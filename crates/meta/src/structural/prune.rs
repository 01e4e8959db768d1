//! Drops the fields that a schema does not name, and tells their paths.
use super::{Additional, Schema};
use crate::json::Place;
use crate::normalize::{MAX_ISSUES, StrictIssue};
use serde_json::Value;

const OBJECT_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Prunes a whole object, whose kind, apiVersion and metadata stay. Returns what was dropped, by path.
pub fn prune(object: &mut Value, schema: &Schema) -> Vec<StrictIssue> {
    run(object, schema, true)
}

/// Prunes a value that may be a part of an object.
pub fn prune_value(value: &mut Value, schema: &Schema) -> Vec<StrictIssue> {
    run(value, schema, schema.is_embedded())
}

fn run(value: &mut Value, schema: &Schema, is_object: bool) -> Vec<StrictIssue> {
    let mut pruner = Pruner { dropped: Vec::new() };
    pruner.value(value, Some(schema), is_object, &Place::Root);
    pruner.dropped.sort();
    pruner.dropped.truncate(MAX_ISSUES);
    pruner.dropped.into_iter().map(StrictIssue::UnknownField).collect()
}

struct Pruner {
    dropped: Vec<String>,
}

impl Pruner {
    fn value(&mut self, value: &mut Value, schema: Option<&Schema>, is_object: bool, at: &Place<'_>) {
        if let Some(schema) = schema.filter(|schema| schema.preserves_unknown()) {
            return self.keep(value, schema, is_object, at);
        }
        match value {
            Value::Object(fields) => fields.retain(|name, value| {
                let Some(schema) = schema else { return self.drop(name, at) };
                if is_object && OBJECT_FIELDS.contains(&name.as_str()) {
                    return true;
                }
                let place = Place::Field(at, name);
                if let Some(property) = schema.property(name) {
                    self.value(value, Some(property), property.is_embedded(), &place);
                    return true;
                }
                match schema.additional() {
                    Additional::Schema(additional) => {
                        self.value(value, Some(additional), additional.is_embedded(), &place);
                        true
                    }
                    Additional::Allowed(_) => {
                        self.value(value, None, false, &place);
                        true
                    }
                    Additional::Unsaid => self.drop(name, at),
                }
            }),
            Value::Array(items) => {
                let schema = schema.and_then(Schema::items);
                for (index, item) in items.iter_mut().enumerate() {
                    let embedded = schema.is_some_and(Schema::is_embedded);
                    self.value(item, schema, embedded, &Place::Item(at, index));
                }
            }
            _ => {}
        }
    }

    /// Unknown fields stay; known ones are pruned by their own schemas.
    fn keep(&mut self, value: &mut Value, schema: &Schema, is_object: bool, at: &Place<'_>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    if is_object && OBJECT_FIELDS.contains(&name.as_str()) {
                        continue;
                    }
                    if let Some(field) = schema.field(name) {
                        self.value(value, Some(field), field.is_embedded(), &Place::Field(at, name));
                    }
                }
            }
            Value::Array(items) => {
                let Some(schema) = schema.items() else { return };
                for (index, item) in items.iter_mut().enumerate() {
                    self.value(item, Some(schema), schema.is_embedded(), &Place::Item(at, index));
                }
            }
            _ => {}
        }
    }

    fn drop(&mut self, name: &str, at: &Place<'_>) -> bool {
        self.dropped.push(Place::Field(at, name).to_string());
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, mut object: Value, expected: Value, dropped: &[&str]) {
        let issues = prune(&mut object, &Schema::read(&schema));
        assert_eq!(object, expected);
        let texts: Vec<_> = issues.iter().map(ToString::to_string).collect();
        let dropped: Vec<_> = dropped.iter().map(|path| format!("unknown field \"{path}\"")).collect();
        assert_eq!(texts, dropped);
    }

    #[test]
    fn unknown_fields_go_and_are_told() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {}}}},
                "free": {"type": "object", "additionalProperties": true},
            }},
        }});
        check(
            schema,
            json!({"kind": "K", "apiVersion": "g/v1", "metadata": {"name": "x", "odd": 1}, "extra": 1,
                "spec": {"b": 1, "list": [{"a": "x", "b": 1}], "map": {"k": {"a": 1, "b": 2}},
                    "free": {"scalar": 1, "object": {"x": 1}}}}),
            json!({"kind": "K", "apiVersion": "g/v1", "metadata": {"name": "x", "odd": 1},
                "spec": {"list": [{"a": "x"}], "map": {"k": {"a": 1}}, "free": {"scalar": 1, "object": {}}}}),
            &["extra", "spec.b", "spec.free.object.x", "spec.list[0].b", "spec.map.k.b"],
        );
    }

    #[test]
    fn preserved_fields_stay_and_known_ones_below_are_pruned() {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
            "strict": {"type": "object", "properties": {"a": {"type": "string"}}},
            "embedded": {"type": "object", "x-kubernetes-embedded-resource": true,
                "properties": {"spec": {"type": "object"}}},
        }});
        check(
            schema,
            json!({"any": {"x": 1}, "strict": {"a": "x", "b": 1},
                "embedded": {"kind": "P", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": {"c": 1}, "d": 1}}),
            json!({"any": {"x": 1}, "strict": {"a": "x"},
                "embedded": {"kind": "P", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": {}}}),
            &["embedded.d", "embedded.spec.c", "strict.b"],
        );
    }
}
