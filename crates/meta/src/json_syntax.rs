//! What is wrong with bytes that are no JSON, in the words of Go's scanner, which clients of Kubernetes get to see. It builds nothing
//! and is asked only when reading has failed.

use crate::json::JsonError;

/// What the scanner is in.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    /// An object, before a colon.
    Key,
    /// An object, behind a colon.
    Field,
    Array,
}

/// What the scanner waits for.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Value,
    /// A value, or the end of the array that has just begun.
    ValueOrEnd,
    /// A key, or the end of the object that has just begun.
    KeyOrEnd,
    Key,
    End,
    Text,
    Escape,
    /// This many digits of an escape are missing.
    Hex(u8),
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// The rest of a literal, and what it is called.
    Literal(&'static [u8], &'static [&'static str]),
}

const TRUE: [&str; 3] =
    ["in literal true (expecting 'r')", "in literal true (expecting 'u')", "in literal true (expecting 'e')"];
const FALSE: [&str; 4] = [
    "in literal false (expecting 'a')",
    "in literal false (expecting 'l')",
    "in literal false (expecting 's')",
    "in literal false (expecting 'e')",
];
const NULL: [&str; 3] =
    ["in literal null (expecting 'u')", "in literal null (expecting 'l')", "in literal null (expecting 'l')"];

/// How deeply Go lets values nest.
const MAX_DEPTH: usize = 10_000;

struct Scanner {
    state: State,
    around: Vec<Inside>,
}

/// The first thing that is wrong with the syntax.
pub(crate) fn problem(bytes: &[u8]) -> Option<JsonError> {
    let mut scanner = Scanner { state: State::Value, around: Vec::new() };
    for byte in bytes {
        if let Err(place) = scanner.step(*byte) {
            return Some(JsonError::Character { byte: *byte, place });
        }
        if scanner.around.len() > MAX_DEPTH {
            return Some(JsonError::Limit("exceeded max depth".to_owned()));
        }
    }
    (!scanner.is_done()).then_some(JsonError::End)
}

/// A byte as Go quotes it.
pub(crate) fn shown(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        b'\t' => "'\\t'".to_owned(),
        0x07 => "'\\a'".to_owned(),
        0x08 => "'\\b'".to_owned(),
        0x0b => "'\\v'".to_owned(),
        0x0c => "'\\f'".to_owned(),
        0x00..=0x1f | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        other => format!("'{}'", char::from(other)),
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl Scanner {
    /// Whether the bytes may end here.
    fn is_done(&self) -> bool {
        use State::{Digits, End, ExponentDigits, Fraction, Zero};
        self.around.is_empty() && matches!(self.state, End | Zero | Digits | Fraction | ExponentDigits)
    }

    fn step(&mut self, byte: u8) -> Result<(), &'static str> {
        match self.state {
            State::Value | State::ValueOrEnd | State::KeyOrEnd | State::Key | State::End
                if is_space(byte) => {}
            State::ValueOrEnd if byte == b']' => self.leave(),
            State::KeyOrEnd if byte == b'}' => self.leave(),
            State::Value | State::ValueOrEnd => self.begin(byte)?,
            State::KeyOrEnd | State::Key if byte == b'"' => self.state = State::Text,
            State::KeyOrEnd | State::Key => return Err("looking for beginning of object key string"),
            State::End => self.end(byte)?,
            State::Text | State::Escape | State::Hex(_) => self.text(byte)?,
            State::Literal(rest, places) => match rest.split_first() {
                Some((expected, rest)) if *expected == byte => {
                    self.state =
                        if rest.is_empty() { State::End } else { State::Literal(rest, &places[1..]) };
                }
                _ => return Err(places[0]),
            },
            _ => self.number(byte)?,
        }
        Ok(())
    }

    fn begin(&mut self, byte: u8) -> Result<(), &'static str> {
        self.state = match byte {
            b'{' => {
                self.around.push(Inside::Key);
                State::KeyOrEnd
            }
            b'[' => {
                self.around.push(Inside::Array);
                State::ValueOrEnd
            }
            b'"' => State::Text,
            b'-' => State::Minus,
            b'0' => State::Zero,
            b'1'..=b'9' => State::Digits,
            b't' => State::Literal(b"rue", &TRUE),
            b'f' => State::Literal(b"alse", &FALSE),
            b'n' => State::Literal(b"ull", &NULL),
            _ => return Err("looking for beginning of value"),
        };
        Ok(())
    }

    fn leave(&mut self) {
        self.around.pop();
        self.state = State::End;
    }

    /// Behind a value.
    fn end(&mut self, byte: u8) -> Result<(), &'static str> {
        let (state, inside) = match (self.around.last(), byte) {
            (None, _) => return Err("after top-level value"),
            (Some(Inside::Key), b':') => (State::Value, Inside::Field),
            (Some(Inside::Key), _) => return Err("after object key"),
            (Some(Inside::Field), b',') => (State::Key, Inside::Key),
            (Some(Inside::Array), b',') => (State::Value, Inside::Array),
            (Some(Inside::Field), b'}') | (Some(Inside::Array), b']') => {
                self.leave();
                return Ok(());
            }
            (Some(Inside::Field), _) => return Err("after object key:value pair"),
            (Some(Inside::Array), _) => return Err("after array element"),
        };
        self.state = state;
        if let Some(last) = self.around.last_mut() {
            *last = inside;
        }
        Ok(())
    }

    fn text(&mut self, byte: u8) -> Result<(), &'static str> {
        self.state = match (self.state, byte) {
            (State::Escape, b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => State::Text,
            (State::Escape, b'u') => State::Hex(4),
            (State::Escape, _) => return Err("in string escape code"),
            (State::Hex(left), byte) if byte.is_ascii_hexdigit() => {
                if left > 1 {
                    State::Hex(left - 1)
                } else {
                    State::Text
                }
            }
            (State::Hex(_), _) => return Err("in \\u hexadecimal character escape"),
            (_, b'"') => State::End,
            (_, b'\\') => State::Escape,
            (_, 0x00..=0x1f) => return Err("in string literal"),
            _ => State::Text,
        };
        Ok(())
    }

    fn number(&mut self, byte: u8) -> Result<(), &'static str> {
        let is_digit = byte.is_ascii_digit();
        self.state = match (self.state, byte) {
            (State::Minus, b'0') => State::Zero,
            (State::Minus, _) if is_digit => State::Digits,
            (State::Minus, _) => return Err("in numeric literal"),
            (State::Digits, _) if is_digit => State::Digits,
            (State::Digits | State::Zero, b'.') => State::Point,
            (State::Digits | State::Zero | State::Fraction, b'e' | b'E') => State::Exponent,
            (State::Point | State::Fraction, _) if is_digit => State::Fraction,
            (State::Point, _) => return Err("after decimal point in numeric literal"),
            (State::Exponent, b'+' | b'-') => State::ExponentSign,
            (State::Exponent | State::ExponentSign | State::ExponentDigits, _) if is_digit => {
                State::ExponentDigits
            }
            (State::Exponent | State::ExponentSign, _) => return Err("in exponent of numeric literal"),
            _ => {
                self.state = State::End;
                return self.step(byte);
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_has_its_words() {
        let check = |text: &str, expected: &str| {
            let found = problem(text.as_bytes()).map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(found, expected, "{text}");
        };
        for good in
            ["{}", "[]", " [1, -0.5e+3, true, false, null, \"\\u00e9\\n\"] ", "{\"a\": {\"b\": 0}}", "12"]
        {
            check(good, "");
        }
        for early in ["", "{", "[1,", "\"a", "tru", "-", "1.", "1e", "{\"a\""] {
            check(early, "unexpected end of JSON input");
        }
        check("not json", "invalid character 'o' in literal null (expecting 'u')");
        check("truf", "invalid character 'f' in literal true (expecting 'e')");
        check("{a", "invalid character 'a' looking for beginning of object key string");
        check("{\"a\" 1", "invalid character '1' after object key");
        check("{\"a\":1 2", "invalid character '2' after object key:value pair");
        check("{\"a\":1,}", "invalid character '}' looking for beginning of object key string");
        check("[1 2", "invalid character '2' after array element");
        check("[,", "invalid character ',' looking for beginning of value");
        check("{} x", "invalid character 'x' after top-level value");
        check("01", "invalid character '1' after top-level value");
        check("1.x", "invalid character 'x' after decimal point in numeric literal");
        check("-x", "invalid character 'x' in numeric literal");
        check("1ex", "invalid character 'x' in exponent of numeric literal");
        check("\"\n", "invalid character '\\n' in string literal");
        check("\"\\x", "invalid character 'x' in string escape code");
        check("\"\\u00g", "invalid character 'g' in \\u hexadecimal character escape");
        check("'", "invalid character '\\'' looking for beginning of value");
        check("é", "invalid character 'Ã' looking for beginning of value");
    }
}
