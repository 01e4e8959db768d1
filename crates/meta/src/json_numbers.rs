//! JSON with numbers in the form that Go writes them in: `1` for a whole one, an exponent only when it is very large or small.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// From these bounds on numbers are written with an exponent.
const SMALL: f64 = 1e-6;
const LARGE: f64 = 1e21;

/// Writes something compactly.
///
/// # Errors
/// Those of the writer, and of a value that is no JSON.
pub fn write<W: Write, T: Serialize + ?Sized>(out: W, value: &T) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Numbers(CompactFormatter)))
}

/// Writes something with two blanks of indentation.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_pretty<W: Write, T: Serialize + ?Sized>(out: W, value: &T) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Numbers(PrettyFormatter::new())))
}

/// A layout, with numbers as Go writes them.
struct Numbers<F>(F);

impl<F: Formatter> Formatter for Numbers<F> {
    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if value == 0.0 || (SMALL..LARGE).contains(&size) {
            return write!(out, "{value}");
        }
        let shortest = format!("{value:e}");
        match shortest.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => write!(out, "{digits}e+{exponent}"),
            _ => out.write_all(shortest.as_bytes()),
        }
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_key(out)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use crate::json::{decode, encode, encode_pretty};

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (sent, written) in [
            ("1.0", "1"),
            ("-0.0", "-0"),
            ("0.5", "0.5"),
            ("1e3", "1000"),
            ("1e20", "100000000000000000000"),
            ("1e21", "1e+21"),
            ("-1.5E+300", "-1.5e+300"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("1.25e-10", "1.25e-10"),
            ("123456789012345678", "123456789012345678"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            let tree = decode(sent.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(encode(&tree)).unwrap(), written, "{sent}");
        }
        let tree = decode(br#"{"a":[1.0,{"b":2e30}],"c":[],"d":{}}"#).unwrap();
        assert_eq!(String::from_utf8(encode(&tree)).unwrap(), r#"{"a":[1,{"b":2e+30}],"c":[],"d":{}}"#);
        let pretty =
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2e+30\n    }\n  ],\n  \"c\": [],\n  \"d\": {}\n}";
        assert_eq!(String::from_utf8(encode_pretty(&tree)).unwrap(), pretty);
    }

    #[test]
    fn a_number_keeps_its_value() {
        for sent in [
            0.1 + 0.2,
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
            1.0 / 3.0,
            2.0_f64.sqrt(),
            9_007_199_254_740_993.0,
            123_456_789.123_456_78,
            8.41e-23,
            1.7e-300,
        ] {
            let tree = decode(format!("{sent:e}").as_bytes()).unwrap();
            assert_eq!(tree.as_f64(), Some(sent));
            assert_eq!(decode(&encode(&tree)).unwrap().as_f64(), Some(sent));
        }
    }
}
