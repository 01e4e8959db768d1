//! Field paths and field errors, with upstream's texts. It must not know what is being validated.
use std::fmt;

use serde_json::Value;

use crate::go_struct::escaped;

/// Where in an object something is wrong: `spec.containers[0].name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Path(String);

impl Path {
    /// The path of the object itself, which is empty until a child is named.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path that starts with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The field `name` below.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The fields `names`, one below the other.
    pub fn children(&self, names: &[&str]) -> Self {
        names.iter().fold(self.clone(), |path, name| path.child(name))
    }

    /// The list item at `index`.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The map value at `key`.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    /// Upstream prints an absent path as `<nil>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// What kind of mistake a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    /// A value that is referred to does not exist.
    NotFound,
    /// The value is missing.
    Required,
    /// The value appears twice where it must be unique.
    Duplicate,
    /// The value is malformed.
    Invalid,
    /// The value is none of the allowed ones.
    NotSupported,
    /// The value may not be set here.
    Forbidden,
    /// The value is too long.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// Not the user's fault.
    Internal,
    /// The value has the wrong type for the schema.
    TypeInvalid,
}

impl FieldErrorKind {
    /// The machine readable cause type.
    pub fn cause_type(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// The value that a message shows.
#[derive(Debug, Clone, PartialEq)]
pub enum BadValue {
    /// As JSON, a text in quotes.
    Json(Value),
    /// In these words.
    Shown(String),
}

impl<T: Into<Value>> From<T> for BadValue {
    fn from(value: T) -> Self {
        Self::Json(value.into())
    }
}

impl fmt::Display for BadValue {
    /// Strings are quoted as Go quotes them, everything else is compact JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(Value::String(text)) => f.write_str(&quote(text)),
            Self::Json(other) => f.write_str(&escaped(other)),
            Self::Shown(text) => f.write_str(text),
        }
    }
}

/// One field that is wrong, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What kind of mistake.
    pub kind: FieldErrorKind,
    /// Where.
    pub path: Path,
    /// The offending value; `None` leaves it out of the text.
    pub bad_value: Option<BadValue>,
    /// More about why; may be empty.
    pub detail: String,
}

impl FieldError {
    fn of(kind: FieldErrorKind, path: &Path, bad_value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { kind, path: path.clone(), bad_value: bad_value.map(BadValue::Json), detail: detail.into() }
    }

    /// The value is missing.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::of(FieldErrorKind::Required, path, None, detail)
    }

    /// The value is malformed.
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::of(FieldErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// The value is none of `supported`, which are listed in the given order.
    pub fn not_supported<S: AsRef<str>>(path: &Path, value: impl Into<Value>, supported: &[S]) -> Self {
        let quoted: Vec<_> = supported.iter().map(|value| quote(value.as_ref())).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::of(FieldErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// The value appears twice.
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::of(FieldErrorKind::Duplicate, path, Some(value.into()), "")
    }

    /// The value may not be set here.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::of(FieldErrorKind::Forbidden, path, None, detail)
    }

    /// The value has more than `max_bytes` bytes.
    pub fn too_long(path: &Path, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        Self::of(FieldErrorKind::TooLong, path, None, format!("may not be more than {max_bytes} {unit}"))
    }

    /// The value has more than `max_characters` characters.
    pub fn too_long_characters(path: &Path, max_characters: usize) -> Self {
        Self::of(
            FieldErrorKind::TooLong,
            path,
            None,
            format!("may not be more than {max_characters} characters"),
        )
    }

    /// The list has `actual` items where `max` are allowed.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {items}");
        Self::of(FieldErrorKind::TooMany, path, Some(Value::from(actual)), detail)
    }

    /// A value that is referred to does not exist.
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::of(FieldErrorKind::NotFound, path, Some(value.into()), "")
    }

    /// The value has the wrong type for the schema.
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::of(FieldErrorKind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// Not the user's fault.
    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self::of(FieldErrorKind::Internal, path, None, detail)
    }

    /// The text without the path, which is what a Status cause carries.
    pub fn body(&self) -> String {
        let mut text = self.kind.title().to_owned();
        if let Some(value) = &self.bad_value {
            text.push_str(&format!(": {value}"));
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

impl std::error::Error for FieldError {}

/// Upstream's aggregate of errors: nothing, the only text, or `[a, b]` with repeated texts left out.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.len() {
        1 => texts.remove(0),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// Quotes as Go's `%q` does.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\u{b}' => quoted.push_str("\\v"),
            control if (control as u32) < 0x20 || control as u32 == 0x7f => {
                quoted.push_str(&format!("\\x{:02x}", control as u32));
            }
            control if control.is_control() => quoted.push_str(&format!("\\u{:04x}", control as u32)),
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(error: FieldError, expected: &str) {
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn paths_print_as_upstream() {
        let path = Path::new("spec").child("containers").index(0).child("name");
        assert_eq!(path.to_string(), "spec.containers[0].name");
        assert_eq!(Path::new("metadata").child("labels").key("a.b/c").to_string(), "metadata.labels[a.b/c]");
        assert_eq!(Path::root().child("spec").to_string(), "spec");
        assert_eq!(Path::root().to_string(), "<nil>");
        assert_eq!(Path::root().children(&["a", "b"]).as_str(), "a.b");
    }

    #[test]
    fn errors_print_as_upstream() {
        let path = Path::new("spec.replicas");
        check(
            FieldError::invalid(&path, -1, "must be greater than or equal to 0"),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        );
        check(FieldError::required(&path, ""), "spec.replicas: Required value");
        check(FieldError::required(&path, "must be set"), "spec.replicas: Required value: must be set");
        check(
            FieldError::not_supported(&path, "x", &["A", "B"]),
            "spec.replicas: Unsupported value: \"x\": supported values: \"A\", \"B\"",
        );
        check(FieldError::duplicate(&path, "a"), "spec.replicas: Duplicate value: \"a\"");
        check(FieldError::forbidden(&path, "no"), "spec.replicas: Forbidden: no");
        check(FieldError::too_long(&path, 3), "spec.replicas: Too long: may not be more than 3 bytes");
        check(FieldError::too_many(&path, 2, 1), "spec.replicas: Too many: 2: must have at most 1 item");
        check(FieldError::too_many(&path, 9, 8), "spec.replicas: Too many: 9: must have at most 8 items");
        check(FieldError::not_found(&path, "v"), "spec.replicas: Not found: \"v\"");
        check(FieldError::internal(&path, "boom"), "spec.replicas: Internal error: boom");
        check(FieldError::invalid(&path, Value::Null, "x"), "spec.replicas: Invalid value: null: x");
        check(
            FieldError::invalid(&path, json!(["<"]), "x"),
            r#"spec.replicas: Invalid value: ["\u003c"]: x"#,
        );
        check(
            FieldError::invalid(&path, json!({"a": [1]}), "field is immutable"),
            "spec.replicas: Invalid value: {\"a\":[1]}: field is immutable",
        );
    }

    #[test]
    fn aggregates_leave_out_repeats() {
        let (a, b) = (FieldError::required(&Path::new("a"), ""), FieldError::required(&Path::new("b"), ""));
        assert_eq!(aggregate(&[a.clone(), a.clone()]), "a: Required value");
        assert_eq!(aggregate(&[a, b]), "[a: Required value, b: Required value]");
    }

    #[test]
    fn quoting_is_gos() {
        assert_eq!(quote("a\"b\\\n\u{1}é"), "\"a\\\"b\\\\\\n\\x01é\"");
    }
}
