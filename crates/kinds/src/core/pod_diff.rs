//! What differs between two trees, for people: one line for each field that was removed (`-`) or added (`+`). It stands where
//! upstream prints the difference of its structs.

use crate::tree::equal;
use serde_json::Value;
use std::collections::BTreeSet;

/// The differences, one a line.
pub(crate) fn diff(old: &Value, new: &Value) -> String {
    let mut lines = Vec::new();
    walk("", old, new, &mut lines);
    lines.join("\n")
}

fn walk(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    if equal(old, new) {
        return;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(
                    &path,
                    old.get(key).unwrap_or(&Value::Null),
                    new.get(key).unwrap_or(&Value::Null),
                    lines,
                );
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                walk(&format!("{path}[{index}]"), old, new, lines);
            }
        }
        _ => {
            for (sign, value) in [('-', old), ('+', new)] {
                if !value.is_null() {
                    lines.push(format!("  {sign} {path}: {value}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_change_has_its_path() {
        let old = json!({"a": [{"b": 1}], "c": "x"});
        let new = json!({"a": [{"b": 2, "d": true}], "e": []});
        assert_eq!(diff(&old, &new), "  - a[0].b: 1\n  + a[0].b: 2\n  + a[0].d: true\n  - c: \"x\"");
    }
}
