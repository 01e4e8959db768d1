//! CustomResourceDefinition: what it defaults, forbids and keeps. Naming, serving and ending the resource are others' tasks.

use super::approval::{ANNOTATION, Approval, approval, is_protected};
use super::{conversion, is_condition_true, names, versions};
use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Context, Descriptor, Kind, carry, keep_content, put, tracked_without_metadata};
use crate::tree::{child, equal, flag, get, list, number, set, text, texts, with};
use crate::{name, table};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names::dns1123_subdomain;
use nauplius_meta::normalize;
use nauplius_meta::schema::lookup_type;
use serde_json::{Value, json};

const IMMUTABLE: &str = "field is immutable";
const SCOPES: &[&str] = &["Cluster", "Namespaced"];

pub(crate) struct CustomResourceDefinition(Descriptor);

pub(crate) fn kind() -> CustomResourceDefinition {
    let group = "apiextensions.k8s.io";
    let descriptor = describe(group, "v1", "CustomResourceDefinition", "customresourcedefinitions")
        .cluster_scoped()
        .short(&["crd", "crds"])
        .categories(&["api-extensions"]);
    CustomResourceDefinition(descriptor.defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    with(object, "spec", |spec| {
        let names = child(spec, "names");
        let kind = text(names, "kind").to_owned();
        if text(names, "singular").is_empty() {
            set(names, "singular", kind.to_lowercase());
        }
        if text(names, "listKind").is_empty() && !kind.is_empty() {
            set(names, "listKind", format!("{kind}List"));
        }
        if get(spec, "conversion").is_none() {
            set(spec, "conversion", json!({"strategy": "None"}));
        }
        default_port(spec);
    });
    let storage = storage_version(object).map(str::to_owned);
    let status = child(object, "status");
    if let Some(storage) = storage.filter(|_| list(status, "storedVersions").is_empty()) {
        set(status, "storedVersions", json!([storage]));
    }
}

fn default_port(spec: &mut Value) {
    with(&mut spec["conversion"], "webhook", |webhook| {
        with(webhook, "clientConfig", |client| {
            with(client, "service", |service| {
                if number(service, "port").is_none() {
                    set(service, "port", 443);
                }
            });
        });
    });
}

/// The version that objects are stored in.
pub fn storage_version(definition: &Value) -> Option<&str> {
    let versions = list(&definition["spec"], "versions").iter();
    versions.filter(|version| flag(version, "storage")).map(|version| text(version, "name")).next()
}

/// The storage version is among those in which objects may be stored.
fn note_storage_version(object: &mut Value) {
    let Some(storage) = storage_version(object).map(str::to_owned) else { return };
    let status = child(object, "status");
    let mut stored: Vec<String> = texts(status, "storedVersions").into_iter().map(str::to_owned).collect();
    if !stored.contains(&storage) {
        stored.push(storage);
        set(status, "storedVersions", json!(stored));
    }
}

/// The fields of a status that are always written.
fn complete_status(object: &mut Value) {
    if let Some(ty) = lookup_type("apiextensions/v1", "CustomResourceDefinitionStatus") {
        normalize::fill(child(object, "status"), ty);
    }
}

impl Kind for CustomResourceDefinition {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        set(object, "status", json!({}));
        note_storage_version(object);
        complete_status(object);
        put(&mut object["metadata"], "generation", Some(1.into()));
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "status");
        note_storage_version(new);
        let mut generation = number(&old["metadata"], "generation").unwrap_or(0);
        if !equal(&new["spec"], &old["spec"]) {
            generation += 1;
        }
        put(&mut new["metadata"], "generation", Some(generation.into()));
    }

    /// Upstream resets metadata to itself here: what removes its finalizer writes the status.
    fn prepare_subresource_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        keep_content(new, old);
        carry(&mut new["metadata"], &old["metadata"], "generation");
    }

    fn tracked(&self, subresource: &str) -> Filter {
        tracked_without_metadata(subresource)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check_name(object, &mut errors);
        check_spec(&object["spec"], false, &Path::new("spec"), &mut errors);
        check_status(object, &mut errors);
        check_stored_versions(object, &mut errors);
        check_approval(object, None, &mut errors);
        check_pruning(object, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("spec");
        let had_sound_bundle = !conversion::has_broken_bundle(&old["spec"]["conversion"]);
        let sound_bundle = is_condition_true(old, "Established") && had_sound_bundle;
        check_spec(&new["spec"], sound_bundle, &path, &mut errors);
        let (spec, old_spec) = (&new["spec"], &old["spec"]);
        let mut immutable = |spec: &Value, old: &Value, key: &str, path: &Path| {
            if text(spec, key) != text(old, key) {
                errors.push(FieldError::invalid(&path.child(key), text(spec, key), IMMUTABLE));
            }
        };
        let names_path = path.child("names");
        if is_condition_true(old, "Established") {
            immutable(spec, old_spec, "scope", &path);
            immutable(&spec["names"], &old_spec["names"], "kind", &names_path);
        }
        immutable(spec, old_spec, "group", &path);
        immutable(&spec["names"], &old_spec["names"], "plural", &names_path);
        check_status(new, &mut errors);
        check_stored_versions(new, &mut errors);
        check_approval(new, Some(old), &mut errors);
        check_pruning(new, &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check_status(new, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::created_at()]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        vec![table::name_cell(object), table::created_at_cell(object)]
    }
}

fn check_name(object: &Value, errors: &mut Errors) {
    let (spec, name) = (&object["spec"], text(&object["metadata"], "name"));
    if name != format!("{}.{}", text(&spec["names"], "plural"), text(spec, "group")) {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
    }
}

fn check_spec(spec: &Value, sound_bundle: bool, path: &Path, errors: &mut Errors) {
    check_group(text(spec, "group"), &path.child("group"), errors);
    let scope = text(spec, "scope");
    if scope.is_empty() {
        errors.push(FieldError::required(&path.child("scope"), ""));
    } else if !SCOPES.contains(&scope) {
        errors.push(FieldError::not_supported(&path.child("scope"), scope, SCOPES));
    }
    versions::check_each(spec, path, errors);
    let names_path = path.child("names");
    names::required(&spec["names"], &names_path, errors);
    names::check(&spec["names"], &names_path, errors);
    versions::check_common(spec, path, errors);
    if let Some(how) = get(spec, "conversion") {
        conversion::check(how, sound_bundle, &path.child("conversion"), errors);
    }
}

fn check_pruning(object: &Value, errors: &mut Errors) {
    if flag(&object["spec"], "preserveUnknownFields") {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&Path::new("spec").child("preserveUnknownFields"), true, detail));
    }
}

