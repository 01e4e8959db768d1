//! Which level of security a namespace asks for: what its labels say of refusing and of warning.

use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;
use std::fmt;

const PREFIX: &str = "pod-security.kubernetes.io/";
/// What may be set: refusals, notes for the audit, warnings.
const MODES: [&str; 3] = ["enforce", "audit", "warn"];
const WRONG_VERSION: &str = "must be \"latest\" or \"v1.x\"";

/// How much pods may do, the least strict first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Everything.
    Privileged,
    /// What is not known to lead out of the pod.
    Baseline,
    /// What hardened pods need.
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

/// A level as a release of Kubernetes defined it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    /// The minor version; none is the latest.
    pub(super) minor: Option<u32>,
}

impl Standard {
    /// Whether it is of that minor version or a later one.
    pub(super) fn since(self, minor: u32) -> bool {
        self.minor.is_none_or(|own| own >= minor)
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            Some(minor) => write!(formatter, "{level}:v1.{minor}"),
            None => write!(formatter, "{level}:latest"),
        }
    }
}

/// What a namespace asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) warn: Standard,
}

fn parse_version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let minor = text.strip_prefix("v1.")?;
    let is_number = minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
    if is_number { minor.parse().ok().map(Some) } else { None }
}

fn label<'a>(labels: &'a Value, mode: &str, suffix: &str) -> Option<&'a str> {
    labels.get(format!("{PREFIX}{mode}{suffix}")).and_then(Value::as_str)
}

/// One mode. A level that is none is the strictest, so that a slip of the pen opens nothing.
fn standard(labels: &Value, mode: &str) -> Standard {
    let unknown = if mode == "enforce" { Level::Restricted } else { Level::Privileged };
    let level =
        label(labels, mode, "").map_or(Level::Privileged, |text| Level::parse(text).unwrap_or(unknown));
    let minor = label(labels, mode, "-version").and_then(parse_version).flatten();
    Standard { level, minor }
}

impl Policy {
    /// The policy of a namespace with these labels. Who is refused without being told of warnings is warned of the same.
    pub(super) fn of(labels: &Value) -> Self {
        let (enforce, warn) = (standard(labels, "enforce"), standard(labels, "warn"));
        let is_silent = label(labels, "enforce", "").is_some() && label(labels, "warn", "").is_none();
        let warn = if is_silent && enforce.level > warn.level { enforce } else { warn };
        Self { enforce, warn }
    }
}

/// Labels that say nothing that is known.
pub(super) fn mistakes(labels: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata").child("labels");
    let mut errors = Vec::new();
    for mode in MODES {
        if let Some(level) = label(labels, mode, "").filter(|level| Level::parse(level).is_none()) {
            let detail = "must be one of privileged, baseline, restricted";
            errors.push(FieldError::invalid(&path.key(&format!("{PREFIX}{mode}")), level, detail));
        }
        let version = label(labels, mode, "-version").filter(|version| parse_version(version).is_none());
        if let Some(version) = version {
            let path = path.key(&format!("{PREFIX}{mode}-version"));
            errors.push(FieldError::invalid(&path, version, WRONG_VERSION));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_make_a_policy() {
        let check = |labels: Value, enforce: &str, warn: &str| {
            let policy = Policy::of(&labels);
            assert_eq!(
                (policy.enforce.to_string(), policy.warn.to_string()),
                (enforce.to_owned(), warn.to_owned())
            );
        };
        check(Value::Null, "privileged:latest", "privileged:latest");
        check(
            json!({"pod-security.kubernetes.io/enforce": "baseline"}),
            "baseline:latest",
            "baseline:latest",
        );
        check(
            json!({
                "pod-security.kubernetes.io/enforce": "tight",
                "pod-security.kubernetes.io/enforce-version": "v1.24",
                "pod-security.kubernetes.io/warn": "privileged",
            }),
            "restricted:v1.24",
            "privileged:latest",
        );
    }

    #[test]
    fn mistakes_are_named() {
        let labels = json!({"pod-security.kubernetes.io/enforce": "tight", "pod-security.kubernetes.io/warn-version": "v2"});
        let texts: Vec<_> = mistakes(&labels).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"tight\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v2\": must be \"latest\" or \"v1.x\"",
            ]
        );
    }
}
