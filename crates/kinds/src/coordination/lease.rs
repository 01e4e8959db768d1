//! Lease: who holds something, and until when to believe it.

use super::lease_candidate;
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Descriptor, Kind};
use crate::runtime_config::RuntimeConfig;
use crate::tree::{get, is_unset, number, text};
use crate::{name, table};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct Lease {
    descriptor: Descriptor,
    /// Whether holders may be chosen among candidates (`CoordinatedLeaderElection`): only where there can be candidates.
    has_candidates: bool,
}

pub(crate) fn kind(config: &RuntimeConfig) -> Lease {
    let descriptor = describe(super::GROUP, "v1", "Lease", "leases").done();
    Lease { descriptor, has_candidates: lease_candidate::is_served(config) }
}

impl Kind for Lease {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        let fields: &[&[&'static str]] = &[&["strategy"], &["preferredHolder"]];
        if self.has_candidates { Vec::new() } else { gates::below(&["spec"], fields) }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        if let Some(seconds) = number(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
            let path = path.child("leaseDurationSeconds");
            errors.push(FieldError::invalid(&path, seconds, "must be greater than 0"));
        }
        check::nonnegative(spec, "leaseTransitions", &path, &mut errors);
        if get(spec, "strategy").is_some() {
            super::strategy(text(spec, "strategy"), &path.child("strategy"), &mut errors);
        }
        if !is_unset(spec, "preferredHolder") && is_unset(spec, "strategy") {
            let detail = "may only be specified if `strategy` is defined";
            errors.push(FieldError::forbidden(&path.child("preferredHolder"), detail));
        }
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::string("Holder", "Who holds it."), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let holder = get(object, "spec").map_or("", |spec| text(spec, "holderIdentity"));
        vec![table::name_cell(object), holder.into(), table::age_cell(object, now_s)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{creation, row, updated};
    use serde_json::json;

    #[test]
    fn numbers_make_sense() {
        let bad = json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}});
        let expected = [
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
        ];
        creation(&kind(&RuntimeConfig::default()), bad.clone(), &expected);
        updated(&kind(&RuntimeConfig::default()), &json!({}), bad, &expected);
    }

    #[test]
    fn a_holder_is_chosen_only_among_candidates() {
        let chosen = json!({"spec": {"strategy": "OldestEmulationVersion", "preferredHolder": "a"}});
        let mut lease = chosen.clone();
        crate::drop_gated(&kind(&RuntimeConfig::default()), &mut lease, None);
        assert_eq!(lease, json!({"spec": {}}));
        let mut lease = chosen.clone();
        crate::drop_gated(&kind(&RuntimeConfig::parse("api/beta=true").unwrap()), &mut lease, None);
        assert_eq!(lease, chosen);
    }

    #[test]
    fn the_row_shows_the_holder() {
        row(
            &kind(&RuntimeConfig::default()),
            json!({"spec": {"holderIdentity": "a"}}),
            json!(["x", "a", "75s"]),
        );
    }
}
