//! StorageVersionMigration: asks that all objects of a resource be written again, in the form in which they are stored now.

use crate::check::{self, Errors};
use crate::conditions;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind, tracked_without_metadata};
use crate::name;
use crate::runtime_config::RuntimeConfig;
use crate::table::{self, string};
use crate::tree::{list, text};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

pub(crate) struct StorageVersionMigration(Descriptor);

pub(crate) fn kind(config: &RuntimeConfig) -> StorageVersionMigration {
    let plural = "storageversionmigrations";
    let descriptor = describe("storagemigration.k8s.io", "v1", "StorageVersionMigration", plural);
    StorageVersionMigration(descriptor.cluster_scoped().also(config, "v1beta1").status().done())
}

impl Kind for StorageVersionMigration {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn tracked(&self, subresource: &str) -> Filter {
        tracked_without_metadata(subresource)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (resource, path) = (&object["spec"]["resource"], Path::new("spec").child("resource"));
        let mut joined = |key: &str, problems: Vec<String>| {
            if !problems.is_empty() {
                let error = FieldError::invalid(&path.child(key), text(resource, key), problems.join(","));
                errors.push(error);
            }
        };
        if !text(resource, "group").is_empty() {
            joined("group", names::dns1123_subdomain(text(resource, "group")));
        }
        if text(resource, "resource").is_empty() {
            errors.push(FieldError::required(&path.child("resource"), "resource is required to be set"));
        } else {
            joined("resource", names::dns1035_label(text(resource, "resource")));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        check::immutable(new, old, "spec", &Path::root(), &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        validate_status(&new["status"], &old["status"])
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![string("Name", "The name of the migration."), string("Resource", "What is to be written again.")]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        let resource = &object["spec"]["resource"];
        let (group, resource) = (text(resource, "group"), text(resource, "resource"));
        let shown = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        vec![table::name_cell(object), shown.into()]
    }
}

fn validate_status(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("status");
    let (version, before) = (text(new, "resourceVersion"), text(old, "resourceVersion"));
    let version_path = path.child("resourceVersion");
    if !version.is_empty() && version.parse::<u64>().is_err() {
        let detail = format!("resource version is not well formed: {version}");
        errors.push(FieldError::invalid(&version_path, version, detail));
    }
    if !before.is_empty() && version != before {
        errors.push(FieldError::invalid(&version_path, version, check::IMMUTABLE));
    }
    let path = path.child("conditions");
    conditions::validate(new, &path, &mut errors);
    let shown = || list(new, "conditions").to_vec();
    if conditions::is_true(new, "Succeeded") && conditions::is_true(new, "Failed") {
        let detail = "Both success and failed conditions cannot be true at the same time";
        errors.push(FieldError::invalid(&path, shown(), detail));
    }
    for (type_, word) in [("Succeeded", "Success"), ("Failed", "Failed")] {
        if conditions::is_true(old, type_) && !conditions::is_true(new, type_) {
            let detail = format!("{word} condition cannot be set to false once it is true");
            errors.push(FieldError::invalid(&path, shown(), detail));
        }
    }
    errors
}
