//! Labels of nodes that have a newer name.

use super::Warnings;
use crate::tree::{entries, list, text};
use nauplius_meta::field::Path;
use serde_json::Value;

const OLD: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];

/// What is said of a label, if it is an old one.
pub(crate) fn deprecated(label: &str) -> Option<&'static str> {
    OLD.iter().find(|(old, _)| *old == label).map(|(_, words)| *words)
}

/// Warns of old labels in a term of a node selector, or in the expressions of a label selector.
pub(crate) fn of_term(term: &Value, path: &Path, warnings: &mut Warnings) {
    for (index, expression) in list(term, "matchExpressions").iter().enumerate() {
        let key = text(expression, "key");
        if let Some(words) = deprecated(key) {
            let path = path.child("matchExpressions").index(index).child("key");
            warnings.push(format!("{path}: {key} is {words}"));
        }
    }
}

/// Warns of old labels in a label selector that selects nodes.
pub(crate) fn of_selector(selector: &Value, path: &Path, warnings: &mut Warnings) {
    of_term(selector, path, warnings);
    for (label, _) in entries(selector, "matchLabels") {
        if let Some(words) = deprecated(label) {
            warnings.push(format!("{}: {words}", path.child("matchLabels").child(label)));
        }
    }
}
