//! Whether a merged tree can become a Go object, in the words of upstream's converter, which strategic patches go through instead of a
//! JSON decoder. Types that read themselves from JSON are left to whoever decodes. It must not change the tree.
use serde_json::Value;

use crate::go;
use crate::object::Object;
use crate::schema::{Container, Field, Kind, TypeRef};

/// Why a value cannot become what its type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Go could convert it, JSON must not.
    #[error("cannot convert {from} to {to}")]
    Convert {
        /// The type of the value.
        from: &'static str,
        /// The type that is wanted.
        to: &'static str,
    },
    /// A scalar of another kind is wanted.
    #[error("unrecognized type: {0}")]
    Unrecognized(&'static str),
    /// A map is wanted.
    #[error("cannot restore map from {0}")]
    Map(&'static str),
    /// A list is wanted.
    #[error("cannot restore slice from {0}")]
    List(&'static str),
    /// A structure is wanted.
    #[error("cannot restore struct from: {0}")]
    Struct(&'static str),
}

type Restored = Result<(), RestoreError>;

/// Looks for the first value that its type cannot take.
pub fn restore(value: &Value, ty: TypeRef) -> Restored {
    let Value::Object(fields) = value else { return Err(RestoreError::Struct(go::kind(value))) };
    if ty.is_kind() {
        for name in ["kind", "apiVersion"] {
            fields.get(name).map_or(Ok(()), |value| scalar(value, "string", "string"))?;
        }
    }
    structure(fields, ty)
}

fn structure(fields: &Object, ty: TypeRef) -> Restored {
    for declared in ty.fields() {
        match declared.struct_type().filter(|_| declared.is_inline()) {
            Some(inner) => structure(fields, inner)?,
            None => fields.get(declared.name()).map_or(Ok(()), |value| field(value, declared))?,
        }
    }
    Ok(())
}

fn field(value: &Value, declared: &Field) -> Restored {
    match (declared.container(), value) {
        (_, Value::Null) => Ok(()),
        (Container::None, value) => one(value, declared),
        (Container::List, Value::Array(items)) => items.iter().try_for_each(|item| one(item, declared)),
        (Container::List, other) => Err(RestoreError::List(go::kind(other))),
        (Container::Map, Value::Object(entries)) => {
            entries.values().try_for_each(|entry| one(entry, declared))
        }
        (Container::Map, other) => Err(RestoreError::Map(go::kind(other))),
    }
}

fn one(value: &Value, declared: &Field) -> Restored {
    let go_type = declared.go_type();
    match (declared.kind(), value) {
        (_, Value::Null) => Ok(()),
        (Kind::Struct(ty), Value::Object(fields)) => structure(fields, ty),
        (Kind::Struct(_), other) => Err(RestoreError::Struct(go::kind(other))),
        (Kind::String, value) => scalar(value, "string", go_type),
        (Kind::Bool, value) => scalar(value, "bool", go_type),
        (Kind::Int32, value) => scalar(value, "int32", go_type),
        (Kind::Int64, value) => scalar(value, "int64", go_type),
        (Kind::Float, value) => scalar(value, "float64", go_type),
        (Kind::Bytes, Value::String(_)) => Ok(()),
        (Kind::StringList, Value::Array(items)) => {
            items.iter().try_for_each(|item| scalar(item, "string", "string"))
        }
        (Kind::Bytes | Kind::StringList, other) => Err(RestoreError::List(go::kind(other))),
        _ => Ok(()),
    }
}

/// `wanted` is a kind, `go_type` the type of that kind.
fn scalar(value: &Value, wanted: &'static str, go_type: &'static str) -> Restored {
    let from = go::kind(value);
    match (from, wanted) {
        ("invalid", _) | ("string", "string") | ("bool", "bool") => Ok(()),
        ("int64", "int32" | "int64" | "float64") | ("float64", "float64") => Ok(()),
        ("float64", "int32" | "int64") if value.as_f64().is_some_and(|float| float.fract() == 0.0) => Ok(()),
        ("float64", "int32" | "int64") | ("int64", "string") => {
            Err(RestoreError::Convert { from, to: go_type })
        }
        _ => Err(RestoreError::Unrecognized(wanted)),
    }
}
