//! JSON patches (RFC 6902) as upstream's library applies them: negative indices count from the end, and a missing value equals null in
//! a test. It must not know types.
use serde_json::Value;

use crate::field::quote;

/// Most operations in one patch.
pub const MAX_OPERATIONS: usize = 10_000;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// It is no list of operations.
    #[error("json: cannot unmarshal {got} into Go value of type jsonpatch.Patch")]
    NotAList {
        /// What it is.
        got: &'static str,
    },
    /// It has too many operations.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// An operation is none that exists.
    #[error("Unexpected kind: {0}")]
    UnknownOperation(String),
    /// An operation lacks a part, or has one of the wrong type.
    #[error("{operation} operation does not have a valid {part}")]
    Part {
        /// Which operation.
        operation: String,
        /// Which part.
        part: &'static str,
    },
    /// Nothing is where the operation points.
    #[error("{operation} operation does not apply: doc is missing path: {}: missing value", quote(path))]
    Missing {
        /// Which operation.
        operation: String,
        /// Where it points.
        path: String,
    },
    /// A list has no such place.
    #[error(
        "{operation} operation does not apply: unable to access invalid index: {index}: invalid index referenced"
    )]
    Index {
        /// Which operation.
        operation: String,
        /// The place.
        index: String,
    },
    /// A test does not hold.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
}

type Applied<T = ()> = Result<T, JsonPatchError>;

/// Applies the operations one after the other. When one fails the document is left as far as the others came: use a copy.
pub fn apply(document: &mut Value, patch: &Value) -> Applied {
    let operations = match patch {
        Value::Array(operations) => operations,
        Value::Null => return Ok(()),
        Value::Object(_) => return Err(JsonPatchError::NotAList { got: "object" }),
        Value::String(_) => return Err(JsonPatchError::NotAList { got: "string" }),
        Value::Bool(_) => return Err(JsonPatchError::NotAList { got: "bool" }),
        Value::Number(_) => return Err(JsonPatchError::NotAList { got: "number" }),
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(JsonPatchError::TooManyOperations(operations.len()));
    }
    operations.iter().try_for_each(|operation| Operation(operation).apply(document))
}

struct Operation<'a>(&'a Value);

