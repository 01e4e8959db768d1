//! Reading and changing `Value` trees whose types the schema has already checked: an absent field, a null and the zero value
//! of its type read the same, as they do for a Go struct. It knows no kind.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// The field `key`, unless it is absent or null.
pub(crate) fn get<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// The field at the end of `keys`, null if any is absent.
pub(crate) fn at<'a>(object: &'a Value, keys: &[&str]) -> &'a Value {
    keys.iter().try_fold(object, |value, key| value.get(key)).unwrap_or(&NULL)
}

/// A string field, empty if absent.
pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A number, if it is there.
pub(crate) fn number(object: &Value, key: &str) -> Option<i64> {
    object.get(key).and_then(Value::as_i64)
}

/// A number, zero if absent.
pub(crate) fn count(object: &Value, key: &str) -> i64 {
    number(object, key).unwrap_or(0)
}

/// A boolean, false if absent.
pub(crate) fn flag(object: &Value, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of a list, none if absent.
pub(crate) fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings of a list.
pub(crate) fn texts<'a>(object: &'a Value, key: &str) -> Vec<&'a str> {
    list(object, key).iter().filter_map(Value::as_str).collect()
}

/// The entries of a map, none if absent.
pub(crate) fn entries<'a>(
    object: &'a Value,
    key: &str,
) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
    object.get(key).and_then(Value::as_object).into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// How many entries a map has.
pub(crate) fn size(object: &Value, key: &str) -> usize {
    object.get(key).and_then(Value::as_object).map_or(0, Map::len)
}

/// Whether a field is absent, null or the zero value of its type (an empty object counts as set, as a Go pointer does).
pub(crate) fn is_unset(object: &Value, key: &str) -> bool {
    match object.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// Sets a field that is absent, null, or an empty string.
pub(crate) fn default(object: &mut Value, key: &str, value: impl Into<Value>) {
    let unset =
        matches!(object.get(key), None | Some(Value::Null)) || object.get(key).is_some_and(|v| v == "");
    if unset {
        set(object, key, value);
    }
}

/// Sets a number that is absent or zero.
pub(crate) fn default_nonzero(object: &mut Value, key: &str, value: i64) {
    if count(object, key) == 0 {
        set(object, key, value);
    }
}

/// Sets a field of an object; anything but an object stays as it is.
pub(crate) fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

/// Removes a field.
pub(crate) fn remove(object: &mut Value, key: &str) -> Option<Value> {
    object.as_object_mut().and_then(|map| map.remove(key))
}

/// The object in field `key`, to change it; made if it is absent.
pub(crate) fn child<'a>(object: &'a mut Value, key: &str) -> &'a mut Value {
    default(object, key, Value::Object(Map::new()));
    &mut object[key]
}

/// Calls `change` on the field, if it is there.
pub(crate) fn with(object: &mut Value, key: &str, change: impl FnOnce(&mut Value)) {
    if let Some(value) = object.get_mut(key).filter(|value| !value.is_null()) {
        change(value);
    }
}

/// Calls `change` on each item of a list.
pub(crate) fn each(object: &mut Value, key: &str, change: impl FnMut(&mut Value)) {
    object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
}

/// Whether two fields are equal, where an absent one equals null and empty collections.
pub(crate) fn same(left: &Value, right: &Value, key: &str) -> bool {
    equal(get(left, key).unwrap_or(&NULL), get(right, key).unwrap_or(&NULL))
}

/// Equality as upstream's semantic equality: absent, null and empty lists and maps are the same.
pub(crate) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            left.iter().all(|(key, value)| equal(value, right.get(key).unwrap_or(&NULL)))
                && right.iter().all(|(key, value)| left.contains_key(key) || equal(&NULL, value))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Null, other) | (other, Value::Null) => is_empty(other),
        (left, right) => left == right,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_null_and_empty_are_equal() {
        let check = |left: Value, right: Value, expected| {
            assert_eq!(equal(&left, &right), expected, "{left} {right}")
        };
        check(json!({}), json!({"a": null, "b": [], "c": {}}), true);
        check(json!({"a": ""}), json!({}), false);
        check(json!({"a": [1, 2]}), json!({"a": [2, 1]}), false);
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": []}}), true);
    }

    #[test]
    fn defaults_fill_only_what_is_unset() {
        let mut object = json!({"a": "", "b": null, "c": "x", "d": 0});
        for key in ["a", "b", "c"] {
            default(&mut object, key, "new");
        }
        default_nonzero(&mut object, "d", 7);
        assert_eq!(object, json!({"a": "new", "b": "new", "c": "x", "d": 7}));
    }
}
