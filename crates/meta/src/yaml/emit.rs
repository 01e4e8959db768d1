//! Writes a tree as upstream's YAML library writes it: sorted keys, lists not indented, quotes only where a reader needs them. It must
//! not know what a tree means.
use serde_json::{Map, Value};

/// Writes one YAML document.
pub fn encode(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => write_fields(&mut text, fields, 0, false),
        Value::Array(items) if !items.is_empty() => write_items(&mut text, items, 0),
        scalar => {
            write_scalar(&mut text, scalar, 0);
            text.push('\n');
        }
    }
    text
}

/// The first field stands behind a dash already, if there is one.
fn write_fields(text: &mut String, fields: &Map<String, Value>, indent: usize, behind_dash: bool) {
    // The map may keep the order of insertion, depending on what else is built.
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_by_cached_key(|(key, _)| natural(key));
    for (index, (key, value)) in sorted.into_iter().enumerate() {
        if index > 0 || !behind_dash {
            text.extend(std::iter::repeat_n(' ', indent));
        }
        write_string(text, key, indent);
        text.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                write_fields(text, inner, indent + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                write_items(text, items, indent);
            }
            scalar => {
                text.push(' ');
                write_scalar(text, scalar, indent);
                text.push('\n');
            }
        }
    }
}

fn write_items(text: &mut String, items: &[Value], indent: usize) {
    for item in items {
        text.extend(std::iter::repeat_n(' ', indent));
        write_item(text, item, indent);
    }
}

fn write_item(text: &mut String, item: &Value, indent: usize) {
    text.push_str("- ");
    match item {
        Value::Object(fields) if !fields.is_empty() => write_fields(text, fields, indent + 2, true),
        Value::Array(items) if !items.is_empty() => {
            write_item(text, &items[0], indent + 2);
            write_items(text, &items[1..], indent + 2);
        }
        scalar => {
            write_scalar(text, scalar, indent);
            text.push('\n');
        }
    }
}

fn write_scalar(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(string) => write_string(text, string, indent),
        Value::Object(_) => text.push_str("{}"),
        Value::Array(_) => text.push_str("[]"),
        other => text.push_str(&other.to_string()),
    }
}

/// Upstream's order of keys: digits by their number, letters behind everything else.
fn natural(key: &str) -> Vec<(u8, u64, char)> {
    let mut parts = Vec::new();
    let mut characters = key.chars().peekable();
    while let Some(character) = characters.next() {
        let Some(digit) = character.to_digit(10) else {
            parts.push((u8::from(character.is_alphabetic()) + 1, 0, character));
            continue;
        };
        let mut number = u64::from(digit);
        while let Some(digit) = characters.peek().and_then(|next| next.to_digit(10)) {
            number = number.saturating_mul(10).saturating_add(u64::from(digit));
            characters.next();
        }
        parts.push((0, number, '0'));
    }
    parts
}

fn write_string(text: &mut String, string: &str, indent: usize) {
    if string.contains('\n') && is_block(string) {
        write_block(text, string, indent);
    } else if is_other_type(string) || !string.chars().all(is_printable) {
        write_double_quoted(text, string);
    } else if is_plain(string) {
        text.push_str(string);
    } else {
        text.push('\'');
        text.push_str(&string.replace('\'', "''"));
        text.push('\'');
    }
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
        && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// A literal block keeps what it can show, and no blanks at line ends.
fn is_block(string: &str) -> bool {
    let shown = string.chars().all(|c| c == '\n' || c == '\t' || is_printable(c));
    shown && !string.contains(" \n") && !string.ends_with(' ') && !string.trim_matches('\n').is_empty()
}

fn write_block(text: &mut String, string: &str, indent: usize) {
    text.push('|');
    if string.starts_with([' ', '\n']) {
        text.push('2');
    }
    if !string.ends_with('\n') {
        text.push('-');
    } else if string.ends_with("\n\n") {
        text.push('+');
    }
    for line in string.strip_suffix('\n').unwrap_or(string).split('\n') {
        text.push('\n');
        if !line.is_empty() {
            text.extend(std::iter::repeat_n(' ', indent + 2));
            text.push_str(line);
        }
    }
}

fn write_double_quoted(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            '\0' => text.push_str("\\0"),
            '\u{7}' => text.push_str("\\a"),
            '\u{8}' => text.push_str("\\b"),
            '\u{b}' => text.push_str("\\v"),
            '\u{c}' => text.push_str("\\f"),
            '\u{1b}' => text.push_str("\\e"),
            shown if is_printable(shown) => text.push(shown),
            hidden if (hidden as u32) < 0x100 => text.push_str(&format!("\\x{:02X}", hidden as u32)),
            hidden if (hidden as u32) < 0x1_0000 => text.push_str(&format!("\\u{:04X}", hidden as u32)),
            hidden => text.push_str(&format!("\\U{:08X}", hidden as u32)),
        }
    }
    text.push('"');
}

