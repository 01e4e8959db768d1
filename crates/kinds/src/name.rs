//! The rules that names of objects follow. `prefix` asks about a `generateName`, whose end is checked as if the generated
//! part stood there already. It knows no kind.

use nauplius_meta::names::{self, masked_prefix};

fn with_prefix(name: &str, prefix: bool, rule: fn(&str) -> Vec<String>) -> Vec<String> {
    if prefix { rule(&masked_prefix(name)) } else { rule(name) }
}

/// A DNS subdomain: what most kinds ask.
pub(crate) fn subdomain(name: &str, prefix: bool) -> Vec<String> {
    with_prefix(name, prefix, names::dns1123_subdomain)
}

/// A DNS label, as namespaces and services are named.
pub(crate) fn label(name: &str, prefix: bool) -> Vec<String> {
    with_prefix(name, prefix, names::dns1123_label)
}

/// Anything that can stand in a path, as roles are named.
pub(crate) fn path_segment(name: &str, _prefix: bool) -> Vec<String> {
    names::path_segment(name)
}
