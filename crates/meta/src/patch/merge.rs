//! JSON merge patches (RFC 7386). It must not know types.
use serde_json::{Map, Value};

/// Merges the patch into the document: a null removes, an object merges, everything else replaces.
pub fn apply(document: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *document = patch;
        return;
    };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let Value::Object(fields) = document else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            apply(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_examples_of_the_standard_hold() {
        for (mut document, patch, expected) in [
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
        ] {
            apply(&mut document, patch);
            assert_eq!(document, expected);
        }
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