/// Whether a reader would take the plain text for null, a boolean, a number or a time.
fn is_other_type(string: &str) -> bool {
    const WORDS: &[&str] = &[
        "", "~", "null", "y", "yes", "true", "on", "n", "no", "false", "off", ".nan", ".inf", "+.inf",
        "-.inf", "<<", "=",
    ];
    let lower = string.to_lowercase();
    let capitalised = |word: &str| {
        let mut characters = word.chars();
        let first: String = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        string == word || string == word.to_uppercase() || string == format!("{first}{}", characters.as_str())
    };
    WORDS.iter().any(|word| *word == lower && capitalised(word)) || is_number(string) || is_time(string)
}

fn is_number(string: &str) -> bool {
    let plain = string.replace('_', "");
    let digits = plain.strip_prefix(['-', '+']).unwrap_or(&plain);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let radix = |prefix: &str, radix| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
    };
    if radix("0x", 16) || radix("0X", 16) || radix("0b", 2) || radix("0o", 8) {
        return true;
    }
    // A time of day in base 60, as YAML 1.1 has it.
    let base60 = digits.contains(':')
        && digits.split(':').enumerate().all(|(index, part)| {
            let part = part.trim_end_matches(|c: char| index > 0 && (c == '.' || c.is_ascii_digit()));
            part.chars().all(|c| c.is_ascii_digit())
        });
    base60 || is_float(digits)
}

fn is_float(digits: &str) -> bool {
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let numeric = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    numeric(whole)
        && numeric(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && !exponent.is_empty()
        && numeric(exponent)
}

fn is_time(string: &str) -> bool {
    let mut parts = string.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let numeric = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit())
    };
    let (day, clock) = rest.find(|c: char| !c.is_ascii_digit()).map_or((rest, ""), |at| rest.split_at(at));
    if !numeric(year, 4..=4) || !numeric(month, 1..=2) || !numeric(day, 1..=2) {
        return false;
    }
    clock.is_empty()
        || (clock.starts_with(['T', 't', ' '])
            && clock[1..].chars().all(|c| c.is_ascii_digit() || ":.+-Z ".contains(c)))
}

/// Whether a reader takes the text for itself without quotes.
fn is_plain(string: &str) -> bool {
    let first = string.chars().next().unwrap_or(' ');
    let indicator = "#,[]{}&*!|>'\"%@`".contains(first);
    let spaced = |c: char| string[c.len_utf8()..].starts_with(' ') || string.len() == c.len_utf8();
    let ambiguous = matches!(first, '-' | '?' | ':') && spaced(first);
    let inside = string.contains(": ") || string.contains(" #") || string.ends_with(':');
    let document = string.starts_with("---") || string.starts_with("...");
    !(indicator || ambiguous || inside || document || string.starts_with(' ') || string.ends_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strings_are_quoted_where_needed() {
        for (string, expected) in [
            ("a", "a"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("yEs", "yEs"),
            ("1", "\"1\""),
            ("1.5", "\"1.5\""),
            ("0x1F", "\"0x1F\""),
            ("1Gi", "1Gi"),
            ("2001-01-01T00:00:00Z", "\"2001-01-01T00:00:00Z\""),
            ("a: b", "'a: b'"),
            ("it's", "it's"),
            ("'a", "'''a'"),
            ("*", "'*'"),
            ("-", "'-'"),
            ("-a", "-a"),
            ("a #b", "'a #b'"),
            ("a\tb", "\"a\\tb\""),
            ("{}", "'{}'"),
            ("10.96.0.1", "10.96.0.1"),
            ("10:20", "\"10:20\""),
        ] {
            assert_eq!(encode(&json!({"k": string})), format!("k: {expected}\n"), "{string}");
        }
    }

    #[test]
    fn structures_are_laid_out_as_upstream() {
        let value =
            json!({"a": {"b": [1, {"c": 2, "d": [3]}, [4, 5]]}, "e": {}, "f": [], "g": null, "h": "x\ny\n"});
        let expected = "a:\n  b:\n  - 1\n  - c: 2\n    d:\n    - 3\n  - - 4\n    - 5\ne: {}\nf: []\ng: null\nh: |\n  x\n  y\n";
        assert_eq!(encode(&value), expected);
        assert_eq!(super::super::decode(expected).unwrap(), value);
    }
}
