//! PodGroup: pods that are scheduled together. Beta, so off unless it is asked for, which here turns its feature gate on, too.

use super::group::{GROUP, disruption_and_priority, drop_gated, immutable, policy, required_name};
use crate::check::Errors;
use crate::conditions;
use crate::describe::describe;
use crate::kind::{Column, Context, Descriptor, Kind, carry, keep_metadata, tracked_without_metadata};
use crate::runtime_config::RuntimeConfig;
use crate::tree::{child, default, get, list, remove, set, text};
use crate::{name, table};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

const PLURAL: &str = "podgroups";
/// Behind the gate `CompositePodGroup`.
const PARENT: &str = "parentCompositePodGroupName";

pub(crate) struct PodGroup(Descriptor);

/// The kind, if it is to be served.
pub(crate) fn kind(config: &RuntimeConfig) -> Option<PodGroup> {
    let descriptor = || describe(GROUP, "v1beta1", "PodGroup", PLURAL).defaults(set_defaults).status().done();
    config.serves(GROUP, "v1beta1", PLURAL).then(|| PodGroup(descriptor()))
}

fn set_defaults(object: &mut Value) {
    default(child(object, "spec"), "disruptionMode", json!({"single": {}}));
}

impl Kind for PodGroup {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        set(object, "status", json!({}));
        drop_gated(child(object, "spec"), None, &[PARENT]);
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "status");
        drop_gated(child(new, "spec"), Some(&old["spec"]), &[PARENT]);
    }

    fn prepare_subresource_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "spec");
        keep_metadata(new, old);
        if list(&old["spec"], "resourceClaims").is_empty() {
            remove(child(new, "status"), "resourceClaimStatuses");
        }
    }

    fn tracked(&self, subresource: &str) -> Filter {
        tracked_without_metadata(subresource)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        spec(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        spec(new, Some(old))
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("status");
        conditions::validate(&new["status"], &path.child("conditions"), &mut errors);
        claim_statuses(new, &path.child("resourceClaimStatuses"), &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::created_at()]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        vec![table::name_cell(object), table::created_at_cell(object)]
    }
}

fn spec(object: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let old = old.map(|old| &old["spec"]);
    if immutable(spec, old, "workloadRef", &path, &mut errors)
        && let Some(reference) = get(spec, "workloadRef")
    {
        let path = path.child("workloadRef");
        required_name(reference, "workloadName", names::dns1123_subdomain, &path, &mut errors);
        required_name(reference, "templateName", names::dns1123_label, &path, &mut errors);
    }
    policy(spec, old, &path, &mut errors);
    disruption_and_priority(spec, old, &path, &mut errors);
    errors
}

fn claim_statuses(object: &Value, path: &Path, errors: &mut Errors) {
    let claims: Vec<_> =
        list(&object["spec"], "resourceClaims").iter().map(|claim| text(claim, "name")).collect();
    for (index, status) in list(&object["status"], "resourceClaimStatuses").iter().enumerate() {
        let name = text(status, "name");
        if !claims.contains(&name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(FieldError::invalid(&path.index(index).child("name"), name, detail));
        }
    }
}
