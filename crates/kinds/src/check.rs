//! Checks that many kinds share, with upstream's messages. Each adds to a list of errors and goes on, so that a user sees
//! everything that is wrong at once. It knows no kind.

use crate::tree::{self, entries, list, number, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names::{self, parse_ip};
use serde_json::Value;
use std::net::IpAddr;

/// The errors found so far.
pub(crate) type Errors = Vec<FieldError>;

/// What is said of a value that may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";
/// What is said of more available replicas than ready ones.
pub(crate) const MORE_THAN_READY: &str = "cannot be greater than readyReplicas";
const NEGATIVE: &str = "must be greater than or equal to 0";
/// What is said of a number that must be more than zero.
pub(crate) const NOT_POSITIVE: &str = "must be greater than zero";
const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
/// The transport protocols, in the order that messages list them.
pub(crate) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// All annotations of an object together.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// The range in words.
pub(crate) use nauplius_meta::names::inclusive_range_error as between;

/// One error for each message about `value`.
pub(crate) fn messages(messages: Vec<String>, value: &str, path: &Path, errors: &mut Errors) {
    errors.extend(messages.into_iter().map(|message| FieldError::invalid(path, value, message)));
}

/// A value that is wrong and that the message does not repeat.
pub(crate) fn wrong(path: &Path, detail: &str) -> FieldError {
    FieldError { bad_value: None, ..FieldError::invalid(path, Value::Null, detail) }
}

/// A name below a domain: `example.com/path`.
pub(crate) fn domain_prefixed_path(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let (domain, rest) = name.split_once('/').unwrap_or((name, ""));
    if rest.is_empty() {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, name, detail));
        return;
    }
    messages(names::dns1123_subdomain(domain), domain, path, errors);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/%-._~!$&'()*+,;=:".contains(c);
    if !rest.chars().all(allowed) {
        let regex = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
        let detail = names::regex_error("Invalid path", regex, &[]);
        errors.push(FieldError::invalid(path, rest, detail));
    }
}

/// A string that is one of `supported`; empty is missing.
pub(crate) fn one_of(object: &Value, key: &str, supported: &[&str], path: &Path, errors: &mut Errors) {
    let value = text(object, key);
    if value.is_empty() {
        errors.push(FieldError::required(&path.child(key), ""));
    } else if !supported.contains(&value) {
        errors.push(FieldError::not_supported(&path.child(key), value, supported));
    }
}

/// A string that is one of `supported`, if it is there.
pub(crate) fn one_of_if_set(object: &Value, key: &str, supported: &[&str], path: &Path, errors: &mut Errors) {
    if let Some(value) = tree::get(object, key).and_then(Value::as_str)
        && !supported.contains(&value)
    {
        errors.push(FieldError::not_supported(&path.child(key), value, supported));
    }
}

/// A string that may not be empty.
pub(crate) fn required_text(object: &Value, key: &str, path: &Path, errors: &mut Errors) -> bool {
    let missing = text(object, key).is_empty();
    if missing {
        errors.push(FieldError::required(&path.child(key), ""));
    }
    !missing
}

/// A number that is not negative, if it is there.
pub(crate) fn nonnegative(object: &Value, key: &str, path: &Path, errors: &mut Errors) {
    if let Some(value) = number(object, key).filter(|value| *value < 0) {
        errors.push(FieldError::invalid(&path.child(key), value, NEGATIVE));
    }
}

/// A number within bounds, if it is there.
pub(crate) fn within(object: &Value, key: &str, bounds: (i64, i64), path: &Path, errors: &mut Errors) {
    if let Some(value) = number(object, key).filter(|value| *value < bounds.0 || *value > bounds.1) {
        errors.push(FieldError::invalid(&path.child(key), value, between(bounds.0, bounds.1)));
    }
}

/// A file mode, if it is there.
pub(crate) fn file_mode(object: &Value, key: &str, path: &Path, errors: &mut Errors) {
    if let Some(mode) = number(object, key).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.push(FieldError::invalid(&path.child(key), mode, FILE_MODE));
    }
}

/// A user or group id, if it is there.
pub(crate) fn id(value: Option<i64>, path: &Path, errors: &mut Errors) {
    if let Some(id) = value.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        errors.push(FieldError::invalid(path, id, between(0, i64::from(i32::MAX))));
    }
}

