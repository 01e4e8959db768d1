//! The kinds of the group coordination.k8s.io.

pub(crate) mod lease;
pub(crate) mod lease_candidate;

use crate::check::{Errors, messages};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;

const GROUP: &str = "coordination.k8s.io";

/// How a holder is chosen: in a way that Kubernetes knows, or in one with a domain. Upstream names the field twice.
fn strategy(strategy: &str, path: &Path, errors: &mut Errors) {
    const KNOWN: &[&str] = &["OldestEmulationVersion"];
    let path = path.child("strategy");
    if strategy.contains('/') {
        messages(names::qualified_name(strategy), strategy, &path, errors);
    } else if !KNOWN.contains(&strategy) {
        errors.push(FieldError::not_supported(&path, strategy, KNOWN));
    }
}
