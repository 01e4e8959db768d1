//! Columns and cells of Tables that several kinds share. It knows upstream's wording for what is absent, and no kind.

use crate::duration;
use crate::kind::Column;
use crate::tree::{at, list, text};
use serde_json::Value;

/// What a cell shows in place of an empty value.
pub(crate) const NONE: &str = "<none>";

/// The name column.
pub(crate) fn name() -> Column {
    Column {
        name: "Name".into(),
        type_: "string".into(),
        format: "name".into(),
        description: "The name of the object, unique among its kind in its namespace.".into(),
        priority: 0,
    }
}

/// The age column.
pub(crate) fn age() -> Column {
    string("Age", "The time since the object was created.")
}

/// The column of kinds that upstream prints by its default alone: the moment of creation.
pub(crate) fn created_at() -> Column {
    column("Created At", "date", "When the object was created.")
}

/// The cell of [`created_at`].
pub(crate) fn created_at_cell(object: &Value) -> Value {
    at(object, &["metadata", "creationTimestamp"]).clone()
}

/// A column of text.
pub(crate) fn string(name: &'static str, description: &'static str) -> Column {
    column(name, "string", description)
}

/// A column of whole numbers.
pub(crate) fn integer(name: &'static str, description: &'static str) -> Column {
    column(name, "integer", description)
}

/// A column of truth values.
pub(crate) fn boolean(name: &'static str, description: &'static str) -> Column {
    column(name, "boolean", description)
}

fn column(name: &'static str, type_: &'static str, description: &'static str) -> Column {
    Column {
        name: name.into(),
        type_: type_.into(),
        format: "".into(),
        description: description.into(),
        priority: 0,
    }
}

/// The same column, shown only with `-o wide`.
pub(crate) fn wide(column: Column) -> Column {
    Column { priority: 1, ..column }
}

/// The columns `Containers` and `Images` of workloads, wide.
pub(crate) fn container_columns() -> [Column; 2] {
    [
        wide(string("Containers", "The names of the template's containers.")),
        wide(string("Images", "The images of the template's containers.")),
    ]
}

/// The cell of the name column.
pub(crate) fn name_cell(object: &Value) -> Value {
    text(&object["metadata"], "name").into()
}

/// The cell of the age column.
pub(crate) fn age_cell(object: &Value, now_s: i64) -> Value {
    since_cell(at(object, &["metadata", "creationTimestamp"]), now_s)
}

/// The time since `time`.
pub(crate) fn since_cell(time: &Value, now_s: i64) -> Value {
    duration::since(time.as_str().unwrap_or_default(), now_s).into()
}

/// The text, or `<none>`.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// The text, or `<unknown>`.
pub(crate) fn or_unknown(text: &str) -> Value {
    if text.is_empty() { "<unknown>".into() } else { text.into() }
}

/// A truth value as upstream prints pointers to them.
pub(crate) fn flag_text(object: &Value, key: &str) -> &'static str {
    match object.get(key).and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
}

/// A field that is a number or a string, as text.
pub(crate) fn int_or_string(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The names and images of a pod spec's containers, joined.
pub(crate) fn container_cells(pod_spec: &Value) -> [Value; 2] {
    let join = |key| {
        let texts: Vec<_> =
            list(pod_spec, "containers").iter().map(|container| text(container, key)).collect();
        Value::from(texts.join(","))
    };
    [join("name"), join("image")]
}

/// A map of labels as `a=b,c=d` in the order of keys, or `<none>`.
pub(crate) fn labels_cell(labels: &Value) -> Value {
    or_none(&labels_text(labels))
}

/// A map of labels as `a=b,c=d` in the order of keys.
pub(crate) fn labels_text(labels: &Value) -> String {
    let mut pairs: Vec<_> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    pairs.join(",")
}
