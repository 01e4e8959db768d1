//! JSON merge patches (RFC 7386), as upstream's library applies them. It must not know types.
use serde_json::Value;

use crate::object::Object;

/// Merges the patch into the document: a null removes, an object merges, everything else replaces.
pub fn apply(document: &mut Value, patch: Value) {
    match (document, patch) {
        (Value::Object(fields), Value::Object(patch)) => merge(fields, patch),
        (document, mut patch) => {
            discard_nulls(&mut patch);
            *document = patch;
        }
    }
}

fn merge(fields: &mut Object, patch: Object) {
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            apply(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// What is added must not carry the removals of fields into the document, not even in the items of lists.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    fn check(rows: &[(Value, Value, Value)]) {
        for (document, patch, expected) in rows {
            let mut document = document.clone();
            apply(&mut document, patch.clone());
            assert_eq!(document, *expected, "{patch}");
        }
    }

    #[test]
    fn the_examples_of_the_standard_hold() {
        check(&[
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ]);
    }

    /// Read from `merge` and `pruneNulls` of json-patch.
    #[test]
    fn nulls_in_lists_go_with_what_is_added() {
        let with_null = json!({"a": [{"b": null, "c": 1}, null]});
        let without = json!({"a": [{"c": 1}, null]});
        check(&[
            (json!({}), with_null.clone(), without.clone()),
            (json!({"a": null}), with_null.clone(), without.clone()),
            (json!({"a": ["x"]}), with_null.clone(), without.clone()),
            (json!({"a": "x"}), with_null, without),
        ]);
    }

    proptest! {
        #[test]
        fn merging_twice_is_merging_once(keys in prop::collection::vec(("[a-c]", prop::option::of(0..3)), 0..6)) {
            let patch: Map<String, Value> = keys.into_iter().map(|(key, value)| (key, value.map_or(Value::Null, Value::from))).collect();
            let mut once = json!({"a": {"x": 1}, "b": 2});
            apply(&mut once, Value::Object(patch.clone()));
            let mut twice = once.clone();
            apply(&mut twice, Value::Object(patch));
            prop_assert_eq!(once, twice);
        }
    }
}
