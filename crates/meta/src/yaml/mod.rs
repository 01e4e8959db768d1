//! YAML to trees and back, as upstream's library does it: YAML 1.1 words for booleans, octal numbers with a leading zero. It must not
//! know what a tree means.
mod emit;
mod problem;

use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::json::{Decoded, Place, Tree};

pub use emit::encode;
pub use problem::duplicate_keys;

/// Most documents in one text.
pub const MAX_DOCUMENTS: usize = 1000;

/// Why a text is no YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It cannot be read.
    #[error("yaml: {0}")]
    Syntax(String),
    /// Fields stand in it more than once.
    #[error("{}", unmarshal_errors(.0))]
    Duplicates(Vec<String>),
    /// It has too many documents.
    #[error("a YAML text must have at most {MAX_DOCUMENTS} documents")]
    TooManyDocuments,
}

/// Upstream's text for keys that stand in a text more than once.
pub fn unmarshal_errors(keys: &[String]) -> String {
    format!("yaml: unmarshal errors:\n  {}", keys.join("\n  "))
}

/// Reads one YAML document. A field that stands in it twice is refused.
pub fn decode(text: &str) -> Result<Value, YamlError> {
    let decoded = decode_strict(text)?;
    if decoded.duplicates.is_empty() {
        Ok(decoded.value)
    } else {
        Err(YamlError::Duplicates(duplicate_keys(text)))
    }
}

/// Reads the first YAML document of a text and says which fields it has more than once; the last value wins. What stands behind it is not
/// looked at, as upstream's library has it.
pub fn decode_strict(text: &str) -> Result<Decoded, YamlError> {
    let refused = match read(text) {
        Ok(decoded) => return Ok(decoded),
        Err(refused) => refused,
    };
    match problem::first_document(text) {
        Some(first) => decode_strict(first),
        None => Err(YamlError::Syntax(problem::syntax(text).unwrap_or(refused))),
    }
}

fn read(text: &str) -> Result<Decoded, String> {
    let mut duplicates = Vec::new();
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let mut value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        Tree { at: &Place::Root, duplicates: &mut duplicates }.deserialize(deserializer)
    })
    .map_err(|error| error.to_string())?;
    whole_numbers(&mut value);
    Ok(Decoded { value, duplicates })
}

/// Reads the documents of a text; empty ones are left out.
pub fn decode_documents(text: &str) -> Result<Vec<Value>, YamlError> {
    let mut values = Vec::new();
    for document in split_documents(text) {
        let value = decode(&document)?;
        if value.is_null() {
            continue;
        }
        if values.len() == MAX_DOCUMENTS {
            return Err(YamlError::TooManyDocuments);
        }
        values.push(value);
    }
    Ok(values)
}

/// Cuts at lines that start with `---`, as upstream's reader does.
fn split_documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let behind = line.strip_prefix("---").map(|rest| rest.trim_end());
        match behind {
            Some(rest) if rest.is_empty() || rest.starts_with([' ', '\t']) => {
                documents.push(format!("{rest}\n"))
            }
            _ => {
                if let Some(document) = documents.last_mut() {
                    document.push_str(line);
                }
            }
        }
    }
    documents
}

/// A float without a fraction is a whole number on its way through JSON.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            // Beyond 2^53 a float says nothing about the last digits.
            if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_1_1_is_read() {
        let text = "a: yes\nb: off\nc: 0644\nd: '0644'\ne: 1e3\nf: ~\ng: 1.5\nh: [x, \"y\"]\n1: one\ni: |\n  a\n  b\n";
        let expected = json!({"a": true, "b": false, "c": 420, "d": "0644", "e": 1000, "f": null, "g": 1.5,
            "h": ["x", "y"], "1": "one", "i": "a\nb\n"});
        assert_eq!(decode(text).unwrap(), expected);
    }

    #[test]
    fn duplicates_and_nonsense_are_refused() {
        let twice = decode("a: 1\na: 2\n").unwrap_err().to_string();
        assert_eq!(twice, "yaml: unmarshal errors:\n  line 2: key \"a\" already set in map");
        assert_eq!(decode_strict("a: {b: 1, b: 2}\n").unwrap().duplicates, ["a.b"]);
        assert!(decode("a: [").is_err());
        assert!(decode("a: &x [*x]").is_err());
    }

    #[test]
    fn only_the_first_document_is_read() {
        for behind in ["---\nb: 2\n", "--- x", "...\n---\n[", "---\n---\n"] {
            assert_eq!(decode(&format!("a: 1\n{behind}")).unwrap(), json!({"a": 1}), "{behind}");
            assert_eq!(decode(&format!("---\na: 1\n{behind}")).unwrap(), json!({"a": 1}), "{behind}");
        }
        assert!(decode("a: [\n---\nb: 1\n").is_err());
    }

    #[test]
    fn documents_are_split() {
        let values =
            decode_documents("---\na: 1\n---\n# nothing\n---\nb: |\n  --- no\n--- # c\nc: 3\n").unwrap();
        assert_eq!(values, [json!({"a": 1}), json!({"b": "--- no\n"}), json!({"c": 3})]);
    }
}
