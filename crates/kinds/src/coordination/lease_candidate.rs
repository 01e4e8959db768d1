//! LeaseCandidate: who would hold a lease, and which version it speaks. Beta, so off unless it is asked for.

use super::{GROUP, strategy};
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::runtime_config::RuntimeConfig;
use crate::table::{self, string};
use crate::tree::text;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const PLURAL: &str = "leasecandidates";

pub(crate) struct LeaseCandidate(Descriptor);

/// The kind, if any version of it is to be served.
pub(crate) fn kind(config: &RuntimeConfig) -> Option<LeaseCandidate> {
    is_served(config)
        .then(|| LeaseCandidate(describe(GROUP, "v1beta1", "LeaseCandidate", PLURAL).aged().done()))
}

/// Whether there can be candidates.
pub(super) fn is_served(config: &RuntimeConfig) -> bool {
    config.serves(GROUP, "v1beta1", PLURAL)
}

impl Kind for LeaseCandidate {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        check::required_text(spec, "leaseName", &path, &mut errors);
        let emulated = version(spec, "emulationVersion", &path, &mut errors);
        check::required_text(spec, "binaryVersion", &path, &mut errors);
        let binary = version(spec, "binaryVersion", &path, &mut errors);
        let both_set = !text(spec, "binaryVersion").is_empty() && !text(spec, "emulationVersion").is_empty();
        if both_set && binary < emulated {
            let detail = "must be greater than or equal to `emulationVersion`";
            let value = text(spec, "binaryVersion");
            errors.push(FieldError::invalid(&path.child("binaryVersion"), value, detail));
        }
        if check::required_text(spec, "strategy", &path, &mut errors) {
            if text(spec, "strategy") == "OldestEmulationVersion" && emulated == ZERO {
                let detail = "must be specified when `strategy` is 'OldestEmulationVersion'";
                errors.push(FieldError::required(&path.child("emulationVersion"), detail));
            }
            strategy(text(spec, "strategy"), &path.child("strategy"), &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        check::immutable(&new["spec"], &old["spec"], "leaseName", &Path::new("spec"), &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::config_map_key(name)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("LeaseName", "The lease that it would hold."),
            string("BinaryVersion", "The version of its program."),
            string("EmulationVersion", "The version that it speaks."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        vec![
            table::name_cell(object),
            text(spec, "leaseName").into(),
            text(spec, "binaryVersion").into(),
            text(spec, "emulationVersion").into(),
            table::age_cell(object, now_s),
        ]
    }
}

/// The numbers of a semantic version. What comes before a release is told apart from it, and not from others of its kind.
type Version = ([u64; 3], bool);
/// What is no version counts as this one.
const ZERO: Version = ([0; 3], true);

/// The version of a field; where it is none, that is said, and it counts as nothing.
fn version(spec: &Value, key: &str, path: &Path, errors: &mut Errors) -> Version {
    let own = text(spec, key);
    if own.is_empty() {
        return ZERO;
    }
    parse(own).unwrap_or_else(|| {
        errors.push(FieldError::invalid(&path.child(key), own, "must be a valid semantic version"));
        ZERO
    })
}

fn parse(text: &str) -> Option<Version> {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (numbers, before) = text.split_once('-').map_or((text, None), |(text, before)| (text, Some(before)));
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let words = [build, before].into_iter().flatten().flat_map(|words| words.split('.'));
    if !words.into_iter().all(is_word) {
        return None;
    }
    let parts: Vec<&str> = numbers.split('.').collect();
    let [major, minor, patch] = parts[..] else { return None };
    let number = |part: &str| {
        let is_number = part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
        if is_number { part.parse().ok() } else { None }
    };
    Some(([number(major)?, number(minor)?, number(patch)?], before.is_none()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn versions_are_ordered() {
        assert!(parse("1.37.0-alpha.1") < parse("1.37.0"));
        assert!(parse("1.9.0") < parse("1.10.0"));
        for text in ["1.2", "v1.2.3", "01.2.3", "1.2.3-", "1.2.3+a_b", "1.2.x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
