//! What is wrong with a YAML text, in the words of the library that upstream reads it with. Texts that are well are not looked at here.
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError};

/// Most keys that are told; a text can have as many as it has lines.
const MAX_KEYS: usize = 100;
const NO_NODE: &str = "did not find expected node content";

/// Why a text is no YAML, if it is none: `line 3: did not find expected key`.
pub(super) fn syntax(text: &str) -> Option<String> {
    let error = Parser::new_from_str(text).find_map(Result::err)?;
    if *error.kind() == ErrorKind::UnknownAnchor {
        let name = alias(text, error.marker().index());
        return Some(format!("unknown anchor '{name}' referenced"));
    }
    let problem = Problem::of(&error, text);
    Some(match problem.shown_line() {
        0 => problem.words,
        line => format!("line {line}: {}", problem.words),
    })
}

/// The first document of a text that goes on behind it.
pub(super) fn first_document(text: &str) -> Option<&str> {
    let mut events = Parser::new_from_str(text);
    let end = events.find_map(|event| match event {
        Ok((Event::DocumentEnd, span)) => Some(span.start.byte_offset()),
        Ok(_) => None,
        Err(_) => Some(None),
    });
    text.get(..end??).filter(|first| first.len() < text.len())
}

/// The keys that stand in a mapping more than once, each as `line 3: key "a" already set in map`.
pub fn duplicate_keys(text: &str) -> Vec<String> {
    let mut mappings = Mappings::default();
    // What is wrong behind the end of the first document, or anywhere, is told elsewhere.
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        match event {
            Event::Scalar(value, style, ..) => mappings.node(span.start.line(), || shown(&value, style)),
            Event::Alias(_) => mappings.node(span.start.line(), String::new),
            Event::SequenceStart(..) => mappings.open(span.start.line(), false),
            Event::MappingStart(..) => mappings.open(span.start.line(), true),
            Event::SequenceEnd | Event::MappingEnd => mappings.close(),
            Event::DocumentEnd => break,
            _ => {}
        }
    }
    mappings.found
}

/// A key as Go prints it.
fn shown(key: &str, style: ScalarStyle) -> String {
    let is_plain = matches!(style, ScalarStyle::Plain);
    let is_text = key.parse::<i64>().is_err() && !matches!(key, "true" | "false");
    if is_plain && !is_text { key.to_owned() } else { crate::field::quote(key) }
}

/// The collections that a walk is in.
#[derive(Default)]
struct Mappings {
    open: Vec<Collection>,
    found: Vec<String>,
}

#[derive(Default)]
struct Collection {
    is_mapping: bool,
    seen: Vec<String>,
    /// The key whose value comes next.
    key: Option<String>,
}

impl Mappings {
    /// A key, a value or an item.
    fn node(&mut self, line: usize, shown: impl FnOnce() -> String) {
        let Some(collection) = self.open.last_mut().filter(|collection| collection.is_mapping) else {
            return;
        };
        let Some(key) = collection.key.take() else {
            collection.key = Some(shown());
            return;
        };
        if !collection.seen.contains(&key) {
            collection.seen.push(key);
        } else if self.found.len() < MAX_KEYS {
            // Upstream names the line of the value.
            self.found.push(format!("line {line}: key {key} already set in map"));
        }
    }

    fn open(&mut self, line: usize, is_mapping: bool) {
        self.node(line, String::new);
        self.open.push(Collection { is_mapping, ..Collection::default() });
    }

    fn close(&mut self) {
        self.open.pop();
    }
}

/// The name behind the asterisk at a character.
fn alias(text: &str, at: usize) -> String {
    let name = text.chars().skip(at).skip_while(|c| *c == '*');
    name.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).collect()
}

struct Problem {
    /// From one.
    line: usize,
    /// Whether characters are wrong; else it is the order of what they mean.
    in_scanner: bool,
    words: String,
}