/// A port number.
pub(crate) fn port_number(port: i64, path: &Path, errors: &mut Errors) {
    errors
        .extend(names::port_number(port).into_iter().map(|message| FieldError::invalid(path, port, message)));
}

/// A port by number or by name; an absent one is the number zero.
pub(crate) fn port(value: Option<&Value>, path: &Path, errors: &mut Errors) {
    match value.and_then(Value::as_str) {
        Some(port_name) => messages(names::port_name(port_name), port_name, path, errors),
        None => port_number(value.and_then(Value::as_i64).unwrap_or(0), path, errors),
    }
}

/// A field that may not change.
pub(crate) fn immutable(new: &Value, old: &Value, key: &str, path: &Path, errors: &mut Errors) {
    if !tree::same(new, old, key) {
        let value = new.get(key).cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path.child(key), value, IMMUTABLE));
    }
}

/// A name by the rules of `rule`, if it is there.
pub(crate) fn name_if_set(
    object: &Value,
    key: &str,
    rule: fn(&str) -> Vec<String>,
    path: &Path,
    errors: &mut Errors,
) {
    let value = text(object, key);
    if !value.is_empty() {
        messages(rule(value), value, &path.child(key), errors);
    }
}

/// A name by the rules of `rule`, if the field is there; an empty one is there, too.
pub(crate) fn name_if_present(
    object: &Value,
    key: &str,
    rule: fn(&str) -> Vec<String>,
    path: &Path,
    errors: &mut Errors,
) {
    if let Some(value) = tree::get(object, key).and_then(Value::as_str) {
        messages(rule(value), value, &path.child(key), errors);
    }
}

/// A label's or taint's key.
pub(crate) fn label_name(key: &str, path: &Path, errors: &mut Errors) {
    messages(names::qualified_name(key), key, path, errors);
}

/// A map of labels in field `key`.
pub(crate) fn labels(object: &Value, key: &str, path: &Path, errors: &mut Errors) {
    let path = path.child(key);
    for (label, value) in entries(object, key) {
        label_name(label, &path, errors);
        let value = value.as_str().unwrap_or_default();
        messages(names::label_value(value), value, &path, errors);
    }
}

/// The annotations of `metadata`.
pub(crate) fn annotations(metadata: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("annotations");
    let mut bytes = 0;
    for (key, value) in entries(metadata, "annotations") {
        messages(names::qualified_name(&key.to_lowercase()), key, &path, errors);
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_ANNOTATION_BYTES {
        errors.push(FieldError::too_long(&path, MAX_ANNOTATION_BYTES));
    }
}

/// Annotations that a user gives to something else than an object: their keys have a domain.
pub(crate) fn user_annotations<'a>(
    annotations: impl Iterator<Item = (&'a str, &'a Value)>,
    path: &Path,
    errors: &mut Errors,
) {
    let mut bytes = 0;
    for (key, value) in annotations {
        domain_prefixed_key(&key.to_lowercase(), path, errors);
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_ANNOTATION_BYTES {
        errors.push(FieldError::too_long(path, MAX_ANNOTATION_BYTES));
    }
}

/// A label's key that has a domain: `example.com/key`.
fn domain_prefixed_key(key: &str, path: &Path, errors: &mut Errors) {
    if key.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let problems = names::qualified_name(key);
    if problems.is_empty() && !key.contains('/') {
        let detail = "must be a domain-prefixed key (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, key, detail));
    }
    messages(problems, key, path, errors);
}

/// An IP address in its one form: no leading zeros, and no IPv4 in the form of IPv6.
pub(crate) fn ip(address: &str, path: &Path, errors: &mut Errors) {
    errors.extend(names::ip(path, address, true));
}

/// An IP address in its one form, unless it is among those that the object had before there was one.
pub(crate) fn ip_or_known(address: &str, known: &[&str], path: &Path, errors: &mut Errors) {
    if !known.contains(&address) {
        ip(address, path, errors);
    }
}

/// A network in CIDR notation, in its one form: like an address, and without bits behind the prefix.
pub(crate) fn cidr(network: &str, path: &Path, errors: &mut Errors) {
    errors.extend(names::cidr(path, network, true));
}

/// A network in its one form, unless it is among those that the object had before there was one.
pub(crate) fn cidr_or_known(network: &str, known: &[&str], path: &Path, errors: &mut Errors) {
    if !known.contains(&network) {
        cidr(network, path, errors);
    }
}

/// An address that other hosts can use: not unspecified, loopback or link-local.
pub(crate) fn non_special_ip(text: &str, path: &Path, errors: &mut Errors) {
    let Some(address) = parse_ip(text) else {
        errors.push(FieldError::invalid(path, text, "must be a valid IP address"));
        return;
    };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    };
    let link_local_multicast = match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    };
    let problems = [
        (address.is_unspecified(), format!("may not be unspecified ({text})")),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    let found = problems.into_iter().filter(|(is_so, _)| *is_so);
    errors.extend(found.map(|(_, message)| FieldError::invalid(path, text, message)));
}

