//! The formats of strings that are checked. Others, and those of numbers, say something to readers only.
use super::pattern::Pattern;
use crate::names::{self, parse_ip};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::Date;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

const KNOWN: &[&str] = &[
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

/// The format if it is checked, else nothing. Dashes in the name do not matter.
pub(super) fn known(format: &str) -> &str {
    let plain = format.replace('-', "");
    if KNOWN.contains(&plain.as_str()) { format } else { "" }
}

macro_rules! patterns {
    ($($name:ident = $text:literal;)*) => {
        $(static $name: LazyLock<Pattern> = LazyLock::new(|| Pattern::new($text));)*
    };
}

patterns! {
    SYMBOL = r"^\p{S}$";
    UUID = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID3 = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID4 = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    UUID5 = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    EMAIL = r#"^(.*<)?[^\s<>()@,;:\\"\[\]]+@[^\s<>()@,;:\\"\[\]]+>?$"#;
    HEX_COLOR = r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    RGB_COLOR = r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$";
    SSN = r"^\d{3}[- ]?\d{2}[- ]?\d{4}$";
    CREDIT_CARD = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|(222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11}|6[27][0-9]{14})$";
    BSON_ID = r"^[0-9a-fA-F]{24}$";
    DATE_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:?[0-9]{2})?$";
    DURATION = r"^([+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|\x{B5}s|\x{3BC}s|ms|s|m|h))+$";
    WORDED_DURATION = r"^((\d+)\s*(ns|nano|us|\x{B5}s|micro|ms|milli|s|sec|m|min|h|hr|hour|d|day|w|week)s?\s*)+$";
    MAC = r"^([0-9a-fA-F]{2}([:-])){5}[0-9a-fA-F]{2}$|^([0-9a-fA-F]{2}([:-])){7}[0-9a-fA-F]{2}$|^([0-9a-fA-F]{2}([:-])){19}[0-9a-fA-F]{2}$|^([0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}$|^([0-9a-fA-F]{4}\.){3}[0-9a-fA-F]{4}$|^([0-9a-fA-F]{4}\.){9}[0-9a-fA-F]{4}$";
    SCHEME = r"^[a-zA-Z][a-zA-Z0-9+.-]*:.";
}

fn matches(pattern: &Pattern, value: &str) -> bool {
    // The expressions above compile; the tests use each.
    pattern.is_match(value).unwrap_or(false)
}

/// Whether a text has the format.
pub(super) fn holds(format: &str, value: &str) -> bool {
    match format.replace('-', "").as_str() {
        "bsonobjectid" => matches(&BSON_ID, value),
        "byte" => STANDARD.decode(value).is_ok() && !value.is_empty(),
        "cidr" => names::parse_cidr(value).is_some(),
        "creditcard" => is_credit_card(value),
        "date" => value.len() == 10 && value.parse::<Date>().is_ok(),
        "datetime" => is_date_time(value),
        "duration" => {
            value == "0" || matches(&DURATION, value) || matches(&WORDED_DURATION, &value.to_lowercase())
        }
        "email" => matches(&EMAIL, value),
        "hexcolor" => matches(&HEX_COLOR, value),
        "hostname" => is_hostname(value),
        "ipv4" => value.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => {
            value.contains(':')
                && parse_ip(value).is_some_and(|ip| matches!(ip, IpAddr::V6(_) | IpAddr::V4(_)))
        }
        "isbn" => is_isbn10(value) || is_isbn13(value),
        "isbn10" => is_isbn10(value),
        "isbn13" => is_isbn13(value),
        "k8slongname" => names::dns1123_subdomain(value).is_empty(),
        "k8sshortname" => names::dns1123_label(value).is_empty(),
        "mac" => matches(&MAC, value),
        "rgbcolor" => matches(&RGB_COLOR, value),
        "ssn" => matches(&SSN, value),
        "uri" => is_uri(value),
        "uuid" => matches(&UUID, value),
        "uuid3" => matches(&UUID3, value),
        "uuid4" => matches(&UUID4, value),
        "uuid5" => matches(&UUID5, value),
        _ => true,
    }
}

