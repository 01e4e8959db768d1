//! Fills the defaults of a schema into a value, and drops nulls that it does not allow.
use super::{Additional, Schema};
use serde_json::Value;

/// Sets what is absent, or null where that is no value, to its default.
pub fn fill(value: &mut Value, schema: &Schema) {
    if !schema.flags.defaults {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, property) in schema.properties() {
                let Some(default) = property.default_value() else { continue };
                let absent = fields.get(name).is_none_or(|value| is_no_value(value, property));
                if absent {
                    fields.insert(name.to_owned(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                let Some(field) = schema.field(name) else { continue };
                if schema.property(name).is_none() {
                    fill_element(value, field);
                }
                fill(value, field);
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items() else { return };
            for item in items {
                fill_element(item, schema);
                fill(item, schema);
            }
        }
        _ => {}
    }
}

fn fill_element(value: &mut Value, schema: &Schema) {
    if is_no_value(value, schema)
        && let Some(default) = schema.default_value()
    {
        *value = default.clone();
    }
}

fn is_no_value(value: &Value, schema: &Schema) -> bool {
    value.is_null() && !schema.is_nullable()
}

/// Drops fields that are null where their schema does not allow that.
pub fn prune_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => fields.retain(|name, value| {
            let Some(field) = schema.field(name) else { return true };
            prune_nulls(value, field);
            !is_no_value(value, field)
        }),
        Value::Array(items) => {
            let Some(schema) = schema.items() else { return };
            items.iter_mut().for_each(|item| prune_nulls(item, schema));
        }
        _ => {}
    }
}

impl Schema {
    /// Whether anything is defaulted.
    pub fn has_defaults(&self) -> bool {
        self.flags.defaults
    }

    /// Whether some property may be null that is not allowed to be: what [`prune_nulls`] looks for.
    pub fn names_fields(&self) -> bool {
        !self.properties.is_empty() || matches!(self.additional, Additional::Schema(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, mut value: Value, expected: Value) {
        let schema = Schema::read(&schema);
        fill(&mut value, &schema);
        prune_nulls(&mut value, &schema);
        assert_eq!(value, expected);
    }

    #[test]
    fn absent_fields_are_filled_at_every_depth() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "x"},
            "b": {"type": "object", "default": {}, "properties": {"c": {"type": "integer", "default": 7}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"d": {"default": true}}}},
            "map": {"type": "object", "additionalProperties": {"type": "string", "default": "y"}},
            "none": {"type": "object", "properties": {"e": {"default": 1}}},
        }});
        check(schema.clone(), json!({}), json!({"a": "x", "b": {"c": 7}}));
        check(
            schema,
            json!({"a": "own", "b": {"c": 1}, "list": [{}, {"d": false}], "map": {"k": null, "l": "z"}}),
            json!({"a": "own", "b": {"c": 1}, "list": [{"d": true}, {"d": false}], "map": {"k": "y", "l": "z"}}),
        );
    }

    #[test]
    fn nulls_are_values_only_where_they_may_be() {
        let schema = json!({"type": "object", "properties": {
            "default": {"type": "string", "default": "x"},
            "nullable": {"type": "string", "nullable": true, "default": "x"},
            "plain": {"type": "string"},
        }});
        check(
            schema,
            json!({"default": null, "nullable": null, "plain": null, "unknown": null}),
            json!({"default": "x", "nullable": null, "unknown": null}),
        );
    }
}
