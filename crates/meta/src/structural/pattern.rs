//! Regular expressions of schemas. They are written for Go's RE2: perl classes are ASCII there, and brackets inside classes are
//! plain. Translated and compiled at the first use, for a compiled expression is large and most are never used.
use regex::{Regex, RegexBuilder};
use std::sync::OnceLock;

/// Bytes that a compiled expression may take.
const MAX_SIZE: usize = 4 << 20;

/// An expression.
#[derive(Debug)]
pub struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Result<Box<Regex>, PatternError>>,
}

/// The expression cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct PatternError(String);

impl Pattern {
    /// An expression that is compiled when it is used.
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }

    /// Whether the text is an expression at all.
    ///
    /// # Errors
    /// Why not.
    pub fn check(text: &str) -> Result<(), PatternError> {
        compile(text).map(|_| ())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is found in `value`.
    ///
    /// # Errors
    /// When it is no expression.
    pub fn is_match(&self, value: &str) -> Result<bool, PatternError> {
        let compiled = self.compiled.get_or_init(|| compile(&self.text).map(Box::new));
        compiled.as_ref().map(|regex| regex.is_match(value)).map_err(Clone::clone)
    }
}

fn compile(text: &str) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(&translate(text));
    builder.size_limit(MAX_SIZE);
    builder.build().map_err(|error| match error {
        regex::Error::Syntax(message) => PatternError(last_line(&message)),
        other => PatternError(other.to_string()),
    })
}

/// The parser draws where the mistake is; what it is comes last.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut characters = text.chars().peekable();
    let mut class: Option<usize> = None;
    while let Some(character) = characters.next() {
        // Where in a class this character is: a bracket in first place is plain.
        let position = class;
        class = class.map(|position| position + 1);
        match (character, position) {
            ('\\', _) => escape(characters.next(), position.is_some(), &mut out),
            ('[', None) => {
                out.push('[');
                class = Some(0);
            }
            ('^', Some(0)) => {
                out.push('^');
                class = Some(0);
            }
            (']', Some(at)) if at > 0 => {
                out.push(']');
                class = None;
            }
            (']', Some(_)) => out.push_str("\\]"),
            ('[', Some(_)) if characters.peek() == Some(&':') => {
                out.push('[');
                for character in characters.by_ref() {
                    out.push(character);
                    if character == ']' {
                        break;
                    }
                }
            }
            ('[' | '&' | '~', Some(_)) => {
                out.push('\\');
                out.push(character);
            }
            (other, _) => out.push(other),
        }
    }
    out
}

fn escape(escaped: Option<char>, in_class: bool, out: &mut String) {
    let ascii = match escaped {
        Some('d') => "[0-9]",
        Some('D') => "[^0-9]",
        Some('w') => "[0-9A-Za-z_]",
        Some('W') => "[^0-9A-Za-z_]",
        Some('s') => "[\\t\\n\\x0C\\r ]",
        Some('S') => "[^\\t\\n\\x0C\\r ]",
        Some('b') if !in_class => "(?-u:\\b)",
        Some('B') if !in_class => "(?-u:\\B)",
        _ => {
            out.push('\\');
            out.extend(escaped);
            return;
        }
    };
    out.push_str(ascii);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, value: &str, expected: bool) {
        assert_eq!(Pattern::new(pattern).is_match(value), Ok(expected), "{pattern} on {value}");
    }

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        check(r"^\d+$", "12", true);
        check(r"^\d+$", "\u{0661}", false);
        check(r"^[\w-]+$", "a-b", true);
        check(r"^[\w-]+$", "\u{e9}", false);
        check(r"^[[a]$", "[", true);
        check(r"^[]a]$", "]", true);
        check(r"^[^]a]$", "b", true);
        check(r"^[a&&b]+$", "a&b", true);
        check(r"^[[:alpha:]]+$", "abc", true);
        check(r"^\/etc\/x$", "/etc/x", true);
        check("b", "abc", true);
        check(r"(?i)^ABC$", "abc", true);
        check(r"^\p{L}+$", "\u{e9}", true);
        check(r"^(\d+(\.\d+)?)[smhd]$", "1.5h", true);
    }

    #[test]
    fn what_is_none_is_told() {
        assert!(Pattern::check("a(").is_err());
        assert!(Pattern::check("[a").is_err());
        assert!(Pattern::new("(?=a)").is_match("a").is_err());
    }
}
