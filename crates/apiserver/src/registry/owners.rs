//! Owner references that stand in an object twice are kept once, and the client is told.

use crate::warning::Warnings;
use nauplius_meta::object;
use serde_json::Value;

/// When duplicates were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// In what the client sent.
    Sent,
    /// In what admission, or a patch, made of it.
    Admitted,
}

/// Keeps the first of equal references.
pub(super) fn deduplicate(object: &mut Value, when: When, warnings: &Warnings) {
    let references = object::get_array(object, &["metadata", "ownerReferences"]);
    let mut kept: Vec<Value> = Vec::with_capacity(references.len());
    let mut dropped = Vec::new();
    for reference in references {
        if kept.contains(reference) {
            dropped.push(object::get_str(reference, &["uid"]).to_owned());
        } else {
            kept.push(reference.clone());
        }
    }
    if dropped.is_empty() {
        return;
    }
    let after = match when {
        When::Sent => "",
        When::Admitted => " after mutating admission happens",
    };
    warnings.add(format!(
        ".metadata.ownerReferences contains duplicate entries{after}; API server dedups owner references in 1.20+, and may \
         reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        dropped.join(", ")
    ));
    object::set_metadata(object, "ownerReferences", kept);
}
