//! Groups that belong to the Kubernetes community: definitions in them say where they were approved. What is made of the answer is
//! not known here.

use serde_json::Value;

/// The annotation that says it.
pub const ANNOTATION: &str = "api-approved.kubernetes.io";
const PROPOSAL: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What the annotation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// A URL.
    Approved,
    /// That it was not approved.
    Bypassed,
    /// Nothing.
    Missing,
    /// Something else.
    Invalid,
}

/// Whether definitions in this group need the annotation.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|own| group.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// Reads the annotation of a definition; the text explains the state.
pub fn approval(definition: &Value) -> (Approval, String) {
    let annotation = definition["metadata"]["annotations"][ANNOTATION].as_str().unwrap_or_default();
    let needed = format!("protected groups must have approval annotation \"{ANNOTATION}\"");
    if annotation.is_empty() {
        return (Approval::Missing, format!("{needed}, {PROPOSAL}"));
    }
    if annotation.starts_with("unapproved") {
        return (Approval::Bypassed, format!("not approved: {annotation:?}"));
    }
    if is_url(annotation) {
        return (Approval::Approved, format!("approved in {annotation}"));
    }
    let text = format!("{needed} with either a URL or a reason starting with \"unapproved\", {PROPOSAL}");
    (Approval::Invalid, text)
}

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let scheme_is_one = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    scheme_is_one && !host.is_empty() && !text.contains(|c: char| c.is_ascii_control() || c == ' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn community_groups_are_protected() {
        for group in ["k8s.io", "x.k8s.io", "kubernetes.io", "a.b.kubernetes.io"] {
            assert!(is_protected(group), "{group}");
        }
        for group in ["example.com", "myk8s.io", "k8s.io.example.com"] {
            assert!(!is_protected(group), "{group}");
        }
    }

    #[test]
    fn the_annotation_is_read() {
        let check = |annotation: &str, expected: Approval, text: &str| {
            let definition = json!({"metadata": {"annotations": {ANNOTATION: annotation}}});
            assert_eq!(approval(&definition), (expected, text.to_owned()));
        };
        check(
            "https://github.com/x/y/pull/1",
            Approval::Approved,
            "approved in https://github.com/x/y/pull/1",
        );
        check("unapproved, experimental", Approval::Bypassed, "not approved: \"unapproved, experimental\"");
        check(
            "",
            Approval::Missing,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        );
        check(
            "sure",
            Approval::Invalid,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
        );
    }
}
