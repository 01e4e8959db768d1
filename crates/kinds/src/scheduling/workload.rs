//! Workload: the templates of the pod groups of one application. Beta, so off unless it is asked for, which here turns its
//! feature gate on, too. Groups of groups are behind a gate of their own that is off, and dropped.

use super::group::{GROUP, disruption_and_priority, drop_gated, immutable, policy, required_name, union};
use crate::check::{Errors, messages};
use crate::describe::describe;
use crate::kind::{Column, Context, Descriptor, Kind};
use crate::runtime_config::RuntimeConfig;
use crate::tree::{child, each, get, list, number, remove, text};
use crate::{name, table};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const PLURAL: &str = "workloads";
const TEMPLATES: &str = "podGroupTemplates";
const COMPOSITES: &str = "compositePodGroupTemplates";
const MAX_TEMPLATES: usize = 8;

pub(crate) struct Workload(Descriptor);

/// The kind, if it is to be served.
pub(crate) fn kind(config: &RuntimeConfig) -> Option<Workload> {
    let is_served = config.serves(GROUP, "v1beta1", PLURAL);
    is_served.then(|| Workload(describe(GROUP, "v1beta1", "Workload", PLURAL).done()))
}

impl Kind for Workload {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        let spec = child(object, "spec");
        remove(spec, COMPOSITES);
        each(spec, TEMPLATES, |template| drop_gated(template, None, &[]));
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        let (spec, old) = (child(new, "spec"), &old["spec"]);
        if list(old, COMPOSITES).is_empty() {
            remove(spec, COMPOSITES);
        }
        each(spec, TEMPLATES, |template| {
            let before = find(old, text(template, "name")).cloned();
            drop_gated(template, before.as_ref(), &[]);
        });
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate(&object["spec"], None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate(&new["spec"], Some(&old["spec"]))
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

/// The template of that name.
fn find<'a>(spec: &'a Value, name: &str) -> Option<&'a Value> {
    list(spec, TEMPLATES).iter().find(|template| text(template, "name") == name)
}

fn validate(spec: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    if !have_one_priority(spec) {
        errors.push(FieldError::invalid(&path, Value::Null, "detected multiple priority configurations"));
    }
    union(spec, old, [TEMPLATES, COMPOSITES], &path, &mut errors);
    if immutable(spec, old, "controllerRef", &path, &mut errors)
        && let Some(reference) = get(spec, "controllerRef")
    {
        controller(reference, &path.child("controllerRef"), &mut errors);
    }
    templates(spec, old, &path.child(TEMPLATES), &mut errors);
    errors
}

/// All templates are of the same importance.
fn have_one_priority(spec: &Value) -> bool {
    let mut priorities = list(spec, TEMPLATES)
        .iter()
        .map(|template| (text(template, "priorityClassName"), number(template, "priority")));
    let first = priorities.next();
    priorities.all(|other| Some(other) == first)
}

fn controller(reference: &Value, path: &Path, errors: &mut Errors) {
    let group = text(reference, "apiGroup");
    if !group.is_empty() {
        messages(names::dns1123_subdomain(group), group, &path.child("apiGroup"), errors);
    }
    required_name(reference, "kind", names::path_segment, path, errors);
    required_name(reference, "name", names::path_segment, path, errors);
}

/// Templates neither come nor go once the workload is there.
fn templates(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    let all = list(spec, TEMPLATES);
    if all.len() > MAX_TEMPLATES {
        errors.push(FieldError::too_many(path, all.len(), MAX_TEMPLATES));
        return;
    }
    let mut seen = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let (path, name) = (path.index(index), text(one, "name"));
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path, one.clone()));
        }
        seen.push(name);
        let before = old.map(|old| find(old, name));
        if before == Some(None) {
            errors.push(FieldError::forbidden(&path, "item may not be added"));
        }
        template(one, before.flatten(), &path, errors);
    }
    for gone in old.into_iter().flat_map(|old| list(old, TEMPLATES)) {
        if !seen.contains(&text(gone, "name")) {
            errors.push(FieldError::forbidden(path, "item may not be removed"));
        }
    }
}

fn template(new: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    if old.is_none() {
        required_name(new, "name", names::dns1123_label, path, errors);
    }
    policy(new, old, path, errors);
    disruption_and_priority(new, old, path, errors);
}