impl Problem {
    fn of(error: &ScanError, text: &str) -> Self {
        let (line, breaks) = (error.marker().line(), text.matches('\n').count());
        // An end where an item, a key or a value is to come.
        let is_waiting = text.trim_end().ends_with(['[', '{', ',', ':']);
        let scanner = |words: &str| Self { line, in_scanner: true, words: words.to_owned() };
        let parser = |line, words: &str| Self { line, in_scanner: false, words: words.to_owned() };
        match error.kind() {
            ErrorKind::MappingValueNotAllowed => scanner("mapping values are not allowed in this context"),
            ErrorKind::MappingKeyNotAllowed => scanner("mapping keys are not allowed in this context"),
            ErrorKind::BlockSequenceEntryNotAllowed => {
                scanner("block sequence entries are not allowed in this context")
            }
            ErrorKind::UnexpectedCharacter { .. }
            | ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation => scanner("found character that cannot start any token"),
            // It is noticed when the next line begins.
            ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
                Self { line: line + 1, ..scanner("could not find expected ':'") }
            }
            // The lines of a quoted text may begin anywhere in Go, so it goes on up to the next quote.
            ErrorKind::InvalidQuotedScalarIndent => match closing_line(text, error.marker().index()) {
                Some(behind) => parser(line + behind, "did not find expected key"),
                None => Self { line: breaks + 1, ..scanner("found unexpected end of stream") },
            },
            // It is noticed at the end.
            ErrorKind::UnclosedQuotedScalar => {
                Self { line: breaks + 1, ..scanner("found unexpected end of stream") }
            }
            ErrorKind::DocumentIndicatorInQuotedScalar => scanner("found unexpected document indicator"),
            ErrorKind::UnknownQuotedScalarEscape => scanner("found unknown escape character"),
            ErrorKind::InvalidQuotedScalarHexEscape => scanner("did not find expected hexdecimal number"),
            ErrorKind::InvalidUnicodeEscape => scanner("found invalid Unicode character escape code"),
            ErrorKind::MissingAnchorOrAliasName => {
                scanner("did not find expected alphabetic or numeric character")
            }
            ErrorKind::UnclosedFlowCollection { open } => {
                parser(breaks + 1, if is_waiting { NO_NODE } else { unclosed(*open) })
            }
            ErrorKind::MismatchedFlowCollectionEnd { open, .. } => parser(line, unclosed(*open)),
            ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => {
                parser(line, unclosed('['))
            }
            ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnexpectedEofFlowMapping => {
                parser(line, unclosed('{'))
            }
            ErrorKind::ExpectedBlockMappingKey
            | ErrorKind::UnexpectedEofBlockMapping
            | ErrorKind::InvalidTrailingSingleQuotedScalar
            | ErrorKind::InvalidTrailingDoubleQuotedScalar => parser(line, "did not find expected key"),
            ErrorKind::ExpectedBlockSequenceEntry | ErrorKind::UnexpectedEofBlockSequence => {
                parser(line, "did not find expected '-' indicator")
            }
            ErrorKind::ExpectedNodeContent
            | ErrorKind::UnexpectedEof
            | ErrorKind::MisplacedFlowCollectionEnd => parser(line, NO_NODE),
            ErrorKind::ExpectedDocumentStart => parser(line, "did not find expected <document start>"),
            ErrorKind::UndeclaredTagHandle => parser(line, "found undefined tag handle"),
            _ => scanner(&error.info()),
        }
    }

    /// The line that upstream names; lines of its parser count from zero, and none is named where the count is that.
    fn shown_line(&self) -> usize {
        match self.line {
            0 | 1 => 0,
            line => line - usize::from(!self.in_scanner),
        }
    }
}

/// How many lines behind a character the next quote stands.
fn closing_line(text: &str, at: usize) -> Option<usize> {
    let rest: String = text.chars().skip(at).collect();
    rest.find(['"', '\'']).map(|end| rest[..end].matches('\n').count())
}

fn unclosed(open: char) -> &'static str {
    if open == '{' { "did not find expected ',' or '}'" } else { "did not find expected ',' or ']'" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_yaml_are_told_in_gos_words() {
        for (text, expected) in [
            ("a: b: c\n", "mapping values are not allowed in this context"),
            ("a: 1\n b: 2\n", "line 2: mapping values are not allowed in this context"),
            ("a:\n\tb: 1\n", "line 2: found character that cannot start any token"),
            ("a: 1\nb: @x\n", "line 2: found character that cannot start any token"),
            ("a: 1\nb\nc: 2\n", "line 3: could not find expected ':'"),
            ("a: 1\nb\n", "line 3: could not find expected ':'"),
            ("a:\n  - b\n c: d\n", "line 2: did not find expected key"),
            ("- a\nb: c\n", "line 1: did not find expected '-' indicator"),
            ("a: [1, 2\n", "line 1: did not find expected ',' or ']'"),
            ("a: [", "did not find expected node content"),
            ("a: [1,\n", "line 1: did not find expected node content"),
            ("a: {b: 1\n", "line 1: did not find expected ',' or '}'"),
            ("a: \"x\nb: 1\n", "line 3: found unexpected end of stream"),
            ("a: \"x\nb: \"1\"\n", "line 1: did not find expected key"),
            ("a: \"\\q\"\n", "found unknown escape character"),
            ("a: 1\nb: *none\n", "unknown anchor 'none' referenced"),
        ] {
            assert_eq!(syntax(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(syntax("a: 1\n"), None);
    }

    #[test]
    fn keys_that_stand_twice_are_told_with_their_lines() {
        let text = "a: 1\nb:\n  c: {d: 1, d: 2}\n  e:\n  - 1\na:\n  x: y\n1: z\n1: z\n'q': 1\n\"q\": 2\n---\na: 1\na: 1\n";
        assert_eq!(
            duplicate_keys(text),
            [
                "line 3: key \"d\" already set in map",
                "line 7: key \"a\" already set in map",
                "line 9: key 1 already set in map",
                "line 11: key \"q\" already set in map",
            ]
        );
    }
}
