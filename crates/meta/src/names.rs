//! Which texts are names, labels, keys and addresses, with upstream's words for those that are not. It must not know which field is
//! checked: each check takes a text and returns what is wrong with it.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::field::{FieldError, Path};

/// Longest DNS label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

const LABEL_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_1123_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
     and end with an alphanumeric character";
const SUBDOMAIN_1123_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
     must start and end with an alphanumeric character";
const LABEL_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035_MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
     character, and end with an alphanumeric character";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_KEY_MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
     character";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const LABEL_VALUE_MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
     start and end with an alphanumeric character";

/// What is wrong with a text; empty when nothing is.
pub type Problems = Vec<String>;

/// A DNS label as of RFC 1123.
pub fn dns1123_label(value: &str) -> Problems {
    let mut problems = too_long(value, LABEL_MAX);
    if !is_label_1123(value) {
        problems.push(if is_subdomain_1123(value) {
            "must not contain dots".to_owned()
        } else {
            regex_error(LABEL_1123_MESSAGE, LABEL_1123, &["my-name", "123-abc"])
        });
    }
    problems
}

/// A DNS subdomain as of RFC 1123.
pub fn dns1123_subdomain(value: &str) -> Problems {
    let mut problems = too_long(value, SUBDOMAIN_MAX);
    if !is_subdomain_1123(value) {
        problems.push(regex_error(SUBDOMAIN_1123_MESSAGE, SUBDOMAIN_1123, &["example.com"]));
    }
    problems
}

/// A DNS label as of RFC 1035, which starts with a letter.
pub fn dns1035_label(value: &str) -> Problems {
    let mut problems = too_long(value, LABEL_MAX);
    if !(value.starts_with(|c: char| c.is_ascii_lowercase()) && is_label_1123(value)) {
        problems.push(regex_error(LABEL_1035_MESSAGE, LABEL_1035, &["my-name", "abc-123"]));
    }
    problems
}

/// A subdomain below a wildcard, `*.example.com`.
pub fn wildcard_dns1123_subdomain(value: &str) -> Problems {
    const MESSAGE: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
         lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let mut problems = too_long(value, SUBDOMAIN_MAX);
    if !value.strip_prefix("*.").is_some_and(is_subdomain_1123) {
        problems.push(regex_error(MESSAGE, &format!("\\*\\.{SUBDOMAIN_1123}"), &["*.example.com"]));
    }
    problems
}