/// A path from the root, or anything behind a scheme, without characters that no URL may have.
fn is_uri(value: &str) -> bool {
    let is_plain = |character: char| !character.is_ascii_control() && character != ' ';
    let escapes_are_whole = value.split('%').skip(1).all(|rest| {
        rest.len() >= 2 && rest.is_char_boundary(2) && rest[..2].bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    value.chars().all(is_plain) && escapes_are_whole && (value.starts_with('/') || matches(&SCHEME, value))
}

/// A letter, digit or symbol of any script.
fn may_name_hosts(character: char) -> bool {
    let is_symbol = || !character.is_ascii() && matches(&SYMBOL, character.encode_utf8(&mut [0; 4]));
    character.is_ascii_alphanumeric() || (!character.is_ascii() && character.is_alphabetic()) || is_symbol()
}

fn is_hostname(value: &str) -> bool {
    let labels: Vec<Vec<char>> = value.split('.').map(|label| label.chars().collect()).collect();
    let Some((last, others)) = labels.split_last() else { return false };
    let fits = value.len() <= 255 && value.split('.').all(|label| label.len() <= 63);
    fits && others.iter().all(|label| is_inner_label(label))
        && if others.is_empty() { is_only_label(last) } else { is_last_label(last) }
}

fn is_inner_label(label: &[char]) -> bool {
    let ends = label.first().is_some_and(|first| may_name_hosts(*first))
        && label.last().is_some_and(|last| may_name_hosts(*last));
    ends && label.iter().all(|character| *character == '-' || may_name_hosts(*character))
}

/// At least two characters, and no two dashes in a row.
fn is_last_label(label: &[char]) -> bool {
    let doubled = label.windows(2).any(|pair| pair == ['-', '-']);
    label.len() > 1 && is_inner_label(label) && !doubled
}

/// A name without dots may have one dash, behind its first character.
fn is_only_label(label: &[char]) -> bool {
    let Some((first, rest)) = label.split_first() else { return false };
    let rest = rest.strip_prefix(&['-']).unwrap_or(rest);
    may_name_hosts(*first) && rest.iter().all(|character| may_name_hosts(*character))
}

fn is_date_time(value: &str) -> bool {
    if !matches(&DATE_TIME, value) {
        return false;
    }
    let date_is_one = value[..10].parse::<Date>().is_ok();
    let number = |range: std::ops::Range<usize>| value[range].parse::<u32>().unwrap_or(u32::MAX);
    date_is_one && number(11..13) < 24 && number(14..16) < 60 && number(17..19) < 60
}

fn is_credit_card(value: &str) -> bool {
    let digits: String = value.chars().filter(char::is_ascii_digit).collect();
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(index, byte)| {
            let digit = u32::from(byte - b'0') * if index % 2 == 1 { 2 } else { 1 };
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    matches(&CREDIT_CARD, &digits) && sum.is_multiple_of(10)
}

fn plain_digits(value: &str) -> String {
    value.chars().filter(|character| !matches!(character, '-' | ' ')).collect()
}

fn is_isbn10(value: &str) -> bool {
    let digits = plain_digits(value);
    if digits.len() != 10 || !digits.is_ascii() {
        return false;
    }
    let weigh = |(index, byte): (usize, u8)| match byte {
        b'0'..=b'9' => Some((index as u32 + 1) * u32::from(byte - b'0')),
        b'X' | b'x' if index == 9 => Some(100),
        _ => None,
    };
    let weights: Option<Vec<u32>> = digits.bytes().enumerate().map(weigh).collect();
    weights.is_some_and(|weights| weights.iter().sum::<u32>() % 11 == 0)
}

fn is_isbn13(value: &str) -> bool {
    let digits = plain_digits(value);
    if digits.len() != 13 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let weight = |index: usize| if index.is_multiple_of(2) { 1 } else { 3 };
    let sum: u32 =
        digits.bytes().enumerate().map(|(index, byte)| weight(index) * u32::from(byte - b'0')).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, good: &[&str], bad: &[&str]) {
        assert_eq!(known(format), format);
        good.iter().for_each(|value| assert!(holds(format, value), "{value} is a {format}"));
        bad.iter().for_each(|value| assert!(!holds(format, value), "{value} is no {format}"));
    }

    #[test]
    fn formats_are_told_apart() {
        check("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f", "x07f1f77bcf86cd799439011"]);
        check("byte", &["aGVsbG8="], &["aGVsbG8", "***", ""]);
        check("cidr", &["10.0.0.0/8", "fd00::/64"], &["10.0.0.0", "10.0.0.0/33"]);
        check("creditcard", &["4111 1111 1111 1111"], &["4111 1111 1111 1112", "1"]);
        check("date", &["2026-11-29"], &["2026-13-01", "29.11.2026", "2026-11-29T00:00:00Z"]);
        check(
            "date-time",
            &["2026-11-29T12:00:00Z", "2026-11-29T12:00:00.5+01:00"],
            &["2026-11-29", "2026-11-29T25:00:00Z"],
        );
        check("duration", &["1h30m", "5s", "0", "3 days", "1.5h"], &["abc", "5", ""]);
        check("email", &["a@b.c", "Name <a@b.c>"], &["a", "@b", "a b@c"]);
        check("hexcolor", &["#fff", "a0b1c2"], &["#ff", "red"]);
        check("hostname", &["example.com", "a", "1.example.org"], &["-a.b", "a b", ""]);
        check("ipv4", &["10.0.0.1"], &["10.0.0", "::1", "10.0.0.256"]);
        check("ipv6", &["::1", "fd00::1"], &["10.0.0.1", ":::"]);
        check("isbn", &["0-306-40615-2", "978-0-306-40615-7"], &["0-306-40615-3", "1"]);
        check("isbn10", &["0306406152"], &["9780306406157"]);
        check("isbn13", &["9780306406157"], &["0306406152", "9780306406158"]);
        check("k8s-short-name", &["a-b"], &["a.b", "A"]);
        check("k8s-long-name", &["a.b"], &["A", "a..b"]);
        check("mac", &["00:11:22:33:44:55", "0011.2233.4455"], &["00:11", "zz:11:22:33:44:55"]);
        check("password", &["anything", ""], &[]);
        check("rgbcolor", &["rgb(1, 2, 255)"], &["rgb(1,2,256)", "#fff"]);
        check("ssn", &["123-45-6789"], &["12-345-6789"]);
        check(
            "uri",
            &["https://a.b/c?d=e", "/path", "urn:x:y"],
            &["a b", "relative/path", "", "http://a/%zz"],
        );
        check(
            "uuid",
            &["00000000-0000-0000-0000-000000000000", "ABCDEF00000000000000000000000000"],
            &["1", "g"],
        );
        check("uuid3", &["00000000-0000-3000-0000-000000000000"], &["00000000-0000-4000-8000-000000000000"]);
        check("uuid4", &["00000000-0000-4000-8000-000000000000"], &["00000000-0000-4000-0000-000000000000"]);
        check("uuid5", &["00000000-0000-5000-8000-000000000000"], &["00000000-0000-4000-8000-000000000000"]);
    }

    #[test]
    fn what_is_only_said_to_readers_is_not_checked() {
        for format in ["int32", "int64", "float", "double", "quantity", "mine"] {
            assert_eq!(known(format), "");
        }
    }
}