fn check_group(group: &str, path: &Path, errors: &mut Errors) {
    let problems = dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !problems.is_empty() {
        errors.push(FieldError::invalid(path, group, problems.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(path, group, "should be a domain with at least one dot"));
    }
}

fn check_status(object: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("acceptedNames");
    names::check(&object["status"]["acceptedNames"], &path, errors);
}

/// Every version in which objects may be stored is there still, and the one in which they are is among them.
fn check_stored_versions(object: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("storedVersions");
    let stored = texts(&object["status"], "storedVersions");
    if stored.is_empty() {
        errors.push(FieldError::invalid(&path, json!([]), "must have at least one stored version"));
        return;
    }
    let versions = list(&object["spec"], "versions");
    for version in versions.iter().filter(|version| flag(version, "storage")) {
        let name = text(version, "name");
        if !stored.contains(&name) {
            let detail = format!("must have the storage version {name}");
            errors.push(FieldError::invalid(&path, json!(stored), detail));
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| text(version, "name") == *name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a \
                 storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path.index(index), *name, detail));
        }
    }
}

fn check_approval(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let group = text(&new["spec"], "group");
    let (state, reason) = approval(new);
    if !is_protected(group) || old.is_some_and(|old| approval(old).0 == state) {
        return;
    }
    let path = Path::new("metadata").child("annotations").key(ANNOTATION);
    match state {
        Approval::Approved | Approval::Bypassed => {}
        Approval::Missing => errors.push(FieldError::required(&path, reason)),
        Approval::Invalid => {
            let value = new["metadata"]["annotations"][ANNOTATION].clone();
            errors.push(FieldError::invalid(&path, value, reason));
        }
    }
}

#[cfg(test)]
mod tests;
