//! Names in a pod: its resolver's configuration and the lines added to its hosts file.

use crate::check::{self, Errors, each_text, messages};
use crate::tree::{get, list, text, texts};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

/// The limits of libc's resolver.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCH_PATHS: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// Checks `dnsConfig` and that policy `None` has one.
pub(super) fn config(spec: &Value, path: &Path, errors: &mut Errors) {
    let config = get(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        let Some(config) = config else {
            errors.push(FieldError::required(path, "must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        };
        if list(config, "nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(FieldError::required(&path.child("nameservers"), detail));
            return;
        }
    }
    let Some(config) = config else { return };
    nameservers(config, path, errors);
    searches(config, path, errors);
    for (index, option) in list(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.push(FieldError::required(&path.child("options").index(index), "must not be empty"));
        }
    }
}

fn nameservers(config: &Value, path: &Path, errors: &mut Errors) {
    let servers = each_text(config, "nameservers", path);
    if servers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.push(FieldError::invalid(&path.child("nameservers"), config["nameservers"].clone(), detail));
    }
    for (path, server) in servers {
        check::ip(server, &path, errors);
    }
}

fn searches(config: &Value, path: &Path, errors: &mut Errors) {
    let searches = texts(config, "searches");
    let path = path.child("searches");
    if searches.len() > MAX_SEARCH_PATHS {
        let detail = format!("must not have more than {MAX_SEARCH_PATHS} search paths");
        errors.push(FieldError::invalid(&path, config["searches"].clone(), detail));
    }
    if searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        let detail = format!(
            "must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(&path, config["searches"].clone(), detail));
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| **search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        messages(subdomain_with_underscores(search), search, &path.index(index), errors);
    }
}

fn subdomain_with_underscores(value: &str) -> Vec<String> {
    if names::dns1123_subdomain(&value.replace('_', "a")).is_empty() {
        return Vec::new();
    }
    const MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                           and must start and end with an alphanumeric character";
    const LABEL: &str = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    vec![names::regex_error(MESSAGE, &format!("{LABEL}(\\.{LABEL})*"), &["example.com"])]
}

/// Checks `hostAliases`.
pub(super) fn host_aliases(spec: &Value, path: &Path, errors: &mut Errors) {
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        let path = path.index(index);
        check::ip(text(alias, "ip"), &path.child("ip"), errors);
        for (path, hostname) in each_text(alias, "hostnames", &path) {
            messages(names::dns1123_subdomain(hostname), hostname, &path, errors);
        }
    }
}