/// Whether a list of addresses has exactly both families.
pub(crate) fn is_dual_stack(addresses: &[&str]) -> bool {
    let families: Vec<_> =
        addresses.iter().filter_map(|text| parse_ip(text)).map(|ip| ip.is_ipv4()).collect();
    families.contains(&true) && families.contains(&false)
}

/// Errors for all but one of equal items; `key` tells items apart.
pub(crate) fn duplicates<'a>(items: impl IntoIterator<Item = (Path, &'a str)>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (path, item) in items {
        if seen.contains(&item) {
            errors.push(FieldError::duplicate(&path, item));
        }
        seen.push(item);
    }
}

/// A path without `..`.
pub(crate) fn no_backsteps(target: &str, path: &Path, errors: &mut Errors) {
    if target.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, target, "must not contain '..'"));
    }
}

/// A relative path that stays below where it starts.
pub(crate) fn descending_path(target: &str, path: &Path, errors: &mut Errors) {
    if target.starts_with('/') {
        errors.push(FieldError::invalid(path, target, "must be a relative path"));
    }
    no_backsteps(target, path, errors);
}

/// A descending path whose first part does not begin with two dots, which the kubelet reserves.
pub(crate) fn non_reserved_path(target: &str, path: &Path, errors: &mut Errors) {
    descending_path(target, path, errors);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.push(FieldError::invalid(path, target, "must not start with '..'"));
    }
}

/// Whether the text is a percentage such as `25%`.
pub(crate) fn is_percent(text: &str) -> bool {
    text.strip_suffix('%')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The number of an int-or-percent: what stands before the percent sign, or the number itself.
pub(crate) fn int_or_percent(value: &Value) -> i64 {
    match value.as_str() {
        // Text that is no number has been refused by then.
        Some(text) => text.trim_end_matches('%').parse().unwrap_or(0),
        None => value.as_i64().unwrap_or(0),
    }
}

/// A number that is not negative, or a percentage.
pub(crate) fn positive_int_or_percent(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(text) => messages(names::percent(text), text, path, errors),
        Value::Number(count) if count.as_i64().is_none_or(|count| count < 0) => {
            errors.push(FieldError::invalid(path, value.clone(), NEGATIVE));
        }
        _ => {}
    }
}

/// A percentage of at most a hundred; a plain number passes.
pub(crate) fn at_most_100_percent(value: &Value, path: &Path, errors: &mut Errors) {
    if value.as_str().is_some_and(is_percent) && int_or_percent(value) > 100 {
        errors.push(FieldError::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}

/// Replica counts of a status: none negative, none above `replicas`, available ones at most the ready ones.
pub(crate) fn replica_counts(status: &Value, counts: &[&str], path: &Path, errors: &mut Errors) {
    let all = tree::count(status, "replicas");
    for key in ["observedGeneration", "replicas"].iter().chain(counts) {
        nonnegative(status, key, path, errors);
    }
    for key in counts {
        let some = tree::count(status, key);
        if some > all {
            errors.push(FieldError::invalid(
                &path.child(key),
                some,
                "cannot be greater than status.replicas",
            ));
        }
    }
    let available = tree::count(status, "availableReplicas");
    if available > tree::count(status, "readyReplicas") {
        let path = path.child("availableReplicas");
        errors.push(FieldError::invalid(&path, available, MORE_THAN_READY));
    }
}

/// References that say what a binding or claim points to, each with a name.
pub(crate) fn each_text<'a>(object: &'a Value, key: &str, path: &Path) -> Vec<(Path, &'a str)> {
    let path = path.child(key);
    let items = list(object, key).iter().enumerate();
    items.map(|(index, item)| (path.index(index), item.as_str().unwrap_or_default())).collect()
}
