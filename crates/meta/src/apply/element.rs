//! One step of a path to a field: a name, the keys of a list item, a value of a set, or a position. It must not know schemas.
use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use super::scalar;

/// A step from a value to one below it.
#[derive(Debug, Clone)]
pub enum PathElement {
    /// A field of a map.
    Field(String),
    /// The item of a list that has these key fields, ordered by name.
    Key(Vec<(String, Value)>),
    /// The item of a set that is this value.
    Value(Value),
    /// The item of a list at this position.
    Index(i64),
}

/// Why a text is no path element.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadElementError {
    /// Two characters say what it is.
    #[error("key must be 2 characters long:")]
    TooShort,
    /// The second of them is a colon.
    #[error("missing colon: {0}")]
    NoColon(String),
    /// A later version may know what it is.
    #[error("unknown path element type")]
    UnknownType,
    /// What follows is no JSON, or no number.
    #[error("{0}")]
    Content(String),
}

impl PathElement {
    /// A field of a map.
    pub fn field(name: impl Into<String>) -> Self {
        Self::Field(name.into())
    }

    /// Reads `f:name`, `k:{"name":"x"}`, `v:"x"` or `i:1`.
    pub fn read(text: &str) -> Result<Self, ReadElementError> {
        if text.len() < 2 {
            return Err(ReadElementError::TooShort);
        }
        if text.as_bytes()[1] != b':' {
            return Err(ReadElementError::NoColon(text.to_owned()));
        }
        let content = &text[2..];
        let json =
            || serde_json::from_str(content).map_err(|error| ReadElementError::Content(error.to_string()));
        match text.as_bytes()[0] {
            b'f' => Ok(Self::field(content)),
            b'v' => Ok(Self::Value(json()?)),
            b'k' => match json()? {
                Value::Object(fields) => Ok(Self::Key(fields.into_iter().collect())),
                other => Err(ReadElementError::Content(format!("expected an object, got {other}"))),
            },
            b'i' => content
                .parse()
                .map(Self::Index)
                .map_err(|error| ReadElementError::Content(format!("{error}"))),
            _ => Err(ReadElementError::UnknownType),
        }
    }

    /// Its written form.
    pub fn write(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(fields) => {
                let fields: Vec<_> = fields
                    .iter()
                    .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
                    .collect();
                format!("k:{{{}}}", fields.join(","))
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }

    /// Whether it is the field of this name.
    pub fn is_field(&self, name: &str) -> bool {
        matches!(self, Self::Field(own) if own == name)
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(left), Self::Field(right)) => left.cmp(right),
            (Self::Key(left), Self::Key(right)) => compare_keys(left, right),
            (Self::Value(left), Self::Value(right)) => scalar::compare(left, right),
            (Self::Index(left), Self::Index(right)) => left.cmp(right),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

fn compare_keys(left: &[(String, Value)], right: &[(String, Value)]) -> Ordering {
    for ((name, value), (other_name, other_value)) in left.iter().zip(right) {
        let order = name.cmp(other_name).then_with(|| scalar::compare(value, other_value));
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PathElement {}

impl fmt::Display for PathElement {
    /// `.name`, `[name="x"]`, `[="x"]`, `[1]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| format!("{name}={}", scalar::shown(value))).collect();
                write!(f, "[{}]", fields.join(","))
            }
            Self::Value(value) => write!(f, "[={}]", scalar::shown(value)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A path as messages show it: `.spec.containers[name="a"].image`.
pub fn display_path(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_survive_their_text() {
        for (text, shown) in [
            ("f:spec", ".spec"),
            ("f:app.kubernetes.io/name", ".app.kubernetes.io/name"),
            ("f:", "."),
            ("k:{\"name\":\"a\"}", "[name=\"a\"]"),
            ("k:{\"containerPort\":80,\"protocol\":\"TCP\"}", "[containerPort=80,protocol=\"TCP\"]"),
            ("v:\"x\"", "[=\"x\"]"),
            ("v:1", "[=1]"),
            ("v:true", "[=true]"),
            ("i:7", "[7]"),
        ] {
            let element = PathElement::read(text).unwrap();
            assert_eq!((element.write().as_str(), element.to_string().as_str()), (text, shown));
        }
        let swapped = PathElement::read("k:{\"protocol\":\"TCP\",\"containerPort\":80}").unwrap();
        assert_eq!(swapped.write(), "k:{\"containerPort\":80,\"protocol\":\"TCP\"}");
    }

    #[test]
    fn what_is_no_element_is_refused() {
        for (text, message) in [
            ("", "key must be 2 characters long:"),
            ("f", "key must be 2 characters long:"),
            ("spec", "missing colon: spec"),
            ("x:1", "unknown path element type"),
        ] {
            assert_eq!(PathElement::read(text).unwrap_err().to_string(), message);
        }
        for text in ["k:[1]", "k:{", "v:nope", "i:x", "v:"] {
            assert!(matches!(PathElement::read(text), Err(ReadElementError::Content(_))), "{text}");
        }
    }

    #[test]
    fn names_stand_before_keys_before_values_before_positions() {
        let key = |value| PathElement::Key(vec![("name".to_owned(), value)]);
        let ordered = [
            PathElement::field("a"),
            PathElement::field("b"),
            key(json!(80)),
            key(json!(443)),
            key(json!("a")),
            PathElement::Value(json!(1)),
            PathElement::Value(json!("a")),
            PathElement::Index(0),
            PathElement::Index(10),
        ];
        assert!(ordered.is_sorted_by(|left, right| left < right));
    }
}
