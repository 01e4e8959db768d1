//! JSON patches (RFC 6902) as upstream's library applies them: negative indices count from the end, a missing value is null, and a
//! replacement of what is not there adds it. It must not know types.
use serde_json::Value;

use crate::field::quote;
use crate::json::kind_of;
use crate::normalize::StrictIssue;

/// Most operations in one patch.
pub const MAX_OPERATIONS: usize = 10_000;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// It is no list, or an operation in it is no object.
    #[error("json: cannot unmarshal {got} into Go value of type {wanted}")]
    Type {
        /// What it is.
        got: &'static str,
        /// Go's name of what it should be.
        wanted: &'static str,
    },
    /// A part of an operation is no text.
    #[error("json: cannot unmarshal {got} into Go struct field jsonPatchOp.{part} of type string")]
    PartType {
        /// What it is.
        got: &'static str,
        /// Which part.
        part: &'static str,
    },
    /// It has too many operations.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// An operation is none that exists.
    #[error("Unexpected kind: {0}")]
    UnknownOperation(String),
    /// An operation lacks a part, or has one of the wrong type.
    #[error("{operation} operation failed to decode {part}: missing value")]
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
        "error in {operation} for path: '{path}': Unable to access invalid index: {index}: invalid index referenced"
    )]
    Index {
        /// Which operation.
        operation: String,
        /// Where it points.
        path: String,
        /// The place.
        index: String,
    },
    /// The whole would become a scalar.
    #[error("replace operation value must be object or array")]
    NoDocument,
    /// A test does not hold.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
}

type Applied<T = ()> = Result<T, JsonPatchError>;

/// Reads a patch as strictly as upstream does unless it is told to ignore what is odd: the types of an operation's parts, and parts
/// that no operation has.
pub fn check(patch: &Value) -> Result<Vec<StrictIssue>, JsonPatchError> {
    let mut issues = Vec::new();
    for (index, operation) in operations(patch, "[]handlers.jsonPatchOp")?.iter().enumerate() {
        let parts = match operation {
            Value::Object(parts) => parts,
            Value::Null => continue,
            other => {
                return Err(JsonPatchError::Type { got: kind_of(other), wanted: "handlers.jsonPatchOp" });
            }
        };
        for (name, value) in parts {
            let part = match name.as_str() {
                "value" => continue,
                "op" => "op",
                "path" => "path",
                "from" => "from",
                other => {
                    issues.push(StrictIssue::UnknownField(format!("[{index}].{other}")));
                    continue;
                }
            };
            if !value.is_string() && !value.is_null() {
                return Err(JsonPatchError::PartType { got: kind_of(value), part });
            }
        }
    }
    Ok(issues)
}

fn operations<'p>(patch: &'p Value, wanted: &'static str) -> Applied<&'p [Value]> {
    match patch {
        Value::Array(operations) => Ok(operations),
        Value::Null => Ok(&[]),
        other => Err(JsonPatchError::Type { got: kind_of(other), wanted }),
    }
}

/// Applies the operations one after the other. When one fails the document is left as far as the others came: use a copy.
pub fn apply(document: &mut Value, patch: &Value) -> Applied {
    let operations = operations(patch, "jsonpatch.Patch")?;
    if let Some(other) = operations.iter().find(|operation| !operation.is_object() && !operation.is_null()) {
        return Err(JsonPatchError::Type { got: kind_of(other), wanted: "jsonpatch.Operation" });
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(JsonPatchError::TooManyOperations(operations.len()));
    }
    operations.iter().try_for_each(|operation| Operation(operation).apply(document))
}

struct Operation<'a>(&'a Value);