impl Operation<'_> {
    fn name(&self) -> String {
        self.0.get("op").and_then(Value::as_str).unwrap_or("unknown").to_owned()
    }

    fn text(&self, part: &'static str) -> Applied<&str> {
        let text = self.0.get(part).and_then(Value::as_str);
        text.ok_or_else(|| JsonPatchError::Part { operation: self.name(), part })
    }

    fn value(&self) -> Applied<Value> {
        let value = self.0.get("value").cloned();
        value.ok_or_else(|| JsonPatchError::Part { operation: self.name(), part: "value" })
    }

    fn missing(&self, path: &str) -> JsonPatchError {
        JsonPatchError::Missing { operation: self.name(), path: path.to_owned() }
    }

    fn apply(&self, document: &mut Value) -> Applied {
        match self.name().as_str() {
            "add" => self.add(document, self.text("path")?, self.value()?),
            "remove" => self.remove(document, self.text("path")?).map(drop),
            "replace" => self.replace(document, self.text("path")?, self.value()?),
            "move" => {
                let moved = self.remove(document, self.text("from")?)?;
                self.add(document, self.text("path")?, moved)
            }
            "copy" => {
                let from = self.text("from")?;
                let copied = self.find(document, from)?.cloned().ok_or_else(|| self.missing(from))?;
                self.add(document, self.text("path")?, copied)
            }
            "test" => self.test(document, self.text("path")?),
            other => Err(JsonPatchError::UnknownOperation(other.to_owned())),
        }
    }

    fn test(&self, document: &Value, path: &str) -> Applied {
        let expected = self.0.get("value").unwrap_or(&Value::Null);
        let found = self.find(document, path)?.unwrap_or(&Value::Null);
        if equal(found, expected) { Ok(()) } else { Err(JsonPatchError::TestFailed(path.to_owned())) }
    }

    fn add(&self, document: &mut Value, path: &str, value: Value) -> Applied {
        let Some((parent, last)) = self.parent(document, path)? else {
            *document = value;
            return Ok(());
        };
        match parent {
            Value::Object(fields) => {
                fields.insert(last, value);
                Ok(())
            }
            Value::Array(items) if last == "-" => {
                items.push(value);
                Ok(())
            }
            Value::Array(items) => {
                let index = self.index(&last, items.len() + 1)?;
                items.insert(index, value);
                Ok(())
            }
            _ => Err(self.missing(path)),
        }
    }

    fn remove(&self, document: &mut Value, path: &str) -> Applied<Value> {
        let Some((parent, last)) = self.parent(document, path)? else { return Err(self.missing(path)) };
        match parent {
            Value::Object(fields) => fields.remove(&last).ok_or_else(|| self.missing(path)),
            Value::Array(items) => {
                let index = self.index(&last, items.len())?;
                Ok(items.remove(index))
            }
            _ => Err(self.missing(path)),
        }
    }

    fn replace(&self, document: &mut Value, path: &str, value: Value) -> Applied {
        let Some((parent, last)) = self.parent(document, path)? else {
            *document = value;
            return Ok(());
        };
        let place = match parent {
            Value::Object(fields) => fields.get_mut(&last),
            Value::Array(items) => {
                let index = self.index(&last, items.len())?;
                items.get_mut(index)
            }
            _ => None,
        };
        *place.ok_or_else(|| self.missing(path))? = value;
        Ok(())
    }

    /// The value that the path points to, if its parent is there.
    fn find<'d>(&self, document: &'d Value, path: &str) -> Applied<Option<&'d Value>> {
        let mut value = document;
        let names = names(path).ok_or_else(|| self.missing(path))?;
        for (position, name) in names.iter().enumerate() {
            let next = match value {
                Value::Object(fields) => fields.get(name),
                Value::Array(items) => items.get(self.index(name, items.len())?),
                _ => None,
            };
            match next {
                Some(next) => value = next,
                None if position + 1 == names.len() => return Ok(None),
                None => return Err(self.missing(path)),
            }
        }
        Ok(Some(value))
    }

    /// What contains the value that the path points to, and its name there. The whole document is contained in nothing.
    fn parent<'d>(&self, document: &'d mut Value, path: &str) -> Applied<Option<(&'d mut Value, String)>> {
        let mut names = names(path).ok_or_else(|| self.missing(path))?;
        let Some(last) = names.pop() else { return Ok(None) };
        let mut value = document;
        for name in names {
            let next = match value {
                Value::Object(fields) => fields.get_mut(&name),
                Value::Array(items) => {
                    let index = self.index(&name, items.len())?;
                    items.get_mut(index)
                }
                _ => None,
            };
            value = next.ok_or_else(|| self.missing(path))?;
        }
        Ok(Some((value, last)))
    }

    fn index(&self, name: &str, length: usize) -> Applied<usize> {
        let invalid = || JsonPatchError::Index { operation: self.name(), index: name.to_owned() };
        let index: i64 = name.parse().map_err(|_| invalid())?;
        let from_start = if index < 0 { index + length as i64 } else { index };
        usize::try_from(from_start).ok().filter(|index| *index < length).ok_or_else(invalid)
    }
}

/// The names of a JSON pointer; nothing if it is none.
fn names(path: &str) -> Option<Vec<String>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    let names = path.strip_prefix('/')?.split('/');
    Some(names.map(|name| name.replace("~1", "/").replace("~0", "~")).collect())
}

