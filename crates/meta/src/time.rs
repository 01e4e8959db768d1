//! Times and durations as objects carry them. It must not read a clock.
use std::fmt;

use jiff::Timestamp;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Why a text is no time, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parsing time {quoted} as \"{layout}\": cannot parse {rest} as \"{element}\"", quoted = crate::field::quote(text), rest = crate::field::quote(rest))]
pub struct ParseTimeError {
    /// The text.
    pub text: String,
    /// The layout it was read by.
    pub layout: &'static str,
    /// Where the reading stopped.
    pub rest: String,
    /// What was expected there.
    pub element: &'static str,
}

const SECONDS_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICROS_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Reads a time with seconds; a fraction is allowed and kept.
pub fn parse(text: &str) -> Result<Timestamp, ParseTimeError> {
    parse_as(text, SECONDS_LAYOUT)
}

/// Reads a time that must carry microseconds.
pub fn parse_micro(text: &str) -> Result<Timestamp, ParseTimeError> {
    let fraction = text.get(19..).and_then(|rest| rest.strip_prefix('.'));
    let digits = fraction.map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if shape_error(text).is_none() && digits != 6 {
        let rest = text.get(19..).unwrap_or_default();
        return Err(time_error(text, MICROS_LAYOUT, rest, ".000000"));
    }
    parse_as(text, MICROS_LAYOUT)
}

fn parse_as(text: &str, layout: &'static str) -> Result<Timestamp, ParseTimeError> {
    if let Some((at, element)) = shape_error(text) {
        return Err(time_error(text, layout, text.get(at..).unwrap_or_default(), element));
    }
    // The shape is right, so what remains is a number out of its range.
    text.parse::<Timestamp>().map_err(|_| time_error(text, layout, text, "2006"))
}

fn time_error(text: &str, layout: &'static str, rest: &str, element: &'static str) -> ParseTimeError {
    ParseTimeError { text: text.to_owned(), layout, rest: rest.to_owned(), element }
}

/// Where the text leaves the shape `2006-01-02T15:04:05[.9]Z`, and what was expected there.
fn shape_error(text: &str) -> Option<(usize, &'static str)> {
    const ELEMENTS: [(usize, usize, &str); 6] =
        [(0, 4, "2006"), (5, 2, "01"), (8, 2, "02"), (11, 2, "15"), (14, 2, "04"), (17, 2, "05")];
    const SEPARATORS: [(usize, &str); 5] = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    for (index, (at, length, element)) in ELEMENTS.into_iter().enumerate() {
        if !text.get(at..at + length).is_some_and(|digits| digits.bytes().all(|c| c.is_ascii_digit())) {
            return Some((at, element));
        }
        if let Some((at, separator)) = SEPARATORS.get(index)
            && !text.get(*at..).is_some_and(|rest| rest.starts_with(separator))
        {
            return Some((*at, separator));
        }
    }
    let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = zone.len() == 6
        && zone.starts_with(['+', '-'])
        && zone[1..]
            .bytes()
            .enumerate()
            .all(|(index, c)| if index == 2 { c == b':' } else { c.is_ascii_digit() });
    if zone == "Z" || offset { None } else { Some((text.len() - zone.len(), "Z07:00")) }
}

/// As `metav1.Time` is written: whole seconds in UTC.
pub fn format(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As `metav1.MicroTime` is written: six decimals, always.
pub fn format_micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Why a text is no duration, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    /// It does not look like one, or is too long.
    #[error("time: invalid duration {}", crate::field::quote(.0))]
    Invalid(String),
    /// A number has no unit.
    #[error("time: missing unit in duration {}", crate::field::quote(.0))]
    MissingUnit(String),
    /// A number has a unit that is none.
    #[error("time: unknown unit {} in duration {}", crate::field::quote(.unit), crate::field::quote(.text))]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
}

/// A span of nanoseconds that is read and written as Go does: `1h0m0s`, `1.5s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Duration(pub i64);

impl Duration {
    /// Reads a duration.
    pub fn parse(text: &str) -> Result<Self, ParseDurationError> {
        let invalid = || ParseDurationError::Invalid(text.to_owned());
        let negative = text.starts_with('-');
        let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let (nanos, behind) = duration_part(text, rest)?;
            total += nanos;
            if total > i128::from(i64::MAX) + i128::from(negative) {
                return Err(invalid());
            }
            rest = behind;
        }
        let signed = if negative { -total } else { total };
        i64::try_from(signed).map(Self).map_err(|_| invalid())
    }

    /// Whole seconds, cut off.
    pub fn as_seconds(self) -> i64 {
        self.0 / 1_000_000_000
    }
}