impl Operation<'_> {
    fn name(&self) -> &str {
        self.0.get("op").and_then(Value::as_str).unwrap_or("unknown")
    }

    fn text(&self, part: &'static str) -> Applied<&str> {
        let text = self.0.get(part).and_then(Value::as_str);
        text.ok_or_else(|| JsonPatchError::Part { operation: self.name().to_owned(), part })
    }

    fn value(&self) -> Value {
        self.0.get("value").cloned().unwrap_or_default()
    }

    fn missing(&self, path: &str) -> JsonPatchError {
        JsonPatchError::Missing { operation: self.name().to_owned(), path: path.to_owned() }
    }

    fn apply(&self, document: &mut Value) -> Applied {
        match self.name() {
            "add" => self.add(document, self.text("path")?, self.value()),
            "remove" => self.remove(document, self.text("path")?).map(drop),
            "replace" => self.replace(document, self.text("path")?, self.value()),
            "move" => {
                let moved = self.remove(document, self.text("from")?)?;
                self.add(document, self.text("path")?, moved)
            }
            "copy" => {
                let copied = self.get(document, self.text("from")?)?.clone();
                self.add(document, self.text("path")?, copied)
            }
            "test" => self.test(document, self.text("path")?),
            other => Err(JsonPatchError::UnknownOperation(other.to_owned())),
        }
    }

    fn test(&self, document: &mut Value, path: &str) -> Applied {
        let found = if path.is_empty() { &*document } else { self.get(document, path)? };
        if *found == self.value() { Ok(()) } else { Err(JsonPatchError::TestFailed(path.to_owned())) }
    }

    fn add(&self, document: &mut Value, path: &str, value: Value) -> Applied {
        match self.container(document, path)? {
            (Container::Object(fields), name) => {
                fields.insert(name, value);
            }
            (Container::List(items), name) if name == "-" => items.push(value),
            (Container::List(items), name) => {
                let index = self.index(path, &name, items.len() + 1)?;
                items.insert(index, value);
            }
        }
        Ok(())
    }

    fn remove(&self, document: &mut Value, path: &str) -> Applied<Value> {
        match self.container(document, path)? {
            (Container::Object(fields), name) => fields.remove(&name).ok_or_else(|| self.missing(path)),
            (Container::List(items), name) => {
                let index = self.index(path, &name, items.len())?;
                Ok(items.remove(index))
            }
        }
    }

    fn replace(&self, document: &mut Value, path: &str, value: Value) -> Applied {
        if path.is_empty() {
            if !value.is_object() && !value.is_array() {
                return Err(JsonPatchError::NoDocument);
            }
            *document = value;
            return Ok(());
        }
        match self.container(document, path)? {
            (Container::Object(fields), name) => {
                fields.insert(name, value);
            }
            (Container::List(items), name) => {
                let index = self.index(path, &name, items.len())?;
                items[index] = value;
            }
        }
        Ok(())
    }

    /// The value that the path points to; null where an object has none.
    fn get<'d>(&self, document: &'d mut Value, path: &str) -> Applied<&'d Value> {
        match self.container(document, path)? {
            (Container::Object(fields), name) => Ok(fields.get(&name).unwrap_or(&Value::Null)),
            (Container::List(items), name) => {
                let index = self.index(path, &name, items.len())?;
                Ok(&items[index])
            }
        }
    }

    /// What contains the value that the path points to, and its name there. The whole document is contained in nothing.
    fn container<'d>(&self, document: &'d mut Value, path: &str) -> Applied<(Container<'d>, String)> {
        // What stands before the first slash is not looked at.
        let names = path.split_once('/').map(|(_, names)| names.split('/'));
        let mut names = names.ok_or_else(|| self.missing(path))?.map(unescape);
        let mut name = names.next().unwrap_or_default();
        let mut container = Container::of(document).ok_or_else(|| self.missing(path))?;
        for next in names {
            let inner = match container {
                Container::Object(fields) => fields.get_mut(&name),
                Container::List(items) => {
                    let index = self.index(path, &name, items.len())?;
                    items.get_mut(index)
                }
            };
            container = inner.and_then(Container::of).ok_or_else(|| self.missing(path))?;
            name = next;
        }
        Ok((container, name))
    }

    fn index(&self, path: &str, name: &str, length: usize) -> Applied<usize> {
        let invalid = || JsonPatchError::Index {
            operation: self.name().to_owned(),
            path: path.to_owned(),
            index: name.to_owned(),
        };
        let index: i64 = name.parse().map_err(|_| invalid())?;
        let from_start = if index < 0 { index.saturating_add(length as i64) } else { index };
        usize::try_from(from_start).ok().filter(|index| *index < length).ok_or_else(invalid)
    }
}

/// What has values by name or place.
enum Container<'d> {
    Object(&'d mut crate::Object),
    List(&'d mut Vec<Value>),
}

impl<'d> Container<'d> {
    fn of(value: &'d mut Value) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self::Object(fields)),
            Value::Array(items) => Some(Self::List(items)),
            _ => None,
        }
    }
}

/// A name in a JSON pointer.
fn unescape(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests;
