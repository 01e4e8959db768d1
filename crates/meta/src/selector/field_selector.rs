//! Field selectors: `spec.nodeName=a,status.phase!=Running`. It must not know which fields a kind can be selected by.
use std::fmt;

/// Why a text is no field selector, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseFieldSelectorError {
    /// A part has no operator.
    #[error("invalid selector: '{selector}'; can't understand '{part}'")]
    Term {
        /// The whole text.
        selector: String,
        /// The part.
        part: String,
    },
    /// A backslash stands before something else than `\`, `,` or `=`.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A value has a character that must be escaped.
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(char),
}

/// One condition on a field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldRequirement {
    /// The field.
    pub field: String,
    /// The value.
    pub value: String,
    /// Whether the field must have the value, or must not have it.
    pub equal: bool,
}

/// Conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects the objects whose field has the value.
    pub fn equal(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            requirements: vec![FieldRequirement { field: field.into(), value: value.into(), equal: true }],
        }
    }

    /// Reads the text of a query.
    pub fn parse(text: &str) -> Result<Self, ParseFieldSelectorError> {
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            if !term.is_empty() {
                requirements.push(parse_term(text, term)?);
            }
        }
        Ok(Self { requirements })
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The conditions, in the order they were written.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Whether the fields that `lookup` finds meet all conditions; a missing field is empty.
    pub fn matches<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| {
            (lookup(&requirement.field).unwrap_or_default() == requirement.value) == requirement.equal
        })
    }

    /// The value that the field must have, if the selector asks for one.
    pub fn requires_exact(&self, field: &str) -> Option<&str> {
        let exact =
            self.requirements.iter().find(|requirement| requirement.equal && requirement.field == field)?;
        Some(&exact.value)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if requirement.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", requirement.field, escape(&requirement.value))?;
        }
        Ok(())
    }
}

/// Writes a value so that it can stand in a selector.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

fn unescape(value: &str) -> Result<String, ParseFieldSelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => return Err(ParseFieldSelectorError::Escape(format!("\\{other}"))),
                None => return Err(ParseFieldSelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(ParseFieldSelectorError::Unescaped(character)),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

/// Cuts at commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_term(selector: &str, term: &str) -> Result<FieldRequirement, ParseFieldSelectorError> {
    let found = term.char_indices().find_map(|(index, _)| {
        let rest = &term[index..];
        ["!=", "==", "="]
            .into_iter()
            .find(|operator| rest.starts_with(operator))
            .map(|operator| (index, operator))
    });
    let Some((index, operator)) = found else {
        return Err(ParseFieldSelectorError::Term { selector: selector.to_owned(), part: term.to_owned() });
    };
    let value = unescape(&term[index + operator.len()..])?;
    Ok(FieldRequirement { field: term[..index].to_owned(), value, equal: operator != "!=" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_and_written() {
        for (text, expected) in [
            ("", ""),
            ("a=b", "a=b"),
            ("a==b,c!=d", "a=b,c!=d"),
            ("a=b\\,c\\=d\\\\", "a=b\\,c\\=d\\\\"),
            ("a=", "a="),
            (",a=b,", "a=b"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().to_string(), expected, "{text}");
        }
        for (text, expected) in [
            ("x", "invalid selector: 'x'; can't understand 'x'"),
            ("a=b=c", "invalid field selector: unescaped character in value: ="),
            ("a=\\n", "invalid field selector: invalid escape sequence: \\n"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn fields_match() {
        let lookup = |field: &str| match field {
            "spec.nodeName" => Some("n"),
            _ => None,
        };
        for (text, expected) in
            [("spec.nodeName=n", true), ("spec.nodeName!=n", false), ("x=", true), ("x=y", false)]
        {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(lookup), expected, "{text}");
        }
        assert_eq!(FieldSelector::parse("a!=b,c=d").unwrap().requires_exact("c"), Some("d"));
    }
}
