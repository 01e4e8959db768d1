//! JSON bytes to trees and back. It must not know what a tree means: duplicate fields are found here because a tree cannot show them,
//! and everything else is for `normalize`.
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::{json_numbers, json_syntax};

pub use json_numbers::write;

/// How many duplicate fields are reported.
pub const MAX_DUPLICATES: usize = 100;

/// Why bytes are no JSON, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// They end too early.
    #[error("unexpected end of JSON input")]
    End,
    /// Something stands where nothing or something else must stand.
    #[error("invalid character {} {place}", json_syntax::shown(*byte))]
    Character {
        /// What stands there.
        byte: u8,
        /// Where that is, such as `looking for beginning of value`.
        place: &'static str,
    },
    /// They nest too deeply, or a number is too large.
    #[error("{0}")]
    Limit(String),
}

/// What Go calls the kind of a value.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A tree, and the fields that stood in it more than once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoded {
    /// The tree; of a duplicate field the last value.
    pub value: Value,
    /// Paths such as `spec.containers[0].name`, each once, at most [`MAX_DUPLICATES`].
    pub duplicates: Vec<String>,
}

/// Reads one JSON document.
pub fn decode(bytes: &[u8]) -> Result<Value, JsonError> {
    serde_json::from_slice(bytes).map_err(|error| explain(&error, bytes))
}

/// Reads one JSON document and says which fields it has more than once.
pub fn decode_strict(bytes: &[u8]) -> Result<Decoded, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut duplicates = Vec::new();
    let seed = Tree { at: &Place::Root, duplicates: &mut duplicates };
    let value = seed.deserialize(&mut deserializer).map_err(|error| explain(&error, bytes))?;
    deserializer.end().map_err(|error| explain(&error, bytes))?;
    Ok(Decoded { value, duplicates })
}

/// Writes a tree compactly.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    json_numbers::write(&mut out, value).expect("a tree has string keys only and is written to memory");
    out
}

/// Writes a tree with two blanks of indentation, for `pretty=true`.
pub fn encode_pretty(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    json_numbers::write_pretty(&mut out, value)
        .expect("a tree has string keys only and is written to memory");
    out
}

fn explain(error: &serde_json::Error, bytes: &[u8]) -> JsonError {
    json_syntax::problem(bytes).unwrap_or_else(|| JsonError::Limit(error.to_string()))
}

/// Where in the document a value stands, as a list from the inside out that costs nothing until it is shown.
pub(crate) enum Place<'a> {
    Root,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Place::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Builds a tree from any serde format.
pub(crate) struct Tree<'a> {
    pub(crate) at: &'a Place<'a>,
    pub(crate) duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let at = Place::Item(self.at, list.len());
            match items.next_element_seed(Tree { at: &at, duplicates: &mut *self.duplicates })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            let at = Place::Field(self.at, &key);
            let value = entries.next_value_seed(Tree { at: &at, duplicates: &mut *self.duplicates })?;
            if map.contains_key(&key) && self.duplicates.len() < MAX_DUPLICATES {
                let path = at.to_string();
                if !self.duplicates.contains(&path) {
                    self.duplicates.push(path);
                }
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A key of a map. YAML has keys that are no strings; they become their text.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<String, E> {
        Ok(key.to_owned())
    }

    fn visit_string<E>(self, key: String) -> Result<String, E> {
        Ok(key)
    }

    fn visit_bool<E>(self, key: bool) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_i64<E>(self, key: i64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_u64<E>(self, key: u64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_f64<E>(self, key: f64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
        Err(E::custom("a key must not be null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _items: A) -> Result<String, A::Error> {
        Err(A::Error::custom("a key must not be a list"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn duplicates_are_found_and_the_last_wins() {
        let text = br#"{"a": 1, "spec": {"x": 1, "x": 2, "list": [{"y": 1, "y": 2}]}, "a": 3, "a": 4}"#;
        let decoded = decode_strict(text).unwrap();
        assert_eq!(decoded.value, json!({"a": 4, "spec": {"x": 2, "list": [{"y": 2}]}}));
        assert_eq!(decoded.duplicates, ["spec.x", "spec.list[0].y", "a"]);
        assert_eq!(decode(text).unwrap(), decoded.value);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for (text, expected) in [
            ("", "unexpected end of JSON input"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            ("{\"a\": x}", "invalid character 'x' looking for beginning of value"),
        ] {
            assert_eq!(decode_strict(text.as_bytes()).unwrap_err().to_string(), expected, "{text}");
            assert!(decode(text.as_bytes()).is_err());
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(decode_strict(deep.as_bytes()), Err(JsonError::Limit(_))));
    }

    #[test]
    fn trees_survive_their_text() {
        let value = json!({"b": [1, -2, 1.5, true, null], "a": {"é": "\u{1}"}});
        assert_eq!(decode(&encode(&value)).unwrap(), value);
        assert_eq!(decode_strict(&encode_pretty(&value)).unwrap().value, value);
    }
}
