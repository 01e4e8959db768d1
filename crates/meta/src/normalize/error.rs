//! What can be wrong with a document's fields, in the words of Go's JSON decoder. It must not know how documents are walked.
use std::fmt;

use serde_json::Value;

use crate::quantity::ParseQuantityError;
use crate::schema::TypeRef;
use crate::time::{ParseDurationError, ParseTimeError};
use crate::yaml;

/// A field that strict validation refuses and others warn about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StrictIssue {
    /// The type has no such field.
    UnknownField(String),
    /// The field stands in the document more than once.
    DuplicateField(String),
    /// Keys stand in a YAML text more than once, each in upstream's words.
    DuplicateKeys(Vec<String>),
}

impl StrictIssue {
    /// What it is as warnings, of which each is one line.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Self::DuplicateKeys(keys) => keys.clone(),
            other => vec![other.to_string()],
        }
    }
}

impl fmt::Display for StrictIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownField(path) => write!(f, "unknown field \"{path}\""),
            Self::DuplicateField(path) => write!(f, "duplicate field \"{path}\""),
            Self::DuplicateKeys(keys) => f.write_str(&yaml::unmarshal_errors(keys)),
        }
    }
}

/// Upstream's text of a refusal for strict issues: `strict decoding error: a, b`.
pub fn strict_error(issues: &[impl fmt::Display]) -> String {
    let texts: Vec<_> = issues.iter().map(ToString::to_string).collect();
    format!("strict decoding error: {}", texts.join(", "))
}

/// Why a document is no object of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field has a value of another type.
    #[error("json: cannot unmarshal {got} into Go struct field {owner}.{path} of type {go_type}")]
    Field {
        /// What the value is.
        got: String,
        /// The type that has the field.
        owner: &'static str,
        /// The names on the way, without positions.
        path: String,
        /// The type that the field has.
        go_type: String,
    },
    /// A value that reads itself, or the whole document, is of another type.
    #[error("json: cannot unmarshal {got} into Go value of type {go_type}")]
    Value {
        /// What the value is.
        got: String,
        /// The type that it should be.
        go_type: String,
    },
    /// A text is no quantity.
    #[error(transparent)]
    Quantity(#[from] ParseQuantityError),
    /// A text is no time.
    #[error(transparent)]
    Time(#[from] ParseTimeError),
    /// A text is no duration.
    #[error(transparent)]
    Duration(#[from] ParseDurationError),
    /// A text is no base64.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
}

impl DecodeError {
    pub(super) fn field(value: &Value, owner: TypeRef, names: &[&str], go_type: String) -> Self {
        let got = described(value, &go_type);
        Self::Field { got, owner: owner.name(), path: names.join("."), go_type }
    }

    pub(super) fn value(value: &Value, go_type: String) -> Self {
        Self::Value { got: described(value, &go_type), go_type }
    }
}

/// A number that does not fit a number type is shown.
fn described(value: &Value, go_type: &str) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if matches!(go_type, "int32" | "int64" | "float64") => {
            format!("number {number}")
        }
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}
