//! Objects inside objects: kind and apiVersion are texts, and metadata has the form that every object's metadata has.
use super::Schema;
use crate::field::FieldError;
use crate::field::Path;
use crate::json::Place;
use crate::normalize::{self, Mode, StrictIssue};
use crate::schema::lookup_type;
use serde_json::Value;

/// Brings the metadata of an object, and of the objects that it embeds, into its form. Returns the fields that metadata does
/// not have.
///
/// # Errors
/// The first field of a wrong type.
pub fn coerce(object: &mut Value, schema: &Schema) -> Result<Vec<StrictIssue>, FieldError> {
    let mut dropped = Vec::new();
    walk(object, Some(schema), true, &Place::Root, &mut dropped)?;
    Ok(dropped)
}

fn walk(
    value: &mut Value,
    schema: Option<&Schema>,
    is_object: bool,
    at: &Place<'_>,
    dropped: &mut Vec<StrictIssue>,
) -> Result<(), FieldError> {
    let Some(schema) = schema else { return Ok(()) };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                let place = Place::Field(at, name);
                match name.as_str() {
                    "apiVersion" | "kind" if is_object && !value.is_string() => {
                        return Err(invalid(&place, value, "must be a string"));
                    }
                    "metadata" if is_object => metadata(value, &place, dropped)?,
                    _ => {}
                }
                let field = schema.field(name);
                walk(value, field, field.is_some_and(Schema::is_embedded), &place, dropped)?;
            }
            Ok(())
        }
        Value::Array(items) => {
            let schema = schema.items();
            let embedded = schema.is_some_and(Schema::is_embedded);
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, schema, embedded, &Place::Item(at, index), dropped)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn metadata(value: &mut Value, at: &Place<'_>, dropped: &mut Vec<StrictIssue>) -> Result<(), FieldError> {
    let ty = lookup_type("meta/v1", "ObjectMeta").expect("the table has the type of metadata");
    if value.is_null() {
        *value = Value::Object(serde_json::Map::new());
    }
    let before = value.clone();
    let issues = normalize::normalize(value, ty, Mode::Full)
        .map_err(|error| invalid(at, &before, &error.to_string()))?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, value| name != "creationTimestamp" || !value.is_null());
    }
    dropped.extend(issues.into_iter().map(|issue| match issue {
        StrictIssue::UnknownField(path) => StrictIssue::UnknownField(format!("{at}.{path}")),
        StrictIssue::DuplicateField(path) => StrictIssue::DuplicateField(format!("{at}.{path}")),
        // Those are found in texts.
        keys @ StrictIssue::DuplicateKeys(_) => keys,
    }));
    Ok(())
}

fn invalid(at: &Place<'_>, value: &Value, detail: &str) -> FieldError {
    FieldError::invalid(&Path::new(at.to_string()), value.clone(), detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(mut object: Value, expected: Result<Value, &str>, unknown: &[&str]) {
        let schema = Schema::read(&json!({"type": "object", "properties": {
            "embedded": {"type": "object", "x-kubernetes-embedded-resource": true},
        }}));
        match (coerce(&mut object, &schema), expected) {
            (Ok(dropped), Ok(expected)) => {
                assert_eq!(object, expected);
                let texts: Vec<_> = dropped.iter().map(ToString::to_string).collect();
                assert_eq!(texts, unknown);
            }
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn metadata_has_its_own_form() {
        check(
            json!({"metadata": {"name": "x", "odd": 1, "creationTimestamp": null, "labels": {}},
                "embedded": {"kind": "P", "metadata": {"name": "y", "more": 2}}}),
            Ok(json!({"metadata": {"name": "x"}, "embedded": {"kind": "P", "metadata": {"name": "y"}}})),
            &["unknown field \"embedded.metadata.more\"", "unknown field \"metadata.odd\""],
        );
    }

    #[test]
    fn wrong_types_are_told() {
        check(json!({"kind": 1}), Err("kind: Invalid value: 1: must be a string"), &[]);
        check(
            json!({"metadata": {"labels": "x"}}),
            Err(
                "metadata: Invalid value: {\"labels\":\"x\"}: json: cannot unmarshal string into Go struct field \
                 ObjectMeta.labels of type map[string]string",
            ),
            &[],
        );
        check(
            json!({"embedded": {"apiVersion": {}}}),
            Err("embedded.apiVersion: Invalid value: {}: must be a string"),
            &[],
        );
    }
}
