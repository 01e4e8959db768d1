//! The pod spec: what a Pod, and every kind with a pod template, is defaulted by and checked by. It knows what a pod may say,
//! not how it runs.

mod annotation;
mod container;
mod defaults;
mod dns;
mod env;
mod iscsi;
mod mount;
mod pod_resources;
mod probe;
mod profile_match;
mod projected;
mod projected_certificates;
mod scheduling;
mod security;
mod spec;
mod volume;
mod windows;

pub(crate) use annotation::{
    APP_ARMOR, MIRROR, SECCOMP_CONTAINER, SECCOMP_POD, validate as validate_annotations,
};
pub(crate) use container::trimmed_image;
pub(crate) use defaults::{default_pod, default_spec, default_volume_source, mirror_service_account};
pub(crate) use iscsi::validate_persistent as validate_persistent_iscsi;
pub(crate) use profile_match::{sync as sync_app_armor, validate as validate_profiles_match};
pub(crate) use scheduling::{node_selector, taints, tolerations};
pub(crate) use spec::{Owner, each_container, validate_spec, whole};
pub(crate) use volume::{
    LONG_ISCSI, check_source as check_volume_source, csi_driver, is_long_iscsi, shown as shown_source,
};

use crate::check::{self, Errors};
use crate::label_selector;
use crate::tree::{get, list, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// Fills the defaults of a template in `object.spec.template`.
pub(crate) fn default_template(object: &mut Value) {
    crate::tree::with(object, "spec", |spec| {
        crate::tree::with(spec, "template", |template| default_spec(crate::tree::child(template, "spec")));
    });
}

/// Checks a template: labels, annotations and spec.
pub(crate) fn validate(template: &Value, path: &Path, errors: &mut Errors) {
    let (metadata, spec) = (&template["metadata"], &template["spec"]);
    validate_metadata(template, path, errors);
    let spec_path = path.child("spec");
    validate_spec(spec, Owner::Template, &spec_path, errors);
    validate_profiles_match(metadata, spec, &spec_path, errors);
    if !list(spec, "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&spec_path.child("ephemeralContainers"), detail));
    }
}

/// Checks that a selector, which may be missing, finds the pods of a template; `path` is the template's.
pub(crate) fn validate_selected(
    template: &Value,
    selector: Option<&Value>,
    path: &Path,
    errors: &mut Errors,
) {
    let labels = &template["metadata"]["labels"];
    // An empty selector has an error of its own; one that is missing finds nothing.
    if !selector.is_some_and(|selector| label_selector::matches(selector, labels)) {
        let path = path.child("metadata").child("labels");
        let detail = "`selector` does not match template `labels`";
        errors.push(match labels.as_object() {
            Some(_) => FieldError::invalid(&path, labels.clone(), detail),
            None => check::wrong(&path, &format!("null: {detail}")),
        });
    }
}

/// Checks that the pods of a template, whose spec is at `path`, restart and run without end.
pub(crate) fn validate_endless(spec: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let restart_policy = text(spec, "restartPolicy");
    if restart_policy != "Always" {
        errors.push(FieldError::not_supported(&path.child("restartPolicy"), restart_policy, &["Always"]));
    }
    if get(spec, "activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&path.child("activeDeadlineSeconds"), detail));
    }
}

/// Checks the template of a controller that keeps pods running: its labels satisfy the selector, and its pods restart.
pub(crate) fn validate_for_replicas(
    template: &Value,
    selector: Option<&Value>,
    kind: &str,
    path: &Path,
    errors: &mut Errors,
) {
    validate_selected(template, selector, path, errors);
    validate(template, path, errors);
    validate_endless(&template["spec"], kind, &path.child("spec"), errors);
}

/// Checks the metadata of a template and nothing of its pods, whose volumes are not known before each has its claims.
pub(crate) fn validate_metadata(template: &Value, path: &Path, errors: &mut Errors) {
    let metadata = &template["metadata"];
    check::labels(metadata, "labels", path, errors);
    check::annotations(metadata, path, errors);
    validate_annotations(metadata, &template["spec"], &path.child("annotations"), errors);
}