/// A label key: a name with an optional DNS prefix. Upstream calls it a qualified name, too.
pub fn qualified_name(value: &str) -> Problems {
    let examples = &["MyName", "my.name", "123-abc"];
    let parts: Vec<_> = value.split('/').collect();
    let mut problems = Problems::new();
    let name = match parts[..] {
        [name] => name,
        ["", name] => {
            problems.push("prefix part must be non-empty".to_owned());
            name
        }
        [prefix, name] => {
            let found = in_bytes(dns1123_subdomain(prefix), prefix, SUBDOMAIN_MAX);
            problems.extend(found.into_iter().map(|problem| format!("prefix part {problem}")));
            name
        }
        _ => {
            let shape = regex_error(LABEL_KEY_MESSAGE, LABEL_KEY, examples);
            return vec![format!(
                "a valid label key {shape} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        problems.push(format!("name part {}", max_bytes_error(LABEL_MAX)));
    }
    if name.is_empty() || !is_label_text(name) {
        problems.push(format!("name part {}", regex_error(LABEL_KEY_MESSAGE, LABEL_KEY, examples)));
    }
    problems
}

/// A label value.
pub fn label_value(value: &str) -> Problems {
    let mut problems = in_bytes(too_long(value, LABEL_MAX), value, LABEL_MAX);
    if !is_label_text(value) {
        problems.push(regex_error(LABEL_VALUE_MESSAGE, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    problems
}

/// The name of a port: at most 15 of `a-z`, `0-9` and `-`, with a letter.
pub fn port_name(value: &str) -> Problems {
    let mut problems = too_long(value, 15);
    let mut require = |holds: bool, problem: &str| {
        if !holds {
            problems.push(problem.to_owned());
        }
    };
    let charset = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    require(
        !value.is_empty() && value.bytes().all(charset),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    require(value.bytes().any(|c| c.is_ascii_lowercase()), "must contain at least one letter (a-z)");
    require(!value.contains("--"), "must not contain consecutive hyphens");
    require(!value.starts_with('-') && !value.ends_with('-'), "must not begin or end with a hyphen");
    problems
}

/// A port number.
pub fn port_number(port: i64) -> Problems {
    in_range(port, 1, 65535)
}

/// A user id.
pub fn user_id(id: i64) -> Problems {
    in_range(id, 0, i64::from(u32::MAX))
}

/// A group id.
pub fn group_id(id: i64) -> Problems {
    in_range(id, 0, i64::from(u32::MAX))
}

/// A number within bounds, both included.
pub fn in_range(value: i64, low: i64, high: i64) -> Problems {
    if (low..=high).contains(&value) { Problems::new() } else { vec![inclusive_range_error(low, high)] }
}

/// A percentage, `25%`.
pub fn percent(value: &str) -> Problems {
    const MESSAGE: &str = "a valid percent string must be a numeric string followed by an ending '%'";
    let number = value.strip_suffix('%').unwrap_or_default();
    shaped(
        !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()),
        MESSAGE,
        "[0-9]+%",
        &["1%", "93%"],
    )
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Problems {
    const MESSAGE: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
    let charset = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    let holds = !value.is_empty() && value.bytes().all(charset);
    shaped(holds, MESSAGE, "[-A-Za-z0-9]+", &["X-Header-Name"])
}

/// The name of an environment variable, as ConfigMap and Secret keys must be for envFrom.
pub fn env_var_name(value: &str) -> Problems {
    const MESSAGE: &str = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not \
         start with a digit";
    let holds = is_config_key_text(value) && !value.starts_with(|c: char| c.is_ascii_digit());
    let examples = &["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
    let mut problems = shaped(holds, MESSAGE, "[-._a-zA-Z][-._a-zA-Z0-9]*", examples);
    problems.extend(parent_directory(value));
    problems
}

/// The name of an environment variable, where all printable ASCII but `=` is allowed.
pub fn relaxed_env_var_name(value: &str) -> Problems {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value.bytes().all(|c| (c.is_ascii_graphic() || c == b' ') && c != b'=') {
        return Problems::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Problems {
    const MESSAGE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
    let mut problems = too_long(value, SUBDOMAIN_MAX);
    let examples = &["key.name", "KEY_NAME", "key-name"];
    problems.extend(shaped(is_config_key_text(value), MESSAGE, "[-._a-zA-Z0-9]+", examples));
    problems.extend(parent_directory(value));
    problems
}

/// An identifier of C.
pub fn c_identifier(value: &str) -> Problems {
    const MESSAGE: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
         characters or '_'";
    let holds = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    shaped(holds, MESSAGE, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])
}

/// A name that may stand in a path, which is all that some kinds ask.
pub fn path_segment(value: &str) -> Problems {
    if matches!(value, "." | "..") {
        return vec![format!("may not be '{value}'")];
    }
    let contained = ["/", "%"].into_iter().filter(|text| value.contains(text));
    contained.map(|text| format!("may not contain '{text}'")).collect()
}

/// A generateName is checked as if the dash it ends with, and what will stand behind, were a letter.
pub fn masked_prefix(generate_name: &str) -> String {
    match generate_name.strip_suffix('-') {
        Some(name) if !name.is_empty() => {
            // The character before the dash goes too, as upstream has it; it is ASCII or the name is refused anyway.
            let kept: String = name.chars().take(name.chars().count() - 1).collect();
            format!("{kept}a")
        }
        _ => generate_name.to_owned(),
    }
}

/// A domain with at least two segments and an optional trailing dot.
pub fn fully_qualified_domain_name(path: &Path, name: &str) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let problems = dns1123_subdomain(name);
    if !problems.is_empty() {
        return vec![FieldError::invalid(path, name, problems.join(","))];
    }
    if !name.contains('.') {
        return vec![FieldError::invalid(
            path,
            name,
            "should be a domain with at least two segments separated by dots",
        )];
    }
    let bad =
        name.split('.').map(|label| (label, dns1123_label(label))).find(|(_, problems)| !problems.is_empty());
    bad.map(|(label, problems)| FieldError::invalid(path, label, problems.join(","))).into_iter().collect()
}

/// An IP address; strict refuses leading zeros and IPv4 mapped into IPv6, which old objects may carry.
pub fn ip(path: &Path, value: &str, strict: bool) -> Vec<FieldError> {
    let problem = match parse_ip(value) {
        None => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        Some(_) if strict && value.parse::<IpAddr>().is_err() => "must not have leading 0s",
        Some(IpAddr::V6(address)) if strict && address.to_ipv4_mapped().is_some() => {
            "must not be an IPv4-mapped IPv6 address"
        }
        Some(_) => return Vec::new(),
    };
    vec![FieldError::invalid(path, value, problem)]
}

/// An address in the one form that it is written in.
pub fn canonical_ip(path: &Path, value: &str) -> Vec<FieldError> {
    let problems = ip(path, value, true);
    match parse_ip(value) {
        Some(address) if problems.is_empty() => in_form(path, value, &address.to_string()),
        _ => problems,
    }
}

/// A range of addresses in the one form that it is written in.
pub fn canonical_cidr(path: &Path, value: &str) -> Vec<FieldError> {
    let problems = cidr(path, value, true);
    match parse_cidr(value) {
        Some((address, length)) if problems.is_empty() => {
            in_form(path, value, &format!("{address}/{length}"))
        }
        _ => problems,
    }
}

fn in_form(path: &Path, value: &str, canonical: &str) -> Vec<FieldError> {
    let problem = || FieldError::invalid(path, value, format!("must be in canonical form ({canonical:?})"));
    (value != canonical).then(problem).into_iter().collect()
}

/// A range of addresses; strict refuses what `ip` refuses and bits behind the prefix.
pub fn cidr(path: &Path, value: &str, strict: bool) -> Vec<FieldError> {
    let invalid = |problem| vec![FieldError::invalid(path, value, problem)];
    let Some((address, length)) = parse_cidr(value) else {
        return invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    };
    if !strict {
        return Vec::new();
    }
    let (text, bits) = value.split_once('/').unwrap_or((value, ""));
    if text.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0')) {
        return invalid("must not have leading 0s in IP or prefix length");
    }
    if matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return invalid("must not have an IPv4-mapped IPv6 address");
    }
    if network(address, length) != address {
        return invalid("must not have bits set beyond the prefix length");
    }
    Vec::new()
}

/// Reads an address as upstream does, which allows leading zeros in IPv4.
pub fn parse_ip(value: &str) -> Option<IpAddr> {
    if value.contains(':') {
        // Not being an address is the answer.
        return value.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let mut octets = [0u8; 4];
    let mut parts = value.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// Reads an address and the length of its prefix.
pub fn parse_cidr(value: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = value.split_once('/')?;
    let address = parse_ip(address)?;
    if bits.is_empty() || !bits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let length: u8 = bits.parse().ok()?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    (length <= max).then_some((address, length))
}

/// The first address of the range that the address and prefix length name.
pub fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

/// `must be no more than 63 characters`
pub fn max_length_error(length: usize) -> String {
    format!("must be no more than {length} characters")
}

/// The same of labels, which upstream counts in another unit.
fn max_bytes_error(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

fn in_bytes(mut problems: Problems, value: &str, max: usize) -> Problems {
    if value.len() > max
        && let Some(first) = problems.first_mut()
    {
        *first = max_bytes_error(max);
    }
    problems
}

/// `must be between 1 and 65535, inclusive`
pub fn inclusive_range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// What upstream says when a text does not match: the rule, examples and the regular expression.
pub fn regex_error(message: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{regex}')");
    }
    // The doubled blank between examples is upstream's.
    let examples: Vec<_> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

fn shaped(holds: bool, message: &str, regex: &str, examples: &[&str]) -> Problems {
    if holds { Problems::new() } else { vec![regex_error(message, regex, examples)] }
}

fn too_long(value: &str, max: usize) -> Problems {
    if value.len() > max { vec![max_length_error(max)] } else { Problems::new() }
}

fn parent_directory(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ => value.starts_with("..").then(|| "must not start with '..'".to_owned()),
    }
}

fn is_label_1123(value: &str) -> bool {
    let alphanumeric = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    framed(value, alphanumeric) && value.bytes().all(|c| alphanumeric(&c) || c == b'-')
}

fn is_subdomain_1123(value: &str) -> bool {
    value.split('.').all(is_label_1123)
}

/// Empty, or alphanumeric with `-_.` inside.
fn is_label_text(value: &str) -> bool {
    value.is_empty() || (framed(value, u8::is_ascii_alphanumeric) && is_config_key_text(value))
}

fn is_config_key_text(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

fn framed(value: &str, edge: impl Fn(&u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    bytes.first().is_some_and(&edge) && bytes.last().is_some_and(&edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(check: fn(&str) -> Problems, good: &[&str], bad: &[(&str, &str)]) {
        for text in good {
            assert_eq!(check(text), Problems::new(), "{text}");
        }
        for (text, expected) in bad {
            let problems = check(text);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
        }
    }

    #[test]
    fn names_are_checked() {
        let (long64, long254) = ("a".repeat(64), "a".repeat(254));
        check(
            dns1123_label,
            &["a", "a-b", "0", "1a"],
            &[
                ("", "a lowercase RFC 1123 label"),
                (
                    "A",
                    "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ),
                ("a.b", "must not contain dots"),
                (&long64, "must be no more than 63 characters"),
                ("-a", "label"),
            ],
        );
        check(dns1123_subdomain, &["a.b", "a"], &[("a..b", "RFC 1123 subdomain"), (&long254, "253")]);
        check(
            dns1035_label,
            &["a1", "abc-123"],
            &[("1a", "DNS-1035 label"), ("", "DNS-1035"), ("a-", "DNS-1035")],
        );
        check(wildcard_dns1123_subdomain, &["*.a.b"], &[("*.*.a", "wildcard"), ("a.b", "wildcard")]);
        check(
            qualified_name,
            &["a", "A.b_c", "example.com/x"],
            &[
                ("", "name part must be non-empty"),
                ("/a", "prefix part must be non-empty"),
                ("a/", "name part must be non-empty"),
                ("A/b", "prefix part a lowercase RFC 1123 subdomain"),
                ("a/b/c", "a valid label key must consist of"),
                (&long64, "name part must be no more than 63 bytes"),
                (&format!("{long254}/a"), "prefix part must be no more than 253 bytes"),
            ],
        );
        check(
            label_value,
            &["", "a_B.1"],
            &[("-a", "a valid label must be an empty string"), (&long64, "must be no more than 63 bytes")],
        );
    }

    #[test]
    fn other_texts_are_checked() {
        check(
            port_name,
            &["http", "a-1"],
            &[
                ("1", "at least one letter"),
                ("a--b", "consecutive hyphens"),
                ("-a", "begin or end"),
                ("Aa", "alpha-numeric"),
                ("abcdefghijklmnop", "no more than 15"),
            ],
        );
        check(percent, &["1%", "100%"], &[("%", "percent string"), ("1", "percent"), ("-1%", "percent")]);
        check(
            env_var_name,
            &["A", "_a.b-c"],
            &[("1A", "must not start with a digit"), ("..", "must not be '..'")],
        );
        check(
            relaxed_env_var_name,
            &["1 a", "a.b"],
            &[("", "non-empty"), ("a=b", "other than '='"), ("é", "ASCII")],
        );
        check(
            config_map_key,
            &["a.b", "A_1"],
            &[("", "config key"), (".", "must not be '.'"), ("..a", "start with '..'")],
        );
        check(c_identifier, &["_a1"], &[("1", "C identifier"), ("", "C identifier")]);
        check(http_header_name, &["X-A"], &[("a b", "HTTP header"), ("", "HTTP header")]);
        check(
            path_segment,
            &["a:b", "A"],
            &[(".", "may not be '.'"), ("a/b", "may not contain '/'"), ("%", "'%'")],
        );
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(masked_prefix("abc-"), "aba");
        assert_eq!(masked_prefix("-"), "-");
    }

    #[test]
    fn addresses_are_checked() {
        let path = Path::new("ip");
        for (value, strict, expected) in [
            ("10.0.0.1", true, None),
            ("::1", true, None),
            ("010.0.0.1", false, None),
            ("010.0.0.1", true, Some("leading 0s")),
            ("::ffff:1.2.3.4", true, Some("IPv4-mapped")),
            ("1.2.3", false, Some("must be a valid IP address")),
        ] {
            let errors = ip(&path, value, strict);
            assert_eq!(
                errors.first().map(|error| error.detail.contains(expected.unwrap_or("?"))),
                expected.map(|_| true),
                "{value}"
            );
        }
        for (value, strict, expected) in [
            ("10.0.0.0/8", true, None),
            ("10.0.0.1/8", false, None),
            ("10.0.0.1/8", true, Some("beyond the prefix")),
            ("10.0.0.0/33", false, Some("valid CIDR")),
            ("2001:db8::/64", true, None),
            ("0.0.0.0/0", true, None),
        ] {
            let errors = cidr(&path, value, strict);
            assert_eq!(
                errors.first().map(|error| error.detail.contains(expected.unwrap_or("?"))),
                expected.map(|_| true),
                "{value}"
            );
        }
        assert!(fully_qualified_domain_name(&path, "a.b.").is_empty());
        assert!(!fully_qualified_domain_name(&path, "a").is_empty());
    }
}