/// Numbers are equal by value, however they are written.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| equal(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| equal(x, y)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(mut document: Value, patch: Value, expected: Value) {
        apply(&mut document, &patch).unwrap_or_else(|error| panic!("{patch}: {error}"));
        assert_eq!(document, expected, "{patch}");
    }

    fn refused(mut document: Value, patch: Value, expected: &str) {
        let error = apply(&mut document, &patch).unwrap_err().to_string();
        assert!(error.contains(expected), "{patch}: {error}");
    }

    #[test]
    fn operations_apply() {
        let doc = || json!({"a": {"b": [1, 2, 3]}, "m~n/o": 1});
        check(
            doc(),
            json!([{"op": "add", "path": "/a/b/1", "value": 9}]),
            json!({"a": {"b": [1, 9, 2, 3]}, "m~n/o": 1}),
        );
        check(
            doc(),
            json!([{"op": "add", "path": "/a/b/-", "value": 9}]),
            json!({"a": {"b": [1, 2, 3, 9]}, "m~n/o": 1}),
        );
        check(
            doc(),
            json!([{"op": "add", "path": "/a/b/3", "value": 9}]),
            json!({"a": {"b": [1, 2, 3, 9]}, "m~n/o": 1}),
        );
        check(doc(), json!([{"op": "remove", "path": "/a/b/-1"}]), json!({"a": {"b": [1, 2]}, "m~n/o": 1}));
        check(
            doc(),
            json!([{"op": "replace", "path": "/m~0n~1o", "value": null}]),
            json!({"a": {"b": [1, 2, 3]}, "m~n/o": null}),
        );
        check(
            doc(),
            json!([{"op": "move", "from": "/a/b", "path": "/c"}]),
            json!({"a": {}, "c": [1, 2, 3], "m~n/o": 1}),
        );
        check(
            doc(),
            json!([{"op": "copy", "from": "/a/b/0", "path": "/a/x"}]),
            json!({"a": {"b": [1, 2, 3], "x": 1}, "m~n/o": 1}),
        );
        check(
            doc(),
            json!([{"op": "test", "path": "/a/b/0", "value": 1.0}, {"op": "test", "path": "/z", "value": null}]),
            doc(),
        );
        check(doc(), json!([{"op": "replace", "path": "", "value": 1}]), json!(1));
    }

    #[test]
    fn what_does_not_apply_is_refused() {
        let doc = || json!({"a": [1]});
        refused(doc(), json!({}), "cannot unmarshal object into Go value of type jsonpatch.Patch");
        refused(doc(), json!([{"op": "noop", "path": "/a"}]), "Unexpected kind: noop");
        refused(doc(), json!([{"op": "add", "path": "/x/y", "value": 1}]), "missing path");
        refused(doc(), json!([{"op": "add", "path": "/a/5", "value": 1}]), "invalid index");
        refused(doc(), json!([{"op": "remove", "path": "/x"}]), "missing path");
        refused(doc(), json!([{"op": "replace", "path": "/x", "value": 1}]), "missing path");
        refused(doc(), json!([{"op": "test", "path": "/a/0", "value": 2}]), "testing value /a/0 failed");
        refused(doc(), json!([{"op": "add", "path": "/x"}]), "valid value");
        refused(doc(), json!([{"op": "add", "value": 1}]), "valid path");
        let many = vec![json!({"op": "test", "path": "/x"}); MAX_OPERATIONS + 1];
        refused(doc(), Value::Array(many), "maximum operations in a JSON patch is 10000, got 10001");
    }

    proptest! {
        #[test]
        fn no_patch_panics(op in "add|remove|replace|move|copy|test", path in "(/[ab0-3~-]{0,2}){0,3}", from in "(/[ab0-3-]{0,2}){0,3}") {
            let mut document = json!({"a": {"b": [1, {"a": 2}]}, "b": [[]]});
            let patch = json!([{"op": op, "path": path, "from": from, "value": {"a": 1}}]);
            let _either_way = apply(&mut document, &patch);
        }
    }
}