/// One number with its unit, in nanoseconds, and what stands behind.
fn duration_part<'a>(text: &str, rest: &'a str) -> Result<(i128, &'a str), ParseDurationError> {
    let invalid = || ParseDurationError::Invalid(text.to_owned());
    let digits_end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, behind) = rest.split_at(digits_end(rest));
    let (places, behind) = match behind.strip_prefix('.') {
        Some(behind) => behind.split_at(digits_end(behind)),
        None => ("", behind),
    };
    if whole.is_empty() && places.is_empty() {
        return Err(invalid());
    }
    let unit_end = behind.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(behind.len());
    let (unit, behind) = behind.split_at(unit_end);
    let scale: i128 = match unit {
        "" => return Err(ParseDurationError::MissingUnit(text.to_owned())),
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        _ => return Err(ParseDurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() }),
    };
    // An i64 of nanoseconds has at most 19 digits.
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| invalid())?.into() };
    let mut nanos = whole.checked_mul(scale).ok_or_else(invalid)?;
    let mut unit_nanos = scale;
    for digit in places.bytes().take(18) {
        nanos += i128::from(digit - b'0') * unit_nanos / 10;
        unit_nanos /= 10;
    }
    Ok((nanos, behind))
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.0).abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        if nanos == 0 {
            return f.write_str("0s");
        }
        let decimal = |unit: i128| {
            let places = unit.ilog10() as usize;
            let text = format!("{}.{:0places$}", nanos / unit, nanos % unit);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        match nanos {
            0..1_000 => write!(f, "{sign}{nanos}ns"),
            1_000..1_000_000 => write!(f, "{sign}{}\u{b5}s", decimal(1_000)),
            1_000_000..1_000_000_000 => write!(f, "{sign}{}ms", decimal(1_000_000)),
            _ => write!(f, "{sign}{}", clock(nanos)),
        }
    }
}

/// `1h2m3.5s`: hours and minutes only from the first that is not zero.
fn clock(nanos: i128) -> String {
    let (seconds, fraction) = (nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND);
    let mut text = format!("{}.{fraction:09}", seconds % 60);
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{text}s"),
        (0, _) => format!("{minutes}m{text}s"),
        _ => format!("{hours}h{minutes}m{text}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, expected, micro) in [
            ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z", "2024-02-29T12:00:00.000000Z"),
            ("2024-01-01T01:00:00+01:00", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.000000Z"),
            ("2024-01-01T00:00:00.123456Z", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.123456Z"),
        ] {
            let at = parse(text).unwrap();
            assert_eq!((format(at).as_str(), format_micro(at).as_str()), (expected, micro));
        }
        assert!(parse_micro("2024-01-01T00:00:00.123456Z").is_ok());
        assert!(parse_micro("2024-01-01T00:00:00Z").is_err());
        for (text, expected) in [
            ("", "parsing time \"\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"2006\""),
            ("x", "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\""),
            (
                "2024-01-01",
                "parsing time \"2024-01-01\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\"",
            ),
            (
                "2024-01-01T00:00:00",
                "parsing time \"2024-01-01T00:00:00\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"Z07:00\"",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn durations_are_read_and_written() {
        for (text, expected) in [
            ("0", "0s"),
            ("1h", "1h0m0s"),
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("100ms", "100ms"),
            ("1.5ms", "1.5ms"),
            ("10us", "10µs"),
            ("3ns", "3ns"),
            ("-1m", "-1m0s"),
            ("1h2m3.004s", "1h2m3.004s"),
            (".5h", "30m0s"),
        ] {
            assert_eq!(Duration::parse(text).unwrap().to_string(), expected, "{text}");
        }
        for (text, expected) in [
            ("", "time: invalid duration \"\""),
            ("1", "time: missing unit in duration \"1\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("s", "time: invalid duration \"s\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
        ] {
            assert_eq!(Duration::parse(text).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn durations_survive_their_text(nanos in any::<i64>()) {
            prop_assert_eq!(Duration::parse(&Duration(nanos).to_string()), Ok(Duration(nanos)));
        }

        #[test]
        fn no_time_panics(text in ".{0,30}") {
            prop_assert!(parse(&text).is_err() || !text.is_empty());
            let _result = (parse_micro(&text), Duration::parse(&text));
        }
    }
}
